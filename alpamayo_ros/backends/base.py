"""The planner's interface: a sample in, a plan out."""

from __future__ import annotations

import abc
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import (
    Answer,
    CameraFrame,
    LateReasoning,
    Plan,
    PlannerSample,
    ReasoningSource,
    Resize,
)


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """Whether a model is there to plan, for diagnostics."""

    isolation: str = "thread"  # or "process"
    is_ready: bool = True
    pid: int = 0  # of its process; 0 where it has none
    starts: int = 0  # of processes so far
    last_fault: str = ""  # why the last process was lost, and what helps
    last_fault_age_s: float = 0.0


class PlannerBackend(abc.ABC):
    """One model on one runtime. `load` before `plan`; every method from one thread at a time."""

    # The filter that the model was trained with; None: ours, see `images.to_model_size`. It is
    # called from decoding threads.
    resize: Resize | None = None
    # Whether it reads a model's own reasoning by the table of parameter `chain_of_causation`: it is
    # handed the table's path as an option of that name.
    reads_reasoning = True
    # Whether it is large or foreign enough to be kept in a process of its own, see isolation/.
    wants_process = False
    # How many frames `foresee` takes at a time; 0: nothing of a plan can be done before it is due.
    foresight = 0

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @abc.abstractmethod
    def load(self) -> None:
        """Read weights, build engines. Raises ModelError naming what is missing and the remedy."""

    def warm_up(self, cameras: Sequence[str]) -> None:  # noqa: B027 (optional)
        """Do now, for these cameras, what would otherwise make the first plan late."""

    def forget(self) -> None:  # noqa: B027 (optional)
        """The next sample is of another drive: what earlier ones left must not decide its plan."""

    def foresee(self, frames: Sequence[CameraFrame]) -> None:  # noqa: B027 (optional)
        """Do now what a coming plan would do with these frames: it is the same plan, sooner.

        `foresight` of them, in no particular order; no plan need ever ask for them.
        """

    @abc.abstractmethod
    def plan(self, sample: PlannerSample) -> Plan:
        """Plan from one sample; `stage_ms` of the plan holds the backend's own stages."""

    def ask(self, sample: PlannerSample, question: str) -> Generator[None, None, Answer]:
        """Answer a question about one instant, in steps between which a plan may go first.

        Raises ModelError where the model does not answer questions, or not this one.
        """
        raise ModelError(f"model {self.manifest.name} plans and does not answer questions")

    def reason(self) -> Generator[None, None, LateReasoning]:
        """The reasoning to the newest plan that has `reasoning_follows`, in steps between which
        plans may be made. Raises ModelError where there is none."""
        raise ModelError(f"model {self.manifest.name} has nothing more to say about its plans")

    def health(self) -> ModelHealth:
        """Whether it is there to plan. From any thread."""
        return ModelHealth()

    def abort(self) -> bool:
        """Break off the call under way, and plan no more; False where that cannot be done.

        From any thread.
        """
        return False

    def close(self) -> None:  # noqa: B027 (optional)
        """Give back memory and devices."""


def with_reasoning(backend: PlannerBackend, plan: Plan) -> Plan:
    """The newest plan with the reasoning that it did not wait for: where nobody drives by it."""
    if not plan.reasoning_follows:
        return plan
    steps = backend.reason()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            late: LateReasoning = end.value
            break
    if late.t0_ns != plan.t0_ns:
        raise ValueError(f"the reasoning is of t0 {late.t0_ns}, the plan of {plan.t0_ns}")
    return replace(
        plan,
        reasoning=late.stated.reasoning,
        reasoning_source=ReasoningSource.MODEL,
        decisions=late.stated.decisions,
        critical_components=late.stated.critical_components,
        candidates_stated=(),
        reasoning_follows=False,
    )


def timed_plan(backend: PlannerBackend, sample: PlannerSample) -> tuple[Plan, Mapping[str, float]]:
    """A plan and its stages; `model`, the whole call, is added for every backend alike."""
    start = time.perf_counter()
    plan = backend.plan(sample)
    model_ms = (time.perf_counter() - start) * 1e3
    return plan, {**plan.stage_ms, "model": model_ms}
