"""The planner's interface: a sample in, a plan out."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping

from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import Plan, PlannerSample


class PlannerBackend(abc.ABC):
    """One model on one runtime. `load` before `plan`; every method from one thread at a time."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @abc.abstractmethod
    def load(self) -> None:
        """Read weights, build engines. Raises ModelError naming what is missing and the remedy."""

    def warm_up(self) -> None:  # noqa: B027 (optional)
        """Do now what would otherwise make the first plan late."""

    @abc.abstractmethod
    def plan(self, sample: PlannerSample) -> Plan:
        """Plan from one sample; `stage_ms` of the plan holds the backend's own stages."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Give back memory and devices."""


def timed_plan(backend: PlannerBackend, sample: PlannerSample) -> tuple[Plan, Mapping[str, float]]:
    """A plan and its stages; `model`, the whole call, is added for every backend alike."""
    start = time.perf_counter()
    plan = backend.plan(sample)
    model_ms = (time.perf_counter() - start) * 1e3
    return plan, {**plan.stage_ms, "model": model_ms}
