"""Recorded poses as odometry: the twist in the rig's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros import geometry
from alpamayo_ros.types import Pose3

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Motion:
    """Poses by rising stamp, and the motion at each."""

    stamps_us: NDArray[np.int64]  # (n,)
    positions_m: Array  # (n, 3)
    quaternions_xyzw: Array  # (n, 4) odometry from rig
    velocities_mps: Array  # (n, 3) in the rig frame
    turn_rates_rps: Array  # (n, 3) in the rig frame


def motion_of(
    stamps_us: ArrayLike,
    positions_m: ArrayLike,
    quaternions_xyzw: ArrayLike,
    velocities_in_odometry_mps: ArrayLike | None = None,
) -> Motion:
    """Motion from poses; velocities by differences where none were recorded.

    Turn rates are always differences of neighbouring rotations. Raises ValueError for fewer than
    two poses, stamps that do not rise, or numbers that are none.
    """
    stamps = np.asarray(stamps_us, dtype=np.int64)
    positions = np.asarray(positions_m, dtype=np.float64)
    quaternions = np.asarray(quaternions_xyzw, dtype=np.float64)
    if len(stamps) < 2 or (np.diff(stamps) <= 0).any():
        raise ValueError("fewer than two poses, or stamps that do not rise")
    lengths = np.linalg.norm(quaternions, axis=1)
    if not (np.isfinite(positions).all() and (np.abs(lengths - 1) < 0.01).all()):
        raise ValueError("positions that are not finite, or rotations that are none")
    times = (stamps - stamps[0]) * 1e-6
    rotations = geometry.quaternion_to_rotation(quaternions)
    if velocities_in_odometry_mps is None:
        velocities = np.gradient(positions, times, axis=0)
    else:
        velocities = np.asarray(velocities_in_odometry_mps, dtype=np.float64)
    return Motion(
        stamps,
        positions,
        quaternions,
        np.einsum("nji,nj->ni", rotations, velocities),
        _turn_rates(rotations, times),
    )


def rig_motion(
    stamps_us: ArrayLike,
    positions_m: ArrayLike,
    rotations: ArrayLike,
    rig_from_sensor: Pose3,
) -> Motion:
    """The rig's motion from the poses (n, 3), (n, 3, 3) of a sensor on it. Raises ValueError."""
    sensor_from_rig = geometry.invert(rig_from_sensor)
    turn = np.asarray(rotations, dtype=np.float64)
    rig_positions = np.asarray(positions_m) + turn @ sensor_from_rig.translation_m
    quaternions = geometry.rotation_to_quaternion(turn @ sensor_from_rig.rotation)
    return motion_of(stamps_us, rig_positions, quaternions)


def _turn_rates(rotations: Array, times_s: Array) -> Array:
    """(n, 3) from the neighbours on both sides, in the rig frame."""
    count = len(times_s)
    before, after = np.maximum(np.arange(count) - 1, 0), np.minimum(np.arange(count) + 1, count - 1)
    turned = geometry.rotation_to_quaternion(rotations[before].swapaxes(-1, -2) @ rotations[after])
    half = np.arctan2(np.linalg.norm(turned[:, :3], axis=1), turned[:, 3])
    # 2·half / sin(half) tends to 2 where nothing turns.
    factor = 2.0 / np.maximum(np.sinc(half / np.pi), 1e-9)
    return turned[:, :3] * factor[:, None] / (times_s[after] - times_s[before])[:, None]
