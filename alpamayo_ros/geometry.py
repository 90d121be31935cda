"""Rotations and frame changes in float64.

Quaternions are (…, 4) xyzw of unit length, rotations (…, 3, 3); `a_from_b` maps coordinates in b
to coordinates in a. Vectorised over leading axes: a plan converts its 64 poses in one call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.types import Pose3

Array = NDArray[np.float64]

# Odometry of real vehicles arrives with quaternions rounded to float32 and renormalised by
# filters; 1 % covers that and still refuses the all-zero quaternion of an unset message.
UNIT_QUATERNION_TOLERANCE = 0.01
_IDENTITY = Pose3(np.zeros(3), np.eye(3))


def is_unit_quaternion(quaternion_xyzw: Iterable[float]) -> bool:
    """True where it is finite and its length is 1 within UNIT_QUATERNION_TOLERANCE."""
    return abs(math.hypot(*quaternion_xyzw) - 1.0) <= UNIT_QUATERNION_TOLERANCE  # NaN: False


def quaternion_to_rotation(quaternion_xyzw: ArrayLike) -> Array:
    """(…, 4) xyzw to (…, 3, 3); normalises."""
    q = np.asarray(quaternion_xyzw, dtype=np.float64)
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    entries = (
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return np.stack(entries, axis=-1).reshape(*q.shape[:-1], 3, 3)


def rotation_to_quaternion(rotation: ArrayLike) -> Array:
    """(…, 3, 3) to (…, 4) xyzw with w >= 0.

    Of the four ways to write a quaternion from a matrix each is singular somewhere; the one with
    the largest component is always well conditioned, so all are computed and that one is taken.
    """
    m = np.asarray(rotation, dtype=np.float64)
    m00, m01, m02 = m[..., 0, 0], m[..., 0, 1], m[..., 0, 2]
    m10, m11, m12 = m[..., 1, 0], m[..., 1, 1], m[..., 1, 2]
    m20, m21, m22 = m[..., 2, 0], m[..., 2, 1], m[..., 2, 2]
    options = np.stack(
        [
            np.stack([1 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12], axis=-1),
            np.stack([m01 + m10, 1 - m00 + m11 - m22, m12 + m21, m02 - m20], axis=-1),
            np.stack([m02 + m20, m12 + m21, 1 - m00 - m11 + m22, m10 - m01], axis=-1),
            np.stack([m21 - m12, m02 - m20, m10 - m01, 1 + m00 + m11 + m22], axis=-1),
        ],
        axis=-2,
    )  # (…, 4 ways, 4)
    best = np.argmax(np.diagonal(options, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(options, best[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return q * np.where(q[..., 3:] < 0, -1.0, 1.0)


def slerp(start_xyzw: ArrayLike, end_xyzw: ArrayLike, fraction: ArrayLike) -> Array:
    """(n, 4) rotations `fraction` (n,) of the way along the shorter arc."""
    a = np.asarray(start_xyzw, dtype=np.float64)
    b = np.asarray(end_xyzw, dtype=np.float64)
    u = np.asarray(fraction, dtype=np.float64)[..., None]
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(cosine < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    # Below 1e-4 rad sin(angle) loses digits and the chord equals the arc to 1e-9: interpolate it.
    small = angle < 1e-4
    sine = np.where(small, 1.0, np.sin(angle))
    weight_a = np.where(small, 1.0 - u, np.sin((1.0 - u) * angle) / sine)
    weight_b = np.where(small, u, np.sin(u * angle) / sine)
    result = weight_a * a + weight_b * b
    return result / np.linalg.norm(result, axis=-1, keepdims=True)


def yaw_to_rotation(yaw_rad: ArrayLike) -> Array:
    """(…,) angles about z to (…, 3, 3)."""
    yaw = np.asarray(yaw_rad, dtype=np.float64)
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    rows = [[c, -s, zero], [s, c, zero], [zero, zero, one]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def euler_to_rotation(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Array:
    """(3, 3) of turns about x, then y, then z, of axes that stand still."""
    (cy, cx), (sy, sx) = np.cos([pitch_rad, roll_rad]), np.sin([pitch_rad, roll_rad])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    return np.asarray(yaw_to_rotation(yaw_rad) @ about_y @ about_x)


def yaw_of(rotation: ArrayLike) -> Array:
    """(…, 3, 3) to the heading of its x axis in the xy plane, in (-pi, pi]."""
    m = np.asarray(rotation, dtype=np.float64)
    return np.arctan2(m[..., 1, 0], m[..., 0, 0])


def identity_pose() -> Pose3:
    """The transform that changes nothing."""
    return _IDENTITY


def is_identity(a_from_b: Pose3) -> bool:
    """Whether it changes nothing, exactly."""
    turns = a_from_b.rotation != _IDENTITY.rotation
    return not (a_from_b.translation_m.any() or turns.any())


def pose_from_quaternion(translation_m: ArrayLike, quaternion_xyzw: ArrayLike) -> Pose3:
    """A transform from its translation (3,) and quaternion (4,) xyzw."""
    return Pose3(
        np.asarray(translation_m, dtype=np.float64), quaternion_to_rotation(quaternion_xyzw)
    )


def compose(a_from_b: Pose3, b_from_c: Pose3) -> Pose3:
    """a_from_c."""
    return Pose3(
        a_from_b.rotation @ b_from_c.translation_m + a_from_b.translation_m,
        a_from_b.rotation @ b_from_c.rotation,
    )


def invert(a_from_b: Pose3) -> Pose3:
    """b_from_a."""
    return Pose3(-a_from_b.rotation.T @ a_from_b.translation_m, a_from_b.rotation.T)


def apply(a_from_b: Pose3, points_in_b: ArrayLike) -> Array:
    """(…, 3) points in b to a."""
    points = np.asarray(points_in_b, dtype=np.float64)
    return points @ a_from_b.rotation.T + a_from_b.translation_m
