"""The kinematic planner: bounded whatever odometry says, and what it plans in simple cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulate import kinematic_manifest, one_sample

from alpamayo_ros.backends.kinematic import KinematicBackend, KinematicLimits
from alpamayo_ros.backends.registry import backend_for, create_backend
from alpamayo_ros.chain_of_causation import shipped_table
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import Plan

LIMITS = KinematicLimits()
SAMPLE = one_sample()


def plan_of(speed: float, acceleration: float = 0.0, yaw_rate: float = 0.0) -> Plan:
    """The plan of the good drive's sample with another motion at t0."""
    backend = KinematicBackend(kinematic_manifest())
    backend.load()
    return backend.plan(
        replace(SAMPLE, speed_mps=speed, acceleration_mps2=acceleration, yaw_rate_rps=yaw_rate)
    )


speeds = st.floats(-10.0, 60.0)
accelerations = st.floats(-30.0, 30.0)
yaw_rates = st.floats(-5.0, 5.0)


@settings(max_examples=150, deadline=None)
@given(speeds, accelerations, yaw_rates)
def test_it_is_bounded(speed: float, acceleration: float, yaw_rate: float) -> None:
    """Accelerations, curvature and lateral acceleration within the manifest's limits at every
    step, whatever odometry says; all finite. 1e-9: rounding of the speeds' sum."""
    plan = plan_of(speed, acceleration, yaw_rate)
    assert np.isfinite(plan.xyz_in_rig_t0).all()
    a, curvature = plan.action.T
    assert a.max() <= LIMITS.max_acceleration_mps2 + 1e-9
    assert a.min() >= -LIMITS.max_deceleration_mps2 - 1e-9
    assert np.abs(curvature).max() <= LIMITS.max_curvature_1pm + 1e-9
    v = plan.speeds_mps
    lateral = np.abs(curvature) * np.maximum(v[:-1] ** 2, v[1:] ** 2)
    assert lateral.max() <= LIMITS.max_lateral_acceleration_mps2 + 1e-9


@settings(max_examples=100, deadline=None)
@given(speeds, accelerations)
def test_braking_ends_at_standstill(speed: float, acceleration: float) -> None:
    """A speed never changes its sign, forwards or in reverse; once stopped it stays stopped."""
    assume(abs(speed) > 1e-6)  # at rest the sign means nothing
    v = plan_of(speed, acceleration).speeds_mps
    assert (v * np.sign(speed) >= -1e-9).all()
    stopped = np.flatnonzero(np.abs(v) < 1e-9)
    if len(stopped):
        assert np.abs(v[stopped[0] :]).max() < 1e-9


def test_hard_braking() -> None:
    """From 5 m/s at -6 (bounded to -4, fading over 1 s): slower at each step, never backwards;
    from 2 m/s it stops on the way and stays."""
    plan = plan_of(5.0, -6.0)
    assert plan.action[0, 0] == pytest.approx(-4.0)
    assert (np.diff(plan.xyz_in_rig_t0[:, 0]) >= 0).all()
    stopped = plan_of(2.0, -6.0)
    assert np.diff(stopped.xyz_in_rig_t0[-30:], axis=0).max() == 0.0
    assert stopped.reasoning == "Slow from 2.0 m/s to a stop, straight on."


def test_braking_in_reverse() -> None:
    """-1 m/s braked at +2: it stops within half a second and does not drive off forwards."""
    plan = plan_of(-1.0, 2.0)
    assert plan.speeds_mps.max() <= 1e-9
    assert plan.xyz_in_rig_t0[:, 0].min() == plan.xyz_in_rig_t0[-1, 0] < 0.0


@pytest.mark.parametrize("yaw_rate", (0.0, 0.02, -3.0))
@pytest.mark.parametrize("acceleration", (0.0, -1.0))
def test_standing_still(acceleration: float, yaw_rate: float) -> None:
    """At rest it stays at the origin and turns nowhere, whatever a noisy gyroscope says."""
    plan = plan_of(0.0, acceleration, yaw_rate)
    np.testing.assert_array_equal(plan.xyz_in_rig_t0, np.zeros((64, 3)))
    np.testing.assert_array_equal(plan.rot_in_rig_t0, np.tile(np.eye(3), (64, 1, 1)))
    assert plan.reasoning == "Stand still."


@pytest.mark.parametrize("speed", (1e-6, 0.01, 0.5, -0.01))
def test_curvature_fades_out_at_low_speed(speed: float) -> None:
    """yaw rate / speed would be 1e5 1/m; below 1 m/s it is yaw rate per 1 m/s."""
    plan = plan_of(speed, 0.0, 0.1)
    assert plan.action[0, 1] == pytest.approx(0.1 * np.sign(speed))


def test_constant_motion_is_carried_on() -> None:
    """10 m/s straight on: exactly v t."""
    plan = plan_of(10.0)
    np.testing.assert_allclose(plan.xyz_in_rig_t0[:, 0], 10.0 * plan.times_s, atol=1e-9)
    np.testing.assert_array_equal(plan.xyz_in_rig_t0[:, 1:], 0.0)


def test_a_left_turn_goes_left() -> None:
    """Positive yaw rate: positive y, forwards; in reverse the tail goes right of the heading."""
    assert plan_of(8.0, 0.0, 0.3).xyz_in_rig_t0[-1, 1] > 1.0
    backwards = plan_of(-3.0, 0.0, 0.3)
    assert backwards.xyz_in_rig_t0[-1, 0] < -1.0
    first_yaw = np.arctan2(backwards.rot_in_rig_t0[0, 1, 0], backwards.rot_in_rig_t0[0, 0, 0])
    assert first_yaw == pytest.approx(0.03, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(speeds, accelerations, yaw_rates)
def test_its_parts_agree(speed: float, acceleration: float, yaw_rate: float) -> None:
    """Poses lie as far apart as the speeds say, the plan names known decisions, and says where
    its reasons are from."""
    plan = plan_of(speed, acceleration, yaw_rate)
    steps = np.diff(np.concatenate((np.zeros((1, 3)), plan.xyz_in_rig_t0)), axis=0)
    mean_speed = np.abs(plan.speeds_mps[:-1] + plan.speeds_mps[1:]) / 2
    # A chord is shorter than the arc by (turn per step)^2 / 8 at most.
    turn = np.abs(plan.action[:, 1]) * np.maximum(mean_speed, 0.1) * 0.1
    shortest = mean_speed * 0.1 * (1 - turn**2 / 4) - 1e-4
    lengths = np.linalg.norm(steps, axis=1)
    assert (lengths <= mean_speed * 0.1 + 1e-9).all() and (lengths >= shortest).all()
    table = shipped_table()
    assert plan.decisions.longitudinal in table.longitudinal
    assert plan.decisions.lateral in table.lateral
    assert str(plan.reasoning_source) == "trajectory" and plan.source == "planner"
    assert plan.t0_ns == SAMPLE.t0_ns and plan.model == "kinematic"


def test_it_looks_at_no_image() -> None:
    """Other pixels, same plan: a lost camera costs nothing but its tick."""
    backend = create_backend("kinematic")
    backend.load()
    other = replace(SAMPLE, images=np.full_like(SAMPLE.images, 200))
    a, b = backend.plan(SAMPLE), backend.plan(other)
    assert a.xyz_in_rig_t0.tobytes() == b.xyz_in_rig_t0.tobytes()


@pytest.mark.parametrize(
    ("options", "said"),
    (
        ({"max_speed": 3.0}, "unknown option max_speed"),
        ({"max_curvature_1pm": 0}, "max_curvature_1pm is 0"),
        ({"max_curvature_1pm": -1.0}, "wanted a number > 0"),
        ({"max_curvature_1pm": float("nan")}, "wanted a number > 0"),
        ({"turn_time_constant_s": float("inf")}, "turn_time_constant_s is inf"),
        ({"max_acceleration_mps2": "2"}, "'2'"),
        ({"max_acceleration_mps2": True}, "True"),
    ),
)
def test_bad_options(options: dict[str, object], said: str) -> None:
    """Each is refused at load, named, with the manifest's path."""
    backend = backend_for(replace(kinematic_manifest(), options=options), "kinematic")
    with pytest.raises(ModelError, match=said) as error:
        backend.load()
    assert "kinematic.yaml" in str(error.value)


def test_options_are_used() -> None:
    """A manifest's own bound reaches the plan."""
    manifest = replace(kinematic_manifest(), options={"max_acceleration_mps2": 0.5})
    backend = backend_for(manifest, "kinematic")
    backend.load()
    plan = backend.plan(replace(SAMPLE, acceleration_mps2=3.0))
    assert plan.action[0, 0] == pytest.approx(0.5)
