"""The unicycle against the reference's figures and against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros.action_space import forward_only, integrate
from alpamayo_ros.geometry import yaw_of

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "parts_unicycle.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
# The reference's action_space_cfg: its actions are normalised, ours are in m/s^2 and 1/m. It keeps
# these numbers in float32, in its float64 run as well.
MEAN = np.float32([0.02902694707164455, 0.0002692167976330542]).astype(np.float64)
STD = np.float32([0.6810426736454882, 0.026148280660833106]).astype(np.float64)
TIMES = np.arange(1, 65) * 0.1


@needs_golden
@pytest.mark.parametrize("case", range(6))
def test_the_reference_s_future(case: int) -> None:
    """Poses from actions and v0, forwards, in reverse and from standstill.

    float64 against float64: 1e-12 m, the rounding of sums of 83 m. Its float32 run rounds each of
    those 64 sums at 4e-6 m and differs by 2e-5 m from its own float64: 4e-5 m are allowed.
    """
    golden = np.load(GOLDEN)
    action = golden["action"][case].astype(np.float64) * STD + MEAN
    xyz, rot = integrate(action, float(golden["v0_f64"][case]))
    np.testing.assert_allclose(xyz, golden["fut_xyz_f64"][case], atol=1e-12)
    np.testing.assert_allclose(rot, golden["fut_rot_f64"][case], atol=1e-12)
    np.testing.assert_allclose(xyz, golden["fut_xyz"][case], atol=4e-5)
    np.testing.assert_allclose(rot, golden["fut_rot"][case], atol=4e-6)


@needs_golden
def test_the_cases_cover_what_they_should() -> None:
    """Standstill, forwards and reverse, and actions that are not zero: or the test above is one
    of straight lines."""
    golden = np.load(GOLDEN)
    assert golden["v0_f64"].min() < -5 and 0 in golden["v0_f64"] and golden["v0_f64"].max() > 10
    assert np.abs(golden["action"]).max() > 3
    assert np.abs(golden["fut_xyz_f64"][..., 1]).max() > 1


@given(st.floats(-5.0, 30.0), st.floats(-2.0, 2.0))
def test_straight_on(speed: float, acceleration: float) -> None:
    """s = v t + a t^2 / 2 exactly: the trapezium is exact for constant acceleration."""
    xyz, rot = integrate(np.tile([acceleration, 0.0], (64, 1)), speed)
    wanted = speed * TIMES + acceleration * TIMES**2 / 2
    np.testing.assert_allclose(xyz[:, 0], wanted, atol=1e-9)
    np.testing.assert_array_equal(xyz[:, 1:], 0.0)
    np.testing.assert_array_equal(rot, np.tile(np.eye(3), (64, 1, 1)))


@given(st.floats(1.0, 15.0), st.floats(-0.1, 0.1))
def test_a_circle(speed: float, curvature: float) -> None:
    """Constant curvature turns by curvature * distance; positions err by the trapezium's
    theta'^2 dt^2 / 12 of the distance."""
    xyz, rot = integrate(np.tile([0.0, curvature], (64, 1)), speed)
    turned = curvature * speed * TIMES
    np.testing.assert_allclose(np.unwrap(yaw_of(rot)), turned, atol=1e-9)
    exact = speed * TIMES * np.sinc(turned / np.pi)
    bound = (curvature * speed * 0.1) ** 2 / 12 * speed * TIMES + 1e-9
    assert (np.abs(xyz[:, 0] - exact) <= bound).all()


def test_heading_follows_the_distance_of_the_step() -> None:
    """Accelerating from rest at 2 m/s^2 with curvature 0.1: the first step covers 1 cm and turns
    by 1 mrad, where v * dt would turn by none."""
    _, rot = integrate(np.tile([2.0, 0.1], (64, 1)), 0.0)
    assert float(yaw_of(rot[0])) == pytest.approx(0.001)


def test_braking_ends_at_standstill() -> None:
    """Noise about standing becomes standing; pulling away afterwards stays."""
    action = np.zeros((64, 2))
    action[:20, 0], action[40:, 0], action[:, 1] = -1.0, 0.5, 0.01
    held = forward_only(action, 1.0)
    speeds = 1.0 + 0.1 * np.cumsum(held[:, 0])
    np.testing.assert_allclose(speeds[9:40], 0.0, atol=1e-12)
    assert speeds[-1] == pytest.approx(0.5 * 2.4)
    assert (held[:, 1] == action[:, 1]).all()
    xyz, _ = integrate(held, 1.0)
    assert (np.diff(xyz[:, 0]) >= 0.0).all()


def test_what_does_not_stop_is_left_as_it_is() -> None:
    action = np.random.default_rng(0).normal(0.0, 0.3, (64, 2))
    np.testing.assert_allclose(forward_only(action, 20.0), action, atol=1e-12)
    np.testing.assert_array_equal(forward_only(action, -1.0), action)
