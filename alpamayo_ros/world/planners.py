"""Who plans in the closed loop: the expert, which knows the world, or a model, which sees it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import DEFAULT_CAMERAS, Plan, PlannerSample, Rejection
from alpamayo_ros.world import expert
from alpamayo_ros.world.simulation import Simulation


class LoopPlanner(Protocol):
    """Plans one instant of one simulation."""

    needs_sample: bool
    needs_images: bool

    def plan(self, t0_ns: int, sample: PlannerSample | Rejection | None) -> Plan | None:
        """The plan stamped t0; None where there is none. `sample` is None if not needed."""


class ExpertPlanner:
    """Needs no sensor."""

    needs_sample = needs_images = False

    def __init__(self, simulation: Simulation) -> None:
        self._expert = expert.Expert(simulation)

    def plan(self, t0_ns: int, sample: PlannerSample | Rejection | None = None) -> Plan | None:
        """The expert's own."""
        return self._expert.label(t0_ns).plan


class ModelPlanner:
    """A loaded backend. What the node would refuse is no plan here either."""

    needs_sample = True

    def __init__(self, backend: PlannerBackend) -> None:
        self._backend = backend
        self.needs_images = backend.manifest.uses_images

    def plan(self, t0_ns: int, sample: PlannerSample | Rejection | None) -> Plan | None:
        """The backend's; None of a rejected sample."""
        return self._backend.plan(sample) if isinstance(sample, PlannerSample) else None


def load_model(
    model: str, options: Mapping[str, Any] = MappingProxyType({})
) -> PlannerBackend | None:
    """A loaded backend, or None for the expert. Raises ModelError."""
    if model == expert.NAME:
        if options:
            raise ModelError(f"the expert has no options such as {', '.join(options)}")
        return None
    backend = create_backend(model, options=options)
    if not backend.manifest.cameras.minimum <= 4 <= backend.manifest.cameras.maximum:
        raise ModelError(f"the world has 4 cameras, which model {model} does not take")
    backend.load()
    backend.warm_up(DEFAULT_CAMERAS)
    return backend


def planner_for(backend: PlannerBackend | None, simulation: Simulation) -> LoopPlanner:
    """The planner of one drive."""
    return ExpertPlanner(simulation) if backend is None else ModelPlanner(backend)
