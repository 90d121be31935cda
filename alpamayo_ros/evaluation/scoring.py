"""Plans of a drive against what the vehicle then did, by its own odometry."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.evaluation import baselines
from alpamayo_ros.evaluation.metrics import HORIZONS, ade, fde, waypoint_times_s
from alpamayo_ros.geometry import quaternion_to_rotation, slerp, yaw_of
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S, EgoPose

Array = NDArray[np.float64]

MAX_GAP_S = 0.5  # between poses: further apart, a straight line is no truth to score against
MAX_SPEED_MPS = 100.0  # between poses: faster, the odometry was reset or changed its map
_METRICS = {"ade_m": ade, "fde_m": fde}


@dataclass(frozen=True, slots=True)
class Drive:
    """The odometry of a whole drive as arrays by rising stamp."""

    stamps_ns: NDArray[np.int64]  # (n,)
    positions_m: Array  # (n, 3) in the odometry frame
    quaternions_xyzw: Array  # (n, 4)
    speeds_mps: Array  # (n,)
    piece: NDArray[np.int64]  # (n,) rises by one at every gap, jump or change of frame

    @property
    def times_s(self) -> Array:
        """(n,) seconds since the first pose."""
        return (self.stamps_ns - self.stamps_ns[0]) / NS_PER_S

    def poses_at(self, times_s: Array) -> tuple[Array, Array]:
        """(n, 3) positions and (n, 3, 3) rotations at (n,) seconds since the first pose."""
        return _interpolate(times_s, self.times_s, self.positions_m), _rotations(self, times_s)


@dataclass(frozen=True, slots=True)
class Futures:
    """What the vehicle did after each of m instants, in the rig frame at each."""

    xyz_m: Array  # (m, 64, 3) at t0 + 0.1 … 6.4 s
    headings_rad: Array  # (m, 64)
    whole: NDArray[np.bool_]  # (m,) False: the odometry does not cover it without a gap
    speeds_mps: Array  # (m,) at t0


class Scorer:
    """Collects poses and plans in any order and scores them when asked."""

    def __init__(self) -> None:
        self._poses: dict[int, EgoPose] = {}
        self._plans: dict[int, Array] = {}
        self._drive: Drive | None = None

    def add_pose(self, pose: EgoPose) -> None:
        """One pose of the rig from the recording's odometry; a repeated stamp counts once."""
        self._poses[pose.stamp_ns] = pose
        self._drive = None

    def add_plan(self, t0_ns: int, xyz_in_rig_t0: ArrayLike) -> None:
        """The plan (64, 2 or 3) made at t0; a second one for the same t0 takes its place."""
        path = np.asarray(xyz_in_rig_t0, dtype=np.float64)
        if path.ndim != 2 or path.shape[0] != N_WAYPOINTS or path.shape[1] not in (2, 3):
            raise ValueError(f"a plan of shape {path.shape}, wanted ({N_WAYPOINTS}, 3)")
        self._plans[int(t0_ns)] = path[:, :2]

    @property
    def drive(self) -> Drive:
        """The odometry collected so far."""
        if self._drive is None:
            self._drive = _drive([self._poses[stamp] for stamp in sorted(self._poses)])
        return self._drive

    def true_future(self, t0_ns: int) -> Array | None:
        """(64, 3) positions at t0 + 0.1 … 6.4 s in the rig frame at t0, or None without them."""
        futures = self.futures(np.array([t0_ns], dtype=np.int64))
        return futures.xyz_m[0] if futures.whole[0] else None

    def scores(self) -> dict[str, Any]:
        """`ade_m` and `fde_m`, each planner | constant_velocity | stand_still -> horizon -> metres.

        Means over the `scored` instants: those whose whole future the odometry covers without a
        gap. `unscored` counts the others; without any scored every mean is None.
        """
        stamps = np.array(sorted(self._plans), dtype=np.int64)
        truth = self.futures(stamps)
        futures, scored, speeds = truth.xyz_m, truth.whole, truth.speeds_mps
        paths = {
            "planner": [self._plans[int(t0)] for t0 in stamps[scored]],
            "constant_velocity": [baselines.constant_velocity(v) for v in speeds[scored]],
            "stand_still": [baselines.stand_still() for _ in stamps[scored]],
        }
        count = int(np.count_nonzero(scored))
        result: dict[str, Any] = {"scored": count, "unscored": len(stamps) - count}
        for key, metric in _METRICS.items():
            result[key] = {
                name: {
                    horizon: float(metric(np.stack(path), futures[scored], n).mean())
                    if count
                    else None
                    for horizon, n in HORIZONS.items()
                }
                for name, path in paths.items()
            }
        return result

    def futures(self, t0_ns: NDArray[np.int64]) -> Futures:
        """The recorded futures of (m,) instants; zeros where they are not whole."""
        count = len(t0_ns)
        if len(self._poses) < 2 or not count:
            zeros = np.zeros((count, N_WAYPOINTS))
            return Futures(np.zeros((*zeros.shape, 3)), zeros, np.zeros(count, bool), zeros[:, 0])
        drive = self.drive
        # Relative to the first stamp: float64 seconds since 1970 resolve only 0.2 microseconds.
        times = drive.times_s
        start = (t0_ns - drive.stamps_ns[0]) / NS_PER_S
        wanted = start[:, None] + waypoint_times_s()
        tolerance = 1e-6
        covered = (start >= times[0] - tolerance) & (wanted[:, -1] <= times[-1] + tolerance)
        before = _before(times, start)
        last = _before(times, wanted[:, -1] - tolerance) + 1
        rotations = _rotations(drive, np.concatenate((start[:, None], wanted), axis=1))
        rotation = rotations[:, 0]
        origin = _interpolate(start, times, drive.positions_m)
        ahead = _interpolate(wanted, times, drive.positions_m) - origin[:, None]
        turned = rotation.swapaxes(-1, -2)[:, None] @ rotations[:, 1:]
        return Futures(
            xyz_m=ahead @ rotation,
            headings_rad=yaw_of(turned),
            whole=covered & (drive.piece[before] == drive.piece[last]),
            speeds_mps=np.interp(start, times, drive.speeds_mps),
        )


def _drive(poses: list[EgoPose]) -> Drive:
    stamps = np.array([pose.stamp_ns for pose in poses], dtype=np.int64)
    positions = np.array([pose.position_m for pose in poses]).reshape(-1, 3)
    step_s = np.diff(stamps) / NS_PER_S
    distance = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    renamed = np.array([a.frame_id != b.frame_id for a, b in pairwise(poses)], dtype=bool)
    # One metre of slack: odometry of a few hundred hertz jitters by more than 100 m/s would allow.
    breaks = (step_s > MAX_GAP_S) | (distance > MAX_SPEED_MPS * step_s + 1.0) | renamed
    return Drive(
        stamps_ns=stamps,
        positions_m=positions,
        quaternions_xyzw=np.array([pose.quaternion_xyzw for pose in poses]).reshape(-1, 4),
        speeds_mps=np.array([pose.speed_mps for pose in poses]),
        piece=np.concatenate(([0], np.cumsum(breaks))).astype(np.int64)[: len(poses)],
    )


def _before(times: Array, wanted: Array) -> NDArray[np.intp]:
    """Index of the last time not after each wanted one, with a successor."""
    return np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)


def _rotations(drive: Drive, wanted: Array) -> Array:
    """(…, 3, 3) odometry from rig at (…,) seconds since the first pose."""
    times, flat = drive.times_s, wanted.reshape(-1)
    before = _before(times, flat)
    fraction = np.clip((flat - times[before]) / (times[before + 1] - times[before]), 0, 1)
    quaternions = slerp(
        drive.quaternions_xyzw[before], drive.quaternions_xyzw[before + 1], fraction
    )
    return quaternion_to_rotation(quaternions).reshape(*wanted.shape, 3, 3)


def _interpolate(wanted: Array, times: Array, positions: Array) -> Array:
    """(…, 3) positions, linear between (n, 3)."""
    return np.stack([np.interp(wanted, times, positions[:, k]) for k in range(3)], axis=-1)
