"""Selections to plans, off the callback path: one at a time, the newest first, the rest dropped.

Between plans the same thread looks at frames to come and answers questions, step by step: a model
serves one caller at a time.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from alpamayo_ros.afterthought import Afterthought
from alpamayo_ros.backends.base import PlannerBackend, timed_plan, with_reasoning
from alpamayo_ros.foresight import Foresight
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.model_text import TextRefused
from alpamayo_ros.questions import BUSY, AskResult, Question, check_question
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.types import (
    CameraFrame,
    LateReasoning,
    Plan,
    PlannerSample,
    Rejection,
    RejectionReason,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one selection: a plan and its sample, or a rejection.

    `selection` is the one planned from: without the cameras that proved useless.
    """

    selection: Selection
    sample: PlannerSample | None = None
    plan: Plan | None = None
    rejection: Rejection | None = None
    unreadable: UnreadableFrame | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)


def run(
    backend: PlannerBackend,
    selection: Selection,
    judge: CameraJudge | None = None,
    whole: bool = True,
) -> Outcome:
    """Decode and plan one selection; whatever goes wrong becomes a rejection.

    `judge` says which cameras show nothing, and what to do then; without it all that decode do.
    `whole` waits for a reasoning that the plan did not wait for.
    """
    start = time.perf_counter()
    unreadable: UnreadableFrame | None = None
    try:
        if judge is not None:
            checked = judge.without_faulty(selection)
            if isinstance(checked, Rejection):
                return Outcome(selection, rejection=checked)
            selection, unreadable = checked
        sample = materialise(selection)
    except UnreadableFrame as error:
        rejection = error.rejection(selection.due_ns)
        return Outcome(selection, rejection=rejection, unreadable=error)
    except Exception as error:  # frames of different sizes; the thread must outlive it
        return Outcome(selection, rejection=_failed(selection, error))
    decode_ms = (time.perf_counter() - start) * 1e3
    try:
        plan, stages = timed_plan(backend, sample)
        if plan.t0_ns != sample.t0_ns:
            raise ValueError(f"the plan is of t0 {plan.t0_ns}, the sample of {sample.t0_ns}")
        if whole:
            plan = with_reasoning(backend, plan)
    except Exception as error:  # a model may raise anything; the vehicle must hear of it
        return Outcome(selection, sample, None, _failed(selection, error), unreadable)
    return Outcome(selection, sample, plan, None, unreadable, {"decode": decode_ms, **stages})


def _failed(selection: Selection, error: Exception) -> Rejection:
    detail = f"{type(error).__name__}: {error}"
    # PyTorch's own is a RuntimeError, and this module knows no PyTorch.
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        detail += "; free memory on its device: fewer samples or tokens, a smaller dtype or model"
    return Rejection(
        RejectionReason.PLANNER_FAILED, "planner", due_ns=selection.due_ns, detail=detail
    )


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class InferenceWorker:
    """A thread with one slot for a selection, which always comes first.

    Frames to come are second, a call of the encoder at a time: they are the next plan's own work,
    and no more come than cameras send. A question is third, in one slot. A reasoning that its plan
    did not wait for is last, a step at a time while nothing else waits: it is finished however many
    plans are made meanwhile, then that to the newest begins.

    `on_done` and `on_reasoned` are called on the thread: hand over to the executor there. What they
    raise goes to `on_fault` as a text, and the thread goes on. The backend is closed when the
    thread ends, so that its memory comes back even where a last plan outlasts `close`.
    """

    def __init__(
        self,
        backend: PlannerBackend,
        on_done: Callable[[Outcome], None],
        on_fault: Callable[[str], None] = _to_stderr,
        judge: CameraJudge | None = None,
        on_reasoned: Callable[[LateReasoning], None] = lambda late: None,
    ) -> None:
        self._backend, self._judge = backend, judge
        self._on_done, self._on_fault = on_done, on_fault
        self._late = Afterthought(backend, on_reasoned, on_fault)
        self._ahead = Foresight(backend, on_fault)
        self._waiting: Selection | None = None
        self._question: Question | None = None
        self._newest: PlannerSample | None = None  # the last sample that was complete
        self._epoch = 0  # rises with each `clear`: samples from before are of another time
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

    def foresee(self, frame: CameraFrame) -> None:
        """A frame likely to be selected: looked at before, while nothing is due. From any thread.

        Where the backend has no foresight nothing is done.
        """
        if self._ahead.put(frame):
            with self._wake:
                self._wake.notify()

    def ask(self, question: str, timeout_s: float) -> AskResult:
        """Ask of the newest sample, and wait. From any thread but the worker's own.

        Steps are taken while no selection waits; one question at a time, a second is refused as
        busy at once. An answer that takes longer than `timeout_s` is given up.
        """
        try:
            asked = Question(check_question(question))
        except TextRefused as error:
            return AskResult(None, str(error))
        with self._wake:
            if self._closed:
                return AskResult(None, "the planner is shutting down")
            if self._question is not None:
                return AskResult(None, BUSY)
            self._question = asked
            self._wake.notify()
        result = asked.wait(timeout_s)
        with self._wake:
            self._wake.notify()  # where it was given up, the thread has it to clear away
        return result

    def clear(self, reason: str = "the planner was stopped") -> None:
        """Forget what waits and what was seen, and fail the question under way for `reason`.

        The plan in the making goes on, and its outcome is still handed over.
        """
        with self._wake:
            self._forget(reason)
            self._wake.notify()

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stop after the plan or step in progress; False where it took longer than `timeout_s`.

        One that takes longer is broken off where the backend can be.
        """
        with self._wake:
            self._closed = True
            self._forget("the planner is shutting down")
            self._wake.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._backend.abort():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _forget(self, reason: str) -> None:
        self._waiting = self._newest = None
        self._ahead.clear()
        self._epoch += 1
        if self._question is not None:
            self._question.fail(reason)

    @property
    def alive(self) -> bool:
        """Whether the thread, and with it the model, is still there."""
        return self._thread.is_alive()

    @property
    def _has_work(self) -> bool:
        asked = self._waiting is not None or self._question is not None
        return asked or self._ahead.pending or self._late.pending

    def _loop(self) -> None:
        try:
            self._serve()
        finally:
            self._backend.close()

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._late.keep(self._epoch)
                while not (self._has_work or self._closed):
                    self._wake.wait()
                    self._late.keep(self._epoch)
                selection, self._waiting = self._waiting, None
                question, newest = self._question, self._newest
                epoch, closed = self._epoch, self._closed
            if question is not None and question.done:
                question.close()
                with self._wake:
                    self._question = None
            elif closed:
                self._late.drop()
                return
            elif selection is None and self._ahead.pending:
                self._ahead.step()
            elif question is not None and selection is None:
                question.step(self._backend, newest)
            elif selection is None and self._late.pending:
                self._late.step()
            if selection is not None:
                self._plan(selection, epoch)

    def _plan(self, selection: Selection, epoch: int) -> None:
        outcome = run(self._backend, selection, self._judge, whole=False)
        foresight_ms = self._ahead.planned(outcome.selection)
        if foresight_ms:  # it was spent before the tick, and is in no latency
            stages = {**outcome.stage_ms, "foresight": foresight_ms}
            outcome = replace(outcome, stage_ms=stages)
        if outcome.plan is not None and outcome.plan.reasoning_follows:
            self._late.expect(epoch)
        with self._wake:
            if outcome.sample is not None and epoch == self._epoch:
                self._newest = outcome.sample
        try:
            self._on_done(outcome)
        except Exception:  # the next plan may go well, and without the thread there is none
            self._on_fault(f"a plan was not handed over:\n{traceback.format_exc()}")
