"""The stage tick by tick: what goes out, when the stop begins, how it goes on and ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safety_cases import (
    INVALID,
    LOST,
    T0_NS,
    actions,
    gaps,
    judge,
    judge_plan,
    moved,
    plan_of,
    pose_at,
    stage,
    stops,
)
from simulate import ms

from alpamayo_ros import geometry
from alpamayo_ros.safety.rulings import Ego, Ruling
from alpamayo_ros.safety.stage import STILL_TO_COME, SafetyStage
from alpamayo_ros.types import Plan, Rejection, RejectionReason


def test_good_plans_go_out_as_they_are() -> None:
    """The very plan, accepted; and no stop."""
    subject = stage()
    for k in range(5):
        ruling = judge(subject, T0_NS + ms(100 * k))
        assert ruling.plan is not None and ruling.rejection is None
        assert str(ruling.verdict) == "accepted"
        assert subject.fallback(pose_at(T0_NS), T0_NS + ms(100 * k + 70)) is None


def test_a_lost_camera_stops_the_vehicle_at_10_hz_until_three_good_plans() -> None:
    """The stop is out with the rejection, in step, and ends with the third good plan in a row."""
    subject = stage()
    assert judge(subject, T0_NS).plan is not None
    lost_ns = T0_NS + ms(250)
    subject.refuse(LOST, lost_ns)
    found = stops(subject, lost_ns, lost_ns + ms(2_000))
    assert len(found) == 20 and gaps(found) == {100}
    assert found[0].plan.t0_ns == lost_ns - ms(10)
    assert all("front_wide" in stop.reason and stop.plan.source == "fallback" for stop in found)
    assert all(stop.path is not None for stop in found)
    # Two good ones, one bad, three good ones.
    t0_ns = lost_ns + ms(2_000)
    verdicts = []
    for k, good in enumerate((True, True, False, True, True, True, True)):
        ruling = judge(subject, t0_ns + ms(100 * k), actions(0.0 if good else 9.0))
        verdicts.append(str(ruling.verdict.action))
        assert (ruling.plan is None) == (ruling.rejection is not None)
    assert verdicts == ["held", "held", "rejected", "held", "held", "accepted", "accepted"]
    assert subject.fallback(pose_at(t0_ns), t0_ns + ms(680)) is None


def test_an_unsafe_plan_names_what_it_breaks() -> None:
    """The rejection has the first value and limit, the verdict all of them."""
    subject = stage()
    ruling = judge(subject, T0_NS, actions(0.0, 0.08))
    assert ruling.plan is None and ruling.rejection is not None
    assert ruling.rejection.reason is RejectionReason.PLAN_UNSAFE
    assert (ruling.rejection.value, ruling.rejection.limit) == (pytest.approx(8.0), 5.0)
    assert "lateral 8 m/s^2 (limit 5 m/s^2)" in ruling.rejection.detail
    assert subject.reason.startswith("plan_unsafe")


def test_the_first_plan_of_all_waits_for_no_other() -> None:
    """After a stop that began before any plan, one good plan is enough."""
    subject = stage()
    subject.refuse(INVALID, T0_NS - ms(100))
    assert subject.fallback(pose_at(T0_NS), T0_NS) is not None
    assert judge(subject, T0_NS).plan is not None


@pytest.mark.parametrize("reason", sorted(STILL_TO_COME))
def test_warming_up_is_no_fault_until_it_lasts(reason: RejectionReason) -> None:
    """The first 2.5 s; later it is, and after a first plan at once."""
    subject = stage()
    warming = Rejection(reason, "odometry")
    start_ns = T0_NS - ms(1_000)
    subject.refuse(warming, start_ns)
    assert stops(subject, start_ns, start_ns + ms(2_500)) == []
    assert stops(subject, start_ns + ms(2_520), start_ns + ms(2_600)) != []
    planned = stage()
    judge(planned, T0_NS)
    planned.refuse(warming, T0_NS + ms(100))
    assert planned.reason.startswith(reason.value)


def test_a_model_that_hangs_is_noticed() -> None:
    """Busy ticks are harmless; half a second without a plan is not."""
    subject = stage()
    judge(subject, T0_NS)
    subject.refuse(Rejection(RejectionReason.PLANNER_BUSY, "planner"), T0_NS + ms(100))
    found = stops(subject, T0_NS + ms(60), T0_NS + ms(1_060))
    assert len(found) == 5 and "no plan for" in found[0].reason
    # It comes back with a plan as old as its sample: not that one.
    late = judge_plan(subject, plan_of(actions(), 10.0, T0_NS + ms(400)), late_ms=700.0)
    assert late.plan is None and "stale" in str(late.verdict)


def test_the_same_plan_again_does_not_go_out() -> None:
    """A frozen model hands over the plan from before."""
    subject = stage()
    plan = plan_of(actions(), 10.0, T0_NS)
    assert judge_plan(subject, plan).plan is not None
    assert "not_newer" in str(judge_plan(subject, plan).verdict)


def test_odometry_lost_the_stop_goes_on_where_the_vehicle_should_be() -> None:
    """Poses older than 0.2 s are carried on along what was published, stamped now."""
    subject = stage()
    judge(subject, T0_NS)
    lost_ns, last = T0_NS + ms(100), pose_at(T0_NS + ms(100))
    subject.refuse(Rejection(RejectionReason.ODOMETRY_MISSING, "odometry"), lost_ns)
    speeds = []
    for now_ns in range(lost_ns, lost_ns + ms(15_000), ms(20)):
        stop = subject.fallback(last, now_ns)
        if stop is not None:
            assert 0 <= now_ns - stop.plan.t0_ns <= ms(200)
            speeds.append(stop.plan.speed_t0_mps)
    assert len(speeds) == 150 and speeds[-1] == 0.0
    assert np.diff(speeds).max() <= 1e-9 and np.diff(speeds).min() > -0.5


def test_a_clock_jump_forgets_the_way() -> None:
    """After it nothing from before is followed, and the stop is stamped in the new time."""
    subject = stage()
    judge(subject, T0_NS, actions(0.0, 0.02))
    back_ns = T0_NS - ms(60_000)
    subject.refuse(Rejection(RejectionReason.CLOCK_JUMP, "clock"), back_ns)
    stop = subject.fallback(pose_at(back_ns), back_ns)
    assert stop is not None and stop.plan.t0_ns == back_ns
    assert np.abs(stop.plan.action[:, 1]).max() < 1e-9
    assert subject.fallback(None, back_ns + ms(500)) is not None


def test_no_time_and_no_place_is_no_stop() -> None:
    """A clock that has not started, and a vehicle that was never heard of."""
    subject = stage()
    subject.refuse(LOST, 0)
    assert subject.fallback(pose_at(T0_NS), 0) is None
    assert subject.fallback(None, T0_NS) is None
    other_clock = replace(pose_at(T0_NS), stamp_ns=ms(1_000_000))
    assert subject.fallback(other_clock, T0_NS) is None
    nowhere = replace(pose_at(T0_NS), speed_mps=float("nan"))
    assert subject.fallback(nowhere, T0_NS) is None


def test_withheld_from_the_path() -> None:
    """`fallback_on_path: false`: a stop without points for ~/path."""
    subject = stage(fallback_on_path=False)
    subject.refuse(INVALID, T0_NS)
    stop = subject.fallback(pose_at(T0_NS), T0_NS)
    assert stop is not None and stop.path is None


def test_observing() -> None:
    """Violations are named, plans go out as they came, and nothing is stopped."""
    subject = stage(enforce=False)
    ruling = judge(subject, T0_NS, actions(5.5))
    assert ruling.plan is not None and ruling.rejection is None
    assert str(ruling.verdict.action) == "observed" and ruling.verdict.violations
    subject.refuse(LOST, T0_NS)
    assert subject.fallback(pose_at(T0_NS), T0_NS) is None
    assert judge(subject, T0_NS + ms(100)).plan is not None  # and nothing is held back


def test_a_change_of_mind_costs_one_tick_and_plans_that_jump_never_pass() -> None:
    """A path 0.6 m aside of the one before: refused once, then it is the one to go on from."""
    subject = stage(recovery_ticks=1)
    aside = (0.0, 0.6, 0.0)

    def tick(k: int, jumps: bool) -> str:
        plan = plan_of(actions(), 10.0, T0_NS + ms(100 * k))
        pose = pose_at(plan.t0_ns)
        side = geometry.quaternion_to_rotation(pose.quaternion_xyzw) @ np.array(aside)
        at = pose.position_m + (side if jumps else 0.0)  # a map that moved under the vehicle
        rig = geometry.pose_from_quaternion(at, pose.quaternion_xyzw)
        now_ns = plan.t0_ns + ms(60)
        return str(subject.judge(plan, Ego(10.0, rig, "odom"), 0, now_ns).verdict.action)

    lasting = [tick(k, k >= 2) for k in range(5)]
    assert lasting == ["accepted", "accepted", "rejected", "accepted", "accepted"]
    to_and_fro = [tick(k, k % 2 == 1) for k in range(5, 12)]
    assert set(to_and_fro[1:]) == {"rejected"}


def test_what_cannot_be_judged_is_refused() -> None:
    """A backend that hands over anything at all."""
    subject = stage()
    pose = pose_at(T0_NS)
    rig = geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
    ruling = subject.judge("turn left", Ego(10.0, rig, "odom"), 0, T0_NS)  # type: ignore[arg-type]
    assert ruling.rejection is not None
    assert ruling.rejection.reason is RejectionReason.PLANNER_FAILED


def test_a_repaired_plan_is_flagged() -> None:
    """5 % over the limit sideways: within it, with what was wrong."""
    ruling = judge(stage(), T0_NS, actions(0.0, 0.0525))
    assert ruling.plan is not None and str(ruling.verdict.action) == "repaired"
    assert [str(v.name) for v in ruling.verdict.violations] == ["lateral"]
    assert np.abs(ruling.plan.action[:, 1]).max() <= 0.05 + 1e-9


def test_starts_elsewhere() -> None:
    """A plan of another place."""
    ruling = judge_plan(stage(), moved(plan_of(actions()), (3.0, 0.0, 0.0)))
    assert "start_position" in str(ruling.verdict)


# ---- pulling away ----------------------------------------------------------------------------


def starting(lead: int, t0_ns: int) -> Plan:
    """A standing vehicle's plan that begins to move after `lead` steps."""
    action = actions()
    action[lead : lead + 30, 0] = 1.5
    return plan_of(action, 0.0, t0_ns)


def standing(subject: SafetyStage, plan: Plan) -> Ruling:
    """Judged where the vehicle stands."""
    return subject.judge(plan, STILL, plan.t0_ns, plan.t0_ns + ms(60))


STILL = Ego(0.0, geometry.identity_pose(), "odom")


def test_about_to_go_for_ever_goes() -> None:
    """For a second the plan starts 0.4 s later each time; then it starts now, and is flagged."""
    subject = stage()
    rulings = [standing(subject, starting(4, T0_NS + ms(100 * k))) for k in range(13)]
    assert {str(r.verdict.action) for r in rulings[:10]} == {"accepted"}
    for ruling in rulings[10:]:
        assert str(ruling.verdict.action) == "repaired"
        assert [v.name.value for v in ruling.verdict.violations] == ["hesitates"]
        assert ruling.plan is not None and ruling.plan.action[0, 0] == 1.5
        assert ruling.plan.speeds_mps[-1] == pytest.approx(4.5)


@pytest.mark.parametrize("lead", (0, 12, 64))
def test_a_wait_is_the_models_decision(lead: int) -> None:
    """What goes at once, waits for more than a moment, or does not go, stays as it is."""
    subject = stage()
    for k in range(30):
        made = starting(lead, T0_NS + ms(100 * k))
        ruling = standing(subject, made)
        assert ruling.plan is made and str(ruling.verdict.action) == "accepted"
