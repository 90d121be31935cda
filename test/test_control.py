"""The controller's core: follows, stops when plans cease, never drives backwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros import action_space
from alpamayo_ros.control.follower import ControlState, Follower, FollowerSettings, RigState
from alpamayo_ros.control.reference import Reference, reference_from_plan
from alpamayo_ros.geometry import pose_from_quaternion, yaw_of
from alpamayo_ros.types import NS_PER_S, Decisions, Plan, ReasoningSource
from alpamayo_ros.world.bicycle import DEFAULT_VEHICLE, VehicleState, drive
from alpamayo_ros.world.vehicle import Command

T0 = 1_000 * NS_PER_S
STEP_NS = 20_000_000


def plan(action: np.ndarray, speed: float) -> Plan:
    """A plan of given actions (64, 2)."""
    xyz, rot = action_space.integrate(action, speed)
    return Plan(T0, xyz, rot, action, speed, xyz[None], rot[None], "", ReasoningSource.TRAJECTORY,
                Decisions("none", "none"), "test")  # fmt: skip


def constant(speed: float, acceleration: float = 0.0, curvature: float = 0.0) -> Reference:
    """From the odometry's origin along x."""
    action = np.tile((acceleration, curvature), (64, 1)).astype(float)
    return reference_from_plan(plan(action, speed), pose_from_quaternion((0, 0, 0), (0, 0, 0, 1)))


def follow(
    reference: Reference, state: VehicleState, seconds: float, settings: FollowerSettings
) -> list[VehicleState]:
    """The vehicle under the controller, from t0 on."""
    follower = Follower(settings)
    follower.follow(reference)
    states = [state]
    for k in range(int(seconds * NS_PER_S / STEP_NS)):
        here = states[-1]
        rig = RigState(here.x_m, here.y_m, here.yaw_rad, here.speed_mps)
        command = follower.command(T0 + k * STEP_NS, rig)
        wanted = Command(command.acceleration_mps2, command.curvature_1pm)
        states.append(drive(here, wanted, STEP_NS * 1e-9, DEFAULT_VEHICLE))
    return states


def test_a_reference_is_the_plan_in_the_odometry_frame() -> None:
    """The first point is the pose at t0, headings and positions are turned with it."""
    action = np.tile((0.5, 0.02), (64, 1))
    pose = pose_from_quaternion((100.0, 50.0, 1.0), (0, 0, np.sin(0.35), np.cos(0.35)))
    made = plan(action, 5.0)
    reference = reference_from_plan(made, pose, 7)
    assert reference.sequence == 7
    np.testing.assert_allclose(reference.xy_in_odometry_m[0], (100.0, 50.0))
    assert reference.yaw_rad[0] == pytest.approx(0.7)
    np.testing.assert_allclose(reference.yaw_rad[1:], 0.7 + yaw_of(made.rot_in_rig_t0), atol=1e-12)
    np.testing.assert_allclose(reference.speed_mps, made.speeds_mps)


@pytest.mark.parametrize("curvature", (0.0, 0.03, -0.08))
def test_follows_arcs(curvature: float) -> None:
    """Never further than 0.45 m from a point of the circle, and at the planned speed."""
    settings = FollowerSettings(stale_s=2.0)
    reference = constant(6.0, 0.0, curvature)
    states = follow(reference, VehicleState(speed_mps=6.0), 1.9, settings)
    path = reference.xy_in_odometry_m
    for state in states:
        away = np.hypot(*(path - (state.x_m, state.y_m)).T).min()
        assert away < 0.45  # points lie 0.6 m apart
    assert states[-1].speed_mps == pytest.approx(6.0, abs=0.05)


def test_tracks_speed() -> None:
    """Speeds up with the plan, in spite of the actuator's lag."""
    states = follow(
        constant(4.0, 1.0), VehicleState(speed_mps=4.0), 1.9, FollowerSettings(stale_s=2)
    )
    assert states[-1].speed_mps == pytest.approx(5.9, abs=0.25)


def test_stale_plans_end_in_a_comfortable_stop() -> None:
    """Followed for 0.6 s, then braked at about 2 m/s² until it stands, on the old path's bend."""
    settings = FollowerSettings()
    states = follow(constant(8.0, 0.0, 0.02), VehicleState(speed_mps=8.0), 12.0, settings)
    speeds = np.array([state.speed_mps for state in states])
    assert speeds[25] == pytest.approx(8.0, abs=0.1)
    assert speeds[-1] == 0.0 and speeds.min() >= 0.0
    braking = -np.diff(speeds) / (STEP_NS * 1e-9)
    assert braking.max() < settings.stop_braking_mps2 + 0.1
    follower = Follower(settings)
    follower.follow(constant(8.0))
    rig = RigState(0.0, 0.0, 0.0, 8.0)
    assert follower.command(T0 + NS_PER_S // 2, rig).state is ControlState.TRACKING
    assert follower.command(T0 + NS_PER_S, rig).state is ControlState.STOPPING
    assert follower.command(T0 - NS_PER_S, rig).state is ControlState.STOPPING  # another clock's


def test_without_a_plan_it_brakes_and_says_idle() -> None:
    """Also after forget()."""
    follower = Follower()
    rig = RigState(0.0, 0.0, 0.0, 5.0)
    assert follower.command(T0, rig).state is ControlState.IDLE
    follower.follow(constant(5.0))
    follower.forget()
    command = follower.command(T0, rig)
    assert command.state is ControlState.IDLE and command.acceleration_mps2 < 0.0


def test_an_older_plan_does_not_replace_a_newer_one() -> None:
    """Messages may arrive out of order."""
    follower, newer = Follower(), constant(5.0)
    older = Reference(T0 - 1, newer.xy_in_odometry_m, newer.yaw_rad, newer.speed_mps,
                      newer.acceleration_mps2)  # fmt: skip
    assert follower.follow(newer) and not follower.follow(older)


def test_a_reverse_plan_is_not_driven() -> None:
    """A plan of negative speeds holds the vehicle where it stands."""
    states = follow(constant(-3.0), VehicleState(), 1.0, FollowerSettings())
    assert states[-1].speed_mps == 0.0 and states[-1].x_m == 0.0


@given(
    st.floats(-2.0, 15.0), st.floats(-6.0, 3.0), st.floats(-0.3, 0.3), st.floats(0.0, 15.0),
    st.floats(-3.0, 3.0), st.floats(-3.2, 3.2), st.floats(-1.0, 8.0),
)  # fmt: skip
def test_commands_stay_in_their_limits(
    speed: float, acceleration: float, curvature: float, now: float, y: float, yaw: float,
    age: float,
) -> None:  # fmt: skip
    """Finite and within the settings, whatever the plan, the pose and the age."""
    settings = FollowerSettings()
    follower = Follower(settings)
    follower.follow(constant(speed, acceleration, curvature))
    command = follower.command(T0 + int(age * NS_PER_S), RigState(0.0, y, yaw, now))
    assert abs(command.curvature_1pm) <= settings.max_curvature_1pm
    assert -settings.max_braking_mps2 <= command.acceleration_mps2
    assert command.acceleration_mps2 <= settings.max_acceleration_mps2


def test_a_reference_that_is_not_finite_is_refused() -> None:
    """By name."""
    good = constant(5.0)
    with pytest.raises(ValueError, match="speed_mps has values that are not finite"):
        Reference(T0, good.xy_in_odometry_m, good.yaw_rad, good.speed_mps * np.nan,
                  good.acceleration_mps2)  # fmt: skip
