"""The worker: the newest sample wins, and whatever goes wrong becomes a rejection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulate import frame, good_drive, kinematic_manifest, pipeline, play, selections

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import ImageError, Plan, PlannerSample, RejectionReason
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
