"""Rotations and frame changes, against identities that hold for every rotation.

float64 rounds at 1e-16; a dozen operations on numbers of order one stay below 1e-12.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros import geometry
from alpamayo_ros.geometry import (
    apply,
    compose,
    invert,
    is_unit_quaternion,
    pose_from_quaternion,
    quaternion_to_rotation,
    rotation_to_quaternion,
    slerp,
    yaw_of,
    yaw_to_rotation,
)

TOLERANCE = 1e-12
components = st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4)
quaternions = components.map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)
unit_quaternions = quaternions.map(lambda q: q / np.linalg.norm(q))
positions = st.lists(st.floats(-100.0, 100.0), min_size=3, max_size=3).map(np.array)
fractions = st.floats(0.0, 1.0)


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Between two rotations, by the chord of their matrices: exact for small angles too."""
    chord = np.linalg.norm(quaternion_to_rotation(a) - quaternion_to_rotation(b))
    return float(2 * np.arcsin(min(chord / np.sqrt(8), 1.0)))


@given(quaternions)
def test_a_rotation_is_a_rotation(q: np.ndarray) -> None:
    """Orthonormal with determinant +1, whatever the quaternion's length or sign."""
    m = quaternion_to_rotation(q)
    np.testing.assert_allclose(m @ m.T, np.eye(3), atol=TOLERANCE)
    assert np.linalg.det(m) == pytest.approx(1.0, abs=TOLERANCE)
    np.testing.assert_allclose(quaternion_to_rotation(-3 * q), m, atol=TOLERANCE)


@given(unit_quaternions)
def test_quaternion_round_trip(q: np.ndarray) -> None:
    """Back to the same quaternion up to sign, with w >= 0, near half turns too."""
    back = rotation_to_quaternion(quaternion_to_rotation(q))
    assert back[3] >= 0
    assert min(np.abs(back - q).max(), np.abs(back + q).max()) < TOLERANCE


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angle", (0.0, 1e-9, np.pi / 2, np.pi - 1e-9, np.pi))
def test_half_turns(axis: int, angle: float) -> None:
    """At half turns w is 0 and the textbook formula divides by it; here all digits are kept."""
    q = np.zeros(4)
    q[axis], q[3] = np.sin(angle / 2), np.cos(angle / 2)
    m = quaternion_to_rotation(q)
    np.testing.assert_allclose(quaternion_to_rotation(rotation_to_quaternion(m)), m, atol=TOLERANCE)


def test_handedness() -> None:
    """A quarter turn to the left takes x (forward) to y (left)."""
    q = [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]
    np.testing.assert_allclose(quaternion_to_rotation(q) @ [1, 0, 0], [0, 1, 0], atol=TOLERANCE)
    np.testing.assert_allclose(yaw_to_rotation(np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=TOLERANCE)


@given(st.floats(-np.pi + 1e-6, np.pi))
def test_yaw_round_trip(yaw: float) -> None:
    """yaw_of undoes yaw_to_rotation."""
    assert float(yaw_of(yaw_to_rotation(yaw))) == pytest.approx(yaw, abs=TOLERANCE)


@given(unit_quaternions, unit_quaternions, fractions)
def test_slerp_takes_the_shorter_arc_at_even_pace(a: np.ndarray, b: np.ndarray, u: float) -> None:
    """u of the angle from a, 1 - u of it to b; at most half a turn whatever the signs.

    1e-7: an angle from its chord loses half the digits next to half a turn.
    """
    middle = slerp(a[None], b[None], np.array([u]))[0]
    whole = angle_between(a, b)
    assert whole <= np.pi
    assert angle_between(a, middle) == pytest.approx(u * whole, abs=1e-7)
    assert angle_between(middle, b) == pytest.approx((1 - u) * whole, abs=1e-7)
    flipped = slerp(a[None], -b[None], np.array([u]))[0]
    if whole < np.pi - 1e-6:  # at half a turn both ways round are shortest
        assert angle_between(middle, flipped) < 1e-7


@pytest.mark.parametrize("angle", (0.0, 1e-12, 9.9e-5, 1.01e-4, 2.1e-4, 1e-3))
def test_slerp_of_tiny_angles(angle: float) -> None:
    """On both sides of the switch to the chord (1e-4 rad of half angle) it is u * angle.

    1e-11 rad: what arccos loses there, a hundredth of a micrometre at 1 km.
    """
    b = np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])
    for u in (0.0, 0.3, 1.0):
        got = slerp(np.array([[0.0, 0.0, 0.0, 1.0]]), b[None], np.array([u]))[0]
        assert 2 * np.arcsin(got[2]) == pytest.approx(u * angle, abs=1e-11)


@given(positions, unit_quaternions, positions, unit_quaternions, positions)
def test_compose_invert_apply(
    p: np.ndarray, q: np.ndarray, p2: np.ndarray, q2: np.ndarray, point: np.ndarray
) -> None:
    """(a b) x = a (b x), and a^-1 a is the identity. 1e-10: metres up to 300 times 1e-16."""
    a, b = pose_from_quaternion(p, q), pose_from_quaternion(p2, q2)
    np.testing.assert_allclose(apply(compose(a, b), point), apply(a, apply(b, point)), atol=1e-10)
    np.testing.assert_allclose(apply(compose(invert(a), a), point), point, atol=1e-10)
    same = compose(a, geometry.identity_pose())
    np.testing.assert_allclose(same.rotation, a.rotation, atol=TOLERANCE)


def test_vectorised_over_leading_axes() -> None:
    """A stack of rotations converts as its members do."""
    q = np.random.default_rng(0).normal(size=(5, 7, 4))
    m = quaternion_to_rotation(q)
    assert m.shape == (5, 7, 3, 3)
    np.testing.assert_array_equal(m[3, 2], quaternion_to_rotation(q[3, 2]))
    back = rotation_to_quaternion(m)
    np.testing.assert_array_equal(back[3, 2], rotation_to_quaternion(m[3, 2]))


@pytest.mark.parametrize(
    ("quaternion", "fits"),
    (
        ([0, 0, 0, 1], True),
        ([0, 0, 0, -1], True),
        (np.float32([0.5, 0.5, 0.5, 0.5]), True),
        ([0, 0, 0, 1.0099], True),
        ([0, 0, 0, 1.0101], False),
        ([0, 0, 0, 0.9899], False),
        ([0, 0, 0, 0], False),
        ([np.nan, 0, 0, 1], False),
        ([np.inf, 0, 0, 1], False),
    ),
)
def test_unit_quaternions(quaternion: object, fits: bool) -> None:
    """Within 1 %; the zeros of an unset message, NaN and infinity are none."""
    assert is_unit_quaternion(quaternion) is fits  # type: ignore[arg-type]
