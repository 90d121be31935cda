"""planner_node with a model that hangs, or runs out of memory, when a file says so.

Run as a script in its place.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
from planner_with_test_backends import _TestBackend

from alpamayo_ros.backends.registry import BACKENDS
from alpamayo_ros.types import Plan, PlannerSample


class HangingBackend(_TestBackend):
    """Hangs in one plan where the file of option `hangs_by` is there, and takes it away."""

    def plan(self, sample: PlannerSample) -> Plan:
        trigger = Path(str(self.manifest.options["hangs_by"]))
        if trigger.exists():
            trigger.unlink()
            time.sleep(3600)
        return super().plan(sample)


class GreedyBackend(_TestBackend):
    """Wants 1 GB more than its process may have where the file of option `starves_by` is there."""

    def plan(self, sample: PlannerSample) -> Plan:
        if Path(str(self.manifest.options["starves_by"])).exists():
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), most))
            try:
                np.ones(1 << 27)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return super().plan(sample)


BACKENDS["greedy"] = "planner_with_failing_backends:GreedyBackend"
BACKENDS["hanging"] = "planner_with_failing_backends:HangingBackend"

if __name__ == "__main__":
    from alpamayo_ros.ros.planner_node import main

    sys.exit(main())
