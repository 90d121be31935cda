"""The stage over time: somebody else drives, a model that stays wrong, stops that last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safety_cases import (
    INVALID,
    LOST,
    T0_NS,
    actions,
    judge,
    plan_of,
    pose_at,
    stage,
)
from simulate import ms

from alpamayo_ros import geometry
from alpamayo_ros.safety.rulings import Ego
from alpamayo_ros.types import EgoPose, Rejection, RejectionReason

# ---- somebody else drives --------------------------------------------------------------------


def test_while_manual_plans_need_not_go_on_from_each_other() -> None:
    """The vehicle is steered elsewhere: plans that follow it are no jumps, before and after."""
    subject = stage()
    judge(subject, T0_NS)
    subject.engage(False)
    for k in range(1, 10):
        aside = geometry.pose_from_quaternion([0.8 * k, 0.8 * k, 0.0], [0.0, 0.0, 0.0, 1.0])
        t0_ns = T0_NS + ms(100 * k)
        if k == 8:
            subject.engage(True)
        plan = plan_of(actions(), 10.0, t0_ns)
        ruling = subject.judge(plan, Ego(10.0, aside, "odom"), t0_ns, t0_ns + ms(60))
        if k <= 8:
            assert ruling.plan is plan, ruling.verdict
        else:  # engaged again, what leaps aside does not go out
            assert "jump_sideways" in str(ruling.verdict)


def test_a_stop_after_manual_driving_begins_with_nothing_of_ours() -> None:
    """Plans braked hard while somebody drove on: the stop starts as softly as any."""
    subject = stage()
    subject.engage(False)
    braked = actions()
    braked[:, 0] = np.concatenate((np.full(20, -4.0), np.zeros(44)))
    judge(subject, T0_NS, braked)
    subject.refuse(INVALID, T0_NS + ms(100))
    stop = subject.fallback(pose_at(T0_NS + ms(90)), T0_NS + ms(100))
    assert stop is not None and stop.plan.action[0, 0] > -0.5


# ---- a model that is wrong again and again, and stops that last --------------------------------


def test_ten_unsafe_plans_in_a_row_lock_the_model_out() -> None:
    """Good plans after them are held, and say why, until somebody else has driven."""
    subject = stage(lock_ticks=10)
    bent = actions(0.0, 0.3)
    rulings = [judge(subject, T0_NS + ms(100 * k), bent) for k in range(10)]
    assert all(r.rejection.reason == RejectionReason.PLAN_UNSAFE for r in rulings)  # type: ignore[union-attr]
    assert subject.locked
    for k in range(10, 20):
        held = judge(subject, T0_NS + ms(100 * k))
        assert held.rejection is not None and "activate the planner" in held.rejection.detail
    subject.engage(False)
    subject.engage(True)
    again = [judge(subject, T0_NS + ms(100 * k)) for k in range(20, 24)]
    assert again[-1].plan is not None and not subject.locked


def test_nine_do_not() -> None:
    """A good one between starts the count anew."""
    subject = stage(lock_ticks=10)
    bent = actions(0.0, 0.3)
    for k in range(30):
        judge(subject, T0_NS + ms(100 * k), None if k % 10 == 9 else bent)
    assert not subject.locked


def test_a_limit_that_is_exceeded_all_the_time_stops_the_vehicle() -> None:
    """Three slips in a row are mended, the fourth means it; a plan without one starts anew."""
    subject = stage(repair_ticks=3)
    slip = actions(0.0, 0.0505)  # at 10 m/s a hundredth more than 5 m/s^2 sideways
    for k in range(8):
        ruling = judge(subject, T0_NS + ms(100 * k), actions(0.0, 0.045) if k == 3 else slip)
        wanted = {3: "accepted", 7: "rejected"}.get(k, "repaired")
        assert str(ruling.verdict.action) == wanted, (k, ruling.verdict)
    assert ruling.rejection is not None
    assert "lateral" in ruling.rejection.detail
    assert "lasting 4 plans (limit 3 plans)" in ruling.rejection.detail
    assert subject.fallback(pose_at(T0_NS + ms(750)), T0_NS + ms(760)) is not None


def test_a_stop_that_lasts_grows_harder() -> None:
    """Comfortable at first, and by how much it does not know what comes afterwards."""
    subject = stage()
    judge(subject, T0_NS)
    subject.refuse(LOST, T0_NS + ms(100))
    first = subject.fallback(pose_at(T0_NS + ms(90)), T0_NS + ms(100))
    assert first is not None
    hardest = -first.plan.action[:, 0].min()
    assert -first.plan.action[:5, 0].min() < 0.5  # within half a second
    assert 2.5 < hardest <= 3.0 + 1e-9


def test_odometry_leaps_and_the_stop_keeps_to_its_bend() -> None:
    """Another frame, turned and far away: the way is where it was, seen from there."""
    subject = stage()
    bend = actions(0.0, 0.02)
    judge(subject, T0_NS, bend)
    subject.fallback(pose_at(T0_NS + ms(80)), T0_NS + ms(80))
    before = pose_at(T0_NS + ms(100))
    there = EgoPose(
        T0_NS + ms(100), before.position_m[[1, 0, 2]] * (-1.0, 1.0, 1.0) + (900.0, 0.0, 0.0),
        geometry.rotation_to_quaternion(
            geometry.yaw_to_rotation(np.pi / 2)
            @ geometry.quaternion_to_rotation(before.quaternion_xyzw)
        ), 10.0, 0.0, "map",
    )  # fmt: skip
    jump = Rejection(RejectionReason.ODOMETRY_JUMP, "odometry")
    subject.refuse(jump, T0_NS + ms(100))
    stop = subject.fallback(there, T0_NS + ms(100))
    assert stop is not None and stop.frame_id == "map"
    assert stop.plan.action[10:30, 1] == pytest.approx(np.full(20, 0.02), abs=0.006)


def test_poses_in_doubt_start_no_stop() -> None:
    """The vehicle is taken to be where it was told to be."""
    subject = stage()
    judge(subject, T0_NS)
    doubt = Rejection(RejectionReason.ODOMETRY_INCONSISTENT, "odometry")
    subject.refuse(doubt, T0_NS + ms(300))
    stuck = replace(pose_at(T0_NS), stamp_ns=T0_NS + ms(300))
    stop = subject.fallback(stuck, T0_NS + ms(300))
    assert stop is not None
    moved_m = np.linalg.norm(stop.odometry_from_rig_t0.translation_m - stuck.position_m)
    assert moved_m == pytest.approx(3.0, abs=0.05)
