"""The worker: the newest sample wins, and whatever goes wrong becomes a rejection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulate import frame, good_drive, kinematic_manifest, pipeline, play, selections

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import (
    Decisions,
    ImageError,
    LateReasoning,
    Plan,
    PlannerSample,
    ReasoningSource,
    RejectionReason,
    Stated,
)
from alpamayo_ros.worker import InferenceWorker, Outcome, run

REASON = RejectionReason
SELECTIONS = selections(play(pipeline(), good_drive(3.0)))
WAIT_S = 10.0  # for what takes milliseconds


class Scripted(PlannerBackend):
    """The kinematic planner, with something done to its samples or plans."""

    def __init__(self, then: Callable[[PlannerSample, Plan], Any]) -> None:
        super().__init__(kinematic_manifest())
        self._kinematic = KinematicBackend(self.manifest)
        self._kinematic.load()
        self._then = then

    def load(self) -> None:
        """Nothing to load."""

    def plan(self, sample: PlannerSample) -> Plan:
        """What `then` makes of the sample and its plan."""
        plan: Plan = self._then(sample, self._kinematic.plan(sample))
        return plan


def good(_: PlannerSample, plan: Plan) -> Plan:
    """The plan as it is."""
    return plan


def fails(_: PlannerSample, plan: Plan) -> Plan:
    """As a model that has run out of memory."""
    raise MemoryError("no memory for the cache")


def not_finite(_: PlannerSample, plan: Plan) -> Plan:
    """A NaN among the poses."""
    xyz = plan.xyz_in_rig_t0.copy()
    xyz[13, 1] = np.nan
    return replace(plan, xyz_in_rig_t0=xyz)


def too_short(_: PlannerSample, plan: Plan) -> Plan:
    """63 poses."""
    return replace(plan, xyz_in_rig_t0=plan.xyz_in_rig_t0[:63])


def stale(_: PlannerSample, plan: Plan) -> Plan:
    """The plan of another instant."""
    return replace(plan, t0_ns=plan.t0_ns - 100_000_000)


def nothing(_: PlannerSample, plan: Plan) -> Any:
    """No plan."""
    return None


class Thoughtful(Scripted):
    """Its plans do not wait for their reasoning, which takes three steps."""

    def __init__(self, then: Callable[[PlannerSample, Plan], Any] = good) -> None:
        super().__init__(then)
        self.given_up = 0

    def plan(self, sample: PlannerSample) -> Plan:
        plan = replace(super().plan(sample), reasoning_follows=True)
        self._t0_ns = plan.t0_ns
        return plan

    def reason(self) -> Generator[None, None, LateReasoning]:
        t0_ns = self._t0_ns
        try:
            for _ in range(2):
                yield
        except GeneratorExit:
            self.given_up += 1
            raise
        stated = Stated("to keep distance", Decisions("follow lead", "none"))
        return LateReasoning(t0_ns, stated, "thoughtful", {})


def test_a_plan_with_its_sample_and_timings() -> None:
    """decode and model are timed; the plan is of the sample."""
    outcome = run(Scripted(good), SELECTIONS[-1])
    assert outcome.rejection is None and outcome.plan is not None and outcome.sample is not None
    assert outcome.plan.t0_ns == outcome.sample.t0_ns == SELECTIONS[-1].t0_ns
    assert set(outcome.stage_ms) == {"decode", "model"}
    assert all(0 <= duration < 10_000 for duration in outcome.stage_ms.values())


@pytest.mark.parametrize(
    ("then", "said"),
    (
        (fails, "MemoryError: no memory for the cache"),
        (not_finite, "xyz_in_rig_t0 has 1 values that are not finite"),
        (too_short, "xyz_in_rig_t0 has shape (63, 3), wanted (64, 3)"),
        (stale, "the plan is of t0"),
        (nothing, "NoneType"),
    ),
)
def test_a_backend_that_fails(then: Callable[[PlannerSample, Plan], Any], said: str) -> None:
    """PLANNER_FAILED with the error, for the tick that it failed on; no plan."""
    outcome = run(Scripted(then), SELECTIONS[-1])
    assert outcome.plan is None and outcome.rejection is not None
    assert outcome.rejection.reason is REASON.PLANNER_FAILED
    assert outcome.rejection.due_ns == SELECTIONS[-1].due_ns > 0
    assert said in outcome.rejection.detail


def spoilt(load: Callable[[], Any]) -> Selection:
    """A selection whose second camera's third frame loads like this."""
    selection = SELECTIONS[-1]
    rows = [list(row) for row in selection.slots]
    old = rows[1][2]
    rows[1][2] = frame(old.camera, old.stamp_ns, load)
    return replace(selection, slots=tuple(tuple(row) for row in rows))


@pytest.mark.parametrize("error", (ImageError("truncated"), RuntimeError("truncated")))
def test_an_unreadable_frame(error: Exception) -> None:
    """IMAGE_UNREADABLE names the camera and gives the frame to discard, whatever was raised."""

    def load() -> Any:
        raise error

    selection = spoilt(load)
    outcome = run(Scripted(good), selection)
    assert outcome.rejection is not None and outcome.unreadable is not None
    assert outcome.rejection.reason is REASON.IMAGE_UNREADABLE
    assert outcome.rejection.source == selection.slots[1][2].camera == "front_wide"
    assert "truncated" in outcome.rejection.detail
    assert outcome.unreadable.slot is selection.slots[1][2]
    assert outcome.rejection.due_ns == selection.due_ns


def test_frames_of_different_sizes() -> None:
    """Cannot be one array: refused, and the worker's thread outlives it."""
    outcome = run(Scripted(good), spoilt(lambda: np.zeros((4, 4, 3), np.uint8)))
    assert outcome.plan is None and outcome.rejection is not None
    assert outcome.rejection.reason is REASON.PLANNER_FAILED


class Gate:
    """A backend's plan that waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, _: PlannerSample, plan: Plan) -> Plan:
        self.entered.set()
        assert self.go.wait(WAIT_S)
        return plan


class Outcomes:
    """What a worker handed over."""

    def __init__(self) -> None:
        self.done: list[Outcome] = []
        self._more = threading.Condition()

    def __call__(self, outcome: Outcome) -> None:
        with self._more:
            self.done.append(outcome)
            self._more.notify()

    def wait_for(self, count: int) -> None:
        """Until so many have come."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.done) >= count, WAIT_S)


def test_the_newest_wins() -> None:
    """While one is planned, of three that come the first two are handed back; the last is
    planned next, and nothing else."""
    gate, outcomes = Gate(), Outcomes()
    worker = InferenceWorker(Scripted(gate), outcomes)
    first, second, third, fourth = SELECTIONS[-4:]
    assert worker.submit(first) is None
    assert gate.entered.wait(WAIT_S)
    assert worker.submit(second) is None
    assert worker.submit(third) is second
    assert worker.submit(fourth) is third
    gate.go.set()
    outcomes.wait_for(2)
    assert worker.close()
    assert [o.selection for o in outcomes.done] == [first, fourth]


def test_it_goes_on_after_a_failure() -> None:
    """A backend that fails on one sample is asked again for the next."""
    failing = SELECTIONS[-2].t0_ns

    def sometimes(sample: PlannerSample, plan: Plan) -> Plan:
        if sample.t0_ns == failing:
            raise RuntimeError("once")
        return plan

    outcomes = Outcomes()
    worker = InferenceWorker(Scripted(sometimes), outcomes)
    for n, selection in enumerate(SELECTIONS[-2:], start=1):
        worker.submit(selection)
        outcomes.wait_for(n)
    assert worker.close()
    assert [o.plan is None for o in outcomes.done] == [True, False]


def test_clear_forgets_what_waits() -> None:
    """What runs is finished and handed over; what waited is not planned."""
    gate, outcomes = Gate(), Outcomes()
    worker = InferenceWorker(Scripted(gate), outcomes)
    worker.submit(SELECTIONS[-2])
    assert gate.entered.wait(WAIT_S)
    worker.submit(SELECTIONS[-1])
    worker.clear()
    gate.go.set()
    outcomes.wait_for(1)
    assert worker.close()
    assert [o.selection for o in outcomes.done] == [SELECTIONS[-2]]


def test_close_while_busy() -> None:
    """False while the plan in progress takes longer than it may; True once it has ended, and
    what waited is never planned."""
    gate, outcomes = Gate(), Outcomes()
    worker = InferenceWorker(Scripted(gate), outcomes)
    worker.submit(SELECTIONS[-2])
    assert gate.entered.wait(WAIT_S)
    worker.submit(SELECTIONS[-1])
    assert not worker.close(timeout_s=0.05)
    gate.go.set()
    assert worker.close(WAIT_S)
    assert [o.selection for o in outcomes.done] == [SELECTIONS[-2]]


def test_close_while_idle() -> None:
    """At once, and twice does no harm."""
    worker = InferenceWorker(Scripted(good), lambda outcome: None)
    assert worker.close() and worker.close()


def test_a_reasoning_that_its_plan_does_not_wait_for() -> None:
    """The plan is out before the first step; plans made meanwhile do not break it off; then that
    to the newest plan begins."""
    heard: list[Any] = []
    thought = threading.Semaphore(0)
    gate = threading.Event()
    backend = Thoughtful()

    def reasoned(late: LateReasoning) -> None:
        heard.append(("reasoning", late.t0_ns))
        thought.release()

    def planned(outcome: Outcome) -> None:
        assert outcome.plan is not None and outcome.plan.reasoning_follows
        heard.append(("plan", outcome.plan.t0_ns))
        if len(heard) == 1:  # two plans before the first step
            assert gate.wait(WAIT_S)

    worker = InferenceWorker(backend, planned, on_reasoned=reasoned)
    try:
        worker.submit(SELECTIONS[-2])
        worker.submit(SELECTIONS[-1])
        gate.set()
        assert thought.acquire(timeout=WAIT_S)
        worker.submit(SELECTIONS[-1])
        assert thought.acquire(timeout=WAIT_S)
    finally:
        assert worker.close()
    kinds = [kind for kind, _ in heard]
    assert kinds[0] == "plan" and kinds.count("reasoning") >= 2
    assert heard[-1] == ("reasoning", SELECTIONS[-1].t0_ns)
    assert backend.given_up == 0


def test_a_reasoning_of_another_time_is_given_up() -> None:
    """After `clear` nothing is said to plans from before; the backend's generator is closed."""
    begun, go_on = threading.Event(), threading.Event()
    heard: list[LateReasoning] = []

    class Slow(Thoughtful):
        def reason(self) -> Generator[None, None, LateReasoning]:
            begun.set()
            assert go_on.wait(WAIT_S)
            return (yield from super().reason())

    backend = Slow()
    worker = InferenceWorker(backend, lambda outcome: None, on_reasoned=heard.append)
    try:
        worker.submit(SELECTIONS[-1])
        assert begun.wait(WAIT_S)
        worker.clear()
        go_on.set()
    finally:
        assert worker.close(WAIT_S)
    assert not heard and backend.given_up == 1


@pytest.mark.parametrize("what", ["raises", "gives nothing"])
def test_a_reasoning_that_fails(what: str) -> None:
    """It is told, and the next plan is made."""

    class Failing(Thoughtful):
        def reason(self) -> Generator[None, None, LateReasoning]:
            yield
            if what == "raises":
                raise RuntimeError("no words")
            return None  # type: ignore[return-value]

    told = threading.Semaphore(0)
    plans: list[Outcome] = []
    texts: list[str] = []

    def fault(text: str) -> None:
        texts.append(text)
        told.release()

    def reasoned(late: LateReasoning) -> None:
        assert late.t0_ns

    worker = InferenceWorker(Failing(), plans.append, fault, on_reasoned=reasoned)
    try:
        for count in (1, 2):
            worker.submit(SELECTIONS[-1])
            assert told.acquire(timeout=WAIT_S)
            assert len(plans) == count
    finally:
        assert worker.close()
    assert "no words" in texts[0] if what == "raises" else "not handed over" in texts[0]


def test_offline_plans_have_their_reasoning() -> None:
    """Where nobody drives by it, it is waited for; one of another instant is refused."""
    outcome = run(Thoughtful(), SELECTIONS[-1])
    assert outcome.plan is not None and not outcome.plan.reasoning_follows
    assert outcome.plan.reasoning == "to keep distance"
    assert outcome.plan.reasoning_source == ReasoningSource.MODEL
    assert outcome.plan.decisions.longitudinal == "follow lead"

    class Confused(Thoughtful):
        def reason(self) -> Generator[None, None, LateReasoning]:
            late = yield from super().reason()
            return replace(late, t0_ns=1)

    refused = run(Confused(), SELECTIONS[-1]).rejection
    assert refused is not None and "the reasoning is of t0 1" in refused.detail
