"""planner_node with a model that hangs when a file says so. Run as a script in its place."""

from __future__ import annotations

import sys
import time
from pathlib import Path

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


BACKENDS["hanging"] = "planner_with_failing_backends:HangingBackend"

if __name__ == "__main__":
    from alpamayo_ros.ros.planner_node import main

    sys.exit(main())
