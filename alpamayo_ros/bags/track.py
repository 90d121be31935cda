"""What the vehicle did around an instant of a drive, in the rig frame then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.evaluation.scoring import Drive
from alpamayo_ros.geometry import yaw_of
from alpamayo_ros.types import NS_PER_S, Pose3
from alpamayo_ros.viz.moment import Limits, Recorded
from alpamayo_ros.viz.strips import FUTURE_S, PAST_S

Array = NDArray[np.float64]

_STEP_S = 0.1
_SLOW_MPS = 0.5  # below it, heading over distance is noise over noise
_EDGE_S = 0.05  # extrapolated at most, as the planner does


class Track:
    """One drive's odometry on a grid of 100 ms, cut at gaps and jumps."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        if len(drive.stamps_ns) < 2:
            self._times = np.zeros(0)
            self.limits = Limits(5.0, 0.02)
            return
        end_s = float(drive.times_s[-1])
        self._times = np.arange(0.0, end_s + 1e-9, _STEP_S)
        self._xyz, rotation = drive.poses_at(self._times)
        self._piece = drive.piece[np.searchsorted(drive.times_s, self._times, "right") - 1]
        self._speeds = np.interp(self._times, drive.times_s, drive.speeds_mps)
        self._bends = _curvatures(np.unwrap(yaw_of(rotation)), self._xyz)
        top = 5.0 * np.ceil(max(float(np.abs(self._speeds).max()), 4.0) * 1.1 / 5.0)
        bend = 0.02 * np.ceil(max(float(np.quantile(np.abs(self._bends), 0.99)), 0.01) / 0.02)
        self.limits = Limits(float(top), float(bend))

    def pose_at(self, stamp_ns: int) -> Pose3 | None:
        """odometry from rig; None where odometry does not reach."""
        since_s = self._since(stamp_ns)
        if since_s is None:
            return None
        position, rotation = self._drive.poses_at(np.array([since_s]))
        return Pose3(position[0], rotation[0])

    def around(self, stamp_ns: int) -> Recorded:
        """4 s back and 6.4 s ahead, as far as odometry goes without a gap."""
        since_s, pose = self._since(stamp_ns), self.pose_at(stamp_ns)
        if since_s is None or pose is None:
            return Recorded(np.zeros(0), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
        first, last = np.searchsorted(
            self._times, (since_s - PAST_S - 1e-9, since_s + FUTURE_S + 1e-9)
        )
        here = int(np.clip(np.searchsorted(self._times, since_s, "right") - 1, 0, None))
        chosen = np.arange(first, last)
        chosen = chosen[self._piece[chosen] == self._piece[min(here, len(self._piece) - 1)]]
        return Recorded(
            self._times[chosen] - since_s,
            (self._xyz[chosen] - pose.translation_m) @ pose.rotation,
            self._speeds[chosen],
            self._bends[chosen],
        )

    def _since(self, stamp_ns: int) -> float | None:
        if len(self._times) == 0:
            return None
        since_s = (stamp_ns - int(self._drive.stamps_ns[0])) / NS_PER_S
        end_s = float(self._drive.times_s[-1])
        if not -_EDGE_S <= since_s <= end_s + _EDGE_S:
            return None
        return float(np.clip(since_s, 0.0, end_s))


def _curvatures(yaw_rad: Array, xyz: Array) -> Array:
    """(n,) turned over driven between the neighbours on both sides; 0 where it stands."""
    count = len(yaw_rad)
    before, after = np.maximum(np.arange(count) - 1, 0), np.minimum(np.arange(count) + 1, count - 1)
    driven = np.linalg.norm(xyz[after] - xyz[before], axis=1)
    moves = driven > _SLOW_MPS * _STEP_S * np.maximum(after - before, 1)
    return np.where(moves, (yaw_rad[after] - yaw_rad[before]) / np.where(moves, driven, 1.0), 0.0)
