"""The stop: comfortable where there is room, harder where not, always from the vehicle's pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_cases import LIMITS, STRAIGHT, T0_NS, actions, braking, plan_of
from simulate import CIRCLE, Motion, ms

from alpamayo_ros import geometry
from alpamayo_ros.safety.checks import Situation, check
from alpamayo_ros.safety.fallback import Fallback, PathPoints
from alpamayo_ros.safety.limits import Vehicle
from alpamayo_ros.safety.track import Track, track_of
from alpamayo_ros.types import EgoPose, Plan, Pose3

STANDING = Motion(speed_mps=0.0, yaw_rate_rps=0.0)


def rig_of(pose: EgoPose) -> Pose3:
    """Odometry from rig."""
    return geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)


def track(action: np.ndarray, pose: EgoPose) -> Track:
    """A plan of these actions from a pose, in the odometry frame."""
    plan = plan_of(action, pose.speed_mps, pose.stamp_ns)
    return track_of(plan, rig_of(pose), pose.frame_id)


def stop(
    pose: EgoPose, good: Track | None = None, acceleration: float = 0.0
) -> tuple[Plan, PathPoints]:
    """A stop from a pose, checked as any plan is."""
    subject = Fallback(Vehicle())
    if good is not None:
        subject.good(good)
    plan, path = subject.plan(pose, acceleration, "camera_missing", "test")
    here = Situation(pose.stamp_ns, ms(500), pose.speed_mps, rig_of(pose), pose.frame_id)
    assert check(plan, LIMITS, here) == ()
    assert plan.source == "fallback" and plan.t0_ns == pose.stamp_ns
    assert "camera_missing" in plan.reasoning
    return plan, path


def stopped_after_m(path: PathPoints) -> float:
    """Length of the way to where the vehicle stands."""
    xy = np.concatenate((np.zeros((1, 2)), path.xyz_in_rig_t0[:, :2]))
    return float(np.linalg.norm(np.diff(xy, axis=0), axis=1).sum())


def test_a_comfort_stop_on_a_free_way() -> None:
    """6 m/s with 38 m of good path ahead: -0.3 m/s^3 down to -1 m/s^2, no more, to a stand."""
    pose = replace(STRAIGHT.pose(T0_NS), speed_mps=6.0)
    plan, path = stop(pose, track(actions(), pose))
    assert plan.action[0, 0] == pytest.approx(-0.03)
    assert plan.action[:, 0].min() >= -1.0 - 1e-9
    assert np.abs(np.diff(plan.action[:33, 0])).max() <= 0.03 + 1e-9
    # The path goes on to where it stands, 6.4 s or not; the stamps say when.
    assert path.times_s[-1] > 6.4
    assert stopped_after_m(path) == pytest.approx(27.3, abs=1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(3.0, 25.0), st.floats(1.2, 4.5), st.sampled_from((CIRCLE, STRAIGHT)))
def test_it_stops_where_the_last_plan_would_have(
    speed: float, deceleration: float, motion: Motion
) -> None:
    """A last plan that brakes for something is not overrun, at any pace that brakes allow."""
    motion = replace(motion, speed_mps=speed, yaw_rate_rps=motion.yaw_rate_rps * 0.1)
    pose = motion.pose(T0_NS)
    if speed / deceleration > 6.0:
        return
    good = track(braking(speed, deceleration), pose)
    room = float(np.linalg.norm(np.diff(good.xyz_in_odometry, axis=0), axis=1).sum())
    plan, path = stop(pose, good, -deceleration)
    assert stopped_after_m(path) <= room + 0.5
    assert plan.action[:, 0].min() >= -6.0


def test_harder_as_room_runs_out() -> None:
    """10 m/s and 12 m of known way: more than the comfort, within the bounds."""
    pose = STRAIGHT.pose(T0_NS)
    behind = STRAIGHT.pose(T0_NS - ms(5_200))
    plan, path = stop(pose, track(actions(), behind))
    assert -6.0 <= plan.action[:, 0].min() < -3.5
    assert stopped_after_m(path) <= 12.5


def test_along_the_last_good_path() -> None:
    """A bend is followed with the vehicle 0.4 m beside it: it comes back onto it."""
    pose = CIRCLE.pose(T0_NS)
    good = track(actions(0.0, 0.02), pose)
    side = rig_of(pose).rotation[:, 1]
    beside = replace(pose, position_m=pose.position_m + 0.4 * side)
    plan, _ = stop(beside, good)
    xy = geometry.apply(rig_of(beside), plan.xyz_in_rig_t0)[:, :2]
    way = good.xyz_in_odometry[:, :2]
    apart = np.linalg.norm(xy[:, None] - way[None], axis=-1).min(axis=1)
    assert apart[0] > 0.3 and apart[-1] < 0.55  # the way's points lie 1 m apart
    # How far the path turns is how far the vehicle gets along it.
    assert float(geometry.yaw_of(plan.rot_in_rig_t0[-1])) > 0.6


@pytest.mark.parametrize("motion", (CIRCLE, STRAIGHT))
def test_without_any_good_path_it_holds_the_curve(motion: Motion) -> None:
    """The curvature that it drives, and a stop."""
    plan, path = stop(motion.pose(T0_NS))
    curvature = motion.yaw_rate_rps / motion.speed_mps
    assert plan.action[:30, 1] == pytest.approx(curvature, abs=2e-3)
    assert np.linalg.norm(path.xyz_in_rig_t0[-1] - path.xyz_in_rig_t0[-2]) < 0.3


def test_off_the_way_or_in_another_frame() -> None:
    """What is 2 m beside, or in another map, is no way: as without one."""
    pose = STRAIGHT.pose(T0_NS)
    far = replace(pose, position_m=pose.position_m + 2.0 * rig_of(pose).rotation[:, 1])
    for elsewhere in (far, replace(pose, frame_id="map")):
        plan, _ = stop(elsewhere, track(actions(0.0, 0.02), pose))
        assert np.abs(plan.action[:, 1]).max() < 1e-9


def test_at_a_standstill_it_stands() -> None:
    """64 poses on one spot that keep their heading; nothing is divided by the speed."""
    pose = STANDING.pose(T0_NS)
    for good in (None, track(actions(), pose), track(actions(1.0), pose)):
        plan, path = stop(pose, good)
        assert np.all(plan.speeds_mps == 0.0)
        assert path.xyz_in_rig_t0.shape == (64, 3) and np.all(path.xyz_in_rig_t0 == 0.0)
        assert np.all(path.rot_in_rig_t0 == np.eye(3))


def test_rolling_backwards_ends_too() -> None:
    """In reverse the stop is a stop."""
    pose = replace(STRAIGHT.pose(T0_NS), speed_mps=-0.25)
    plan, _ = stop(pose)
    assert plan.speeds_mps[-1] == 0.0 and plan.action[:, 0].max() <= 1.0


def test_off_the_accelerator_first() -> None:
    """A stop from acceleration: no jerk beyond letting go of the pedal."""
    pose = STRAIGHT.pose(T0_NS)
    plan, _ = stop(pose, track(actions(2.0), pose), 2.0)
    assert plan.action[0, 0] == pytest.approx(1.5)
    assert np.diff(plan.action[:, 0]).min() >= -0.5 - 1e-9


def test_ticks_follow_one_another() -> None:
    """At 10 Hz from where the plan before leads, the stop is one stop: no jerk between plans."""
    subject, pose = Fallback(Vehicle()), STRAIGHT.pose(T0_NS)
    subject.good(track(actions(), pose))
    before, driven = 0.0, []
    while pose.speed_mps > 0.0:
        plan, _ = subject.plan(pose, before, "test", "test")
        before = float(plan.action[0, 0])
        driven.append(before)
        rig = rig_of(pose)
        turned = geometry.rotation_to_quaternion(rig.rotation @ plan.rot_in_rig_t0[0])
        pose = replace(
            pose,
            stamp_ns=pose.stamp_ns + ms(100),
            position_m=geometry.apply(rig, plan.xyz_in_rig_t0[0]),
            quaternion_xyzw=turned,
            speed_mps=max(float(plan.speeds_mps[1]), 0.0),
        )
    assert len(driven) < 140 and min(driven) > -1.6
    assert np.abs(np.diff(driven[:-2])).max() < 0.25
