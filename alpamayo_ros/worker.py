"""Selections to plans, off the callback path: one at a time, the newest first, the rest dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from alpamayo_ros.backends.base import PlannerBackend, timed_plan
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.types import Plan, PlannerSample, Rejection, RejectionReason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one selection: a plan and its sample, or a rejection."""

    selection: Selection
    sample: PlannerSample | None = None
    plan: Plan | None = None
    rejection: Rejection | None = None
    unreadable: UnreadableFrame | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)


def run(backend: PlannerBackend, selection: Selection) -> Outcome:
    """Decode and plan one selection; whatever goes wrong becomes a rejection."""
    start = time.perf_counter()
    try:
        sample = materialise(selection)
    except UnreadableFrame as error:
        rejection = Rejection(
            RejectionReason.IMAGE_UNREADABLE,
            error.slot.camera,
            due_ns=selection.due_ns,
            detail=error.reason,
        )
        return Outcome(selection, rejection=rejection, unreadable=error)
    except Exception as error:  # frames of different sizes; the thread must outlive it
        return Outcome(selection, rejection=_failed(selection, error))
    decode_ms = (time.perf_counter() - start) * 1e3
    try:
        plan, stages = timed_plan(backend, sample)
        if plan.t0_ns != sample.t0_ns:
            raise ValueError(f"the plan is of t0 {plan.t0_ns}, the sample of {sample.t0_ns}")
    except Exception as error:  # a model may raise anything; the vehicle must hear of it
        return Outcome(selection, sample, rejection=_failed(selection, error))
    return Outcome(selection, sample, plan, stage_ms={"decode": decode_ms, **stages})


def _failed(selection: Selection, error: Exception) -> Rejection:
    return Rejection(
        RejectionReason.PLANNER_FAILED,
        "planner",
        due_ns=selection.due_ns,
        detail=f"{type(error).__name__}: {error}",
    )


class InferenceWorker:
    """A thread with one slot. `on_done` is called on it: hand over to the executor there."""

    def __init__(self, backend: PlannerBackend, on_done: Callable[[Outcome], None]) -> None:
        self._backend = backend
        self._on_done = on_done
        self._waiting: Selection | None = None
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="planner", daemon=True)
        self._thread.start()

    def submit(self, selection: Selection) -> Selection | None:
        """Queue a selection; the one that it pushes out of the slot, if any, is returned."""
        with self._wake:
            dropped, self._waiting = self._waiting, selection
            self._wake.notify()
        return dropped

    def clear(self) -> None:
        """Forget what waits; what runs goes on, and its outcome is still handed over."""
        with self._wake:
            self._waiting = None

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stop after the plan in progress; False where that took longer than `timeout_s`."""
        with self._wake:
            self._closed, self._waiting = True, None
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while self._waiting is None and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                selection, self._waiting = self._waiting, None
            assert selection is not None
            self._on_done(run(self._backend, selection))
