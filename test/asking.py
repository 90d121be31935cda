"""A backend that answers as a test says, and questions asked of its worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from test_worker import SELECTIONS, WAIT_S, Outcomes, Scripted, good

from alpamayo_ros.questions import AskResult
from alpamayo_ros.types import Answer, Plan, PlannerSample
from alpamayo_ros.worker import InferenceWorker

Work = Generator[None, None, Any]


class Asked(Scripted):
    """The kinematic planner that answers as `work` says; notes what it does, in order."""

    def __init__(self, work: Callable[[PlannerSample, str], Work], then: Any = good) -> None:
        super().__init__(then)
        self._work = work
        self.done: list[str] = []
        self.asked_of: list[int] = []
        self.closed = 0

    def plan(self, sample: PlannerSample) -> Plan:
        """As scripted."""
        self.done.append("plan")
        return super().plan(sample)

    def ask(self, sample: PlannerSample, question: str) -> Work:
        """As scripted, with each step noted."""
        self.asked_of.append(sample.t0_ns)
        work = self._work(sample, question)
        try:
            while True:
                try:
                    next(work)
                except StopIteration as stop:
                    return stop.value
                self.done.append("step")
                yield
        finally:
            work.close()
            self.closed += 1


def answer(sample: PlannerSample, question: str) -> Answer:
    """The question, repeated."""
    return Answer(sample.t0_ns, question, "mine", {})


def at_once(sample: PlannerSample, question: str) -> Work:
    """In three steps."""
    for _ in range(3):
        yield
    return answer(sample, question)


def endless(sample: PlannerSample, question: str) -> Work:
    """Never."""
    while True:
        time.sleep(0.001)
        yield


class Asking:
    """A question asked in a thread of its own."""

    def __init__(self, worker: InferenceWorker, text: str = "why?", timeout_s: float = 60) -> None:
        self.result: AskResult | None = None
        self._worker, self._text, self._timeout_s = worker, text, timeout_s
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        self.result = self._worker.ask(self._text, self._timeout_s)

    def wait(self) -> AskResult:
        """Its result."""
        self._thread.join(WAIT_S)
        assert self.result is not None
        return self.result


def planned_once(backend: Asked) -> tuple[InferenceWorker, Outcomes]:
    """A worker that has planned one sample."""
    outcomes = Outcomes()
    worker = InferenceWorker(backend, outcomes)
    worker.submit(SELECTIONS[-1])
    outcomes.wait_for(1)
    return worker, outcomes


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
