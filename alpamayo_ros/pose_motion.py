"""The rig's speed and yaw rate by its poses alone, for odometry whose twist is never filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import NS_PER_MS, NS_PER_S, EgoPose

Array = NDArray[np.float64]

# A centimetre of noise leaves 0.05 m/s at 50 Hz and 0.1 m/s at 10 Hz; over 0.3 s it would be twice
# that, and over longer the onset of braking would come out late. 5 Hz has a parabola's three poses
# in it, no more.
WINDOW_NS = 500 * NS_PER_MS
# Shorter, and a centimetre would be 0.14 m/s and more: the motion is not known yet.
MIN_SPAN_NS = 100 * NS_PER_MS
# A parabola's slope at its end does not lag behind steady braking, as a straight line's does by
# half the window; over less than this it would make too much of noise.
PARABOLA_SPAN_NS = 300 * NS_PER_MS
MAX_POSES = 26  # of a window, as 50 Hz has: noise is averaged enough, and 400 Hz cost no more


def motion_by_poses(poses: Sequence[EgoPose]) -> tuple[float, float] | None:
    """Speed in m/s along the rig's x axis (negative in reverse) and yaw rate in rad/s about its z
    axis, both at the last pose; None where the poses span less than 0.1 s.

    `poses` are those of the last WINDOW_NS by rising stamp, of one drive without a jump. Slopes, by
    least squares, of the way driven along the x axis and of the angle turned.
    """
    newest = poses[-1]
    span_ns = newest.stamp_ns - poses[0].stamp_ns
    if span_ns < MIN_SPAN_NS:
        return None
    stride = -(-len(poses) // MAX_POSES)
    chosen = poses[::-stride][::-1]  # with the newest
    times_s = np.array([pose.stamp_ns - newest.stamp_ns for pose in chosen]) / NS_PER_S
    # Differences first: a map's coordinates leave no digits for what is fitted.
    positions = np.array([pose.position_m for pose in chosen])
    steps_m = positions[1:] - positions[:-1]
    quaternions = np.array([pose.quaternion_xyzw for pose in chosen]).T
    ahead = _x_axes(quaternions)
    ways = np.zeros((len(chosen), 2))
    ways[1:, 0] = (steps_m * (ahead[1:] + ahead[:-1])).sum(axis=1).cumsum() / 2.0
    ways[1:, 1] = _turns(quaternions).cumsum()
    degree = 2 if len(chosen) > 2 and span_ns >= PARABOLA_SPAN_NS else 1
    slopes = np.linalg.lstsq(times_s[:, None] ** np.arange(degree + 1), ways, rcond=None)[0][1]
    return float(slopes[0]), float(slopes[1])


def _x_axes(quaternions_xyzw: Array) -> Array:
    """(n, 3) in odometry of (4, n); `geometry` has whole rotations, at five times the cost."""
    x, y, z, w = quaternions_xyzw
    return np.array([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + z * w), 2.0 * (x * z - y * w)]).T


def _turns(quaternions_xyzw: Array) -> Array:
    """(n - 1,) rad from each of (4, n) orientations to the next, about the rig's own z axis."""
    ax, ay, az, aw = quaternions_xyzw[:, :-1]
    bx, by, bz, bw = quaternions_xyzw[:, 1:]
    z = aw * bz - az * bw - ax * by + ay * bx
    w = aw * bw + ax * bx + ay * by + az * bz
    return np.asarray(2.0 * np.arctan2(np.where(w < 0.0, -z, z), np.abs(w)))
