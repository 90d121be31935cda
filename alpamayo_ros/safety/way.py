"""The path that a stop follows: the last good plan's, or an arc where there is none."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.safety.limits import VehicleLimits
from alpamayo_ros.safety.track import Track
from alpamayo_ros.types import EgoPose

# Points nearer than this to the one before say nothing about direction or curvature.
APART_M = 0.02
# Further away than this the vehicle is no longer on that way: steering back would be a manoeuvre.
OFF_M, OFF_RAD = 1.5, 0.6
# An arc is taken to be free for as long as the vehicle would have taken to notice otherwise.
ARC_S, ARC_STEP_M, ARC_MIN_M = 4.0, 0.5, 1.0
CURVATURE_SPEED_MPS = 1.0  # below it the ratio of yaw rate and speed is noise


@dataclass(frozen=True, slots=True)
class OnWay:
    """Where the vehicle is, seen from the way."""

    along_m: float
    aside_m: float  # left positive
    turned_rad: float  # the rig's heading minus the way's


class Way:
    """A line in the odometry frame with curvature, speed and acceleration along it."""

    def __init__(
        self,
        xy_m: np.ndarray,
        yaw_rad: np.ndarray,
        speeds_mps: np.ndarray,
        accelerations_mps2: np.ndarray,
        frame_id: str,
    ) -> None:
        """Rows are points; all arrays have one length, headings are unwrapped."""
        steps = np.hypot(*np.diff(xy_m, axis=0).T)
        keep = np.concatenate(([True], steps > APART_M))
        self.frame_id = frame_id
        self._xy, self._yaw = xy_m[keep], yaw_rad[keep]
        lengths = np.hypot(*np.diff(self._xy, axis=0).T)
        self._along: list[float] = np.concatenate(([0.0], np.cumsum(lengths))).tolist()
        curvature = np.diff(self._yaw) / lengths if len(lengths) else np.zeros(0)
        self._curvature: list[float] = [*curvature.tolist(), 0.0]
        self._speeds: list[float] = speeds_mps[keep].tolist()
        if len(speeds_mps) and speeds_mps[-1] < APART_M:
            self._speeds[-1] = 0.0  # it ends in a stop, whose last points lay on one spot
        self._accelerations: list[float] = accelerations_mps2[keep].tolist()

    @property
    def length_m(self) -> float:
        """From its first to its last point."""
        return self._along[-1]

    def locate(self, pose: EgoPose) -> OnWay | None:
        """The vehicle's place on the way; None where it is not on it."""
        if pose.frame_id != self.frame_id:
            return None
        here, yaw = pose.position_m[:2], _yaw(pose)
        if len(self._xy) < 2:
            along, index, side = 0.0, 0, here - self._xy[0]
        else:
            start, leg = self._xy[:-1], np.diff(self._xy, axis=0)
            share = np.sum((here - start) * leg, axis=1) / np.sum(leg * leg, axis=1)
            share = np.clip(share, 0.0, 1.0)
            apart = here - (start + share[:, None] * leg)
            index = int(np.argmin(np.sum(apart * apart, axis=1)))
            side = apart[index]
            along = self._along[index] + float(share[index]) * float(np.hypot(*leg[index]))
        if float(np.hypot(*side)) > OFF_M:
            return None
        heading = float(np.interp(along, self._along, self._yaw))
        turned = math.remainder(yaw - heading, math.tau)
        if abs(turned) > OFF_RAD:
            return None
        aside = -math.sin(heading) * float(side[0]) + math.cos(heading) * float(side[1])
        return OnWay(along, aside, turned)

    def at(self, along_m: float) -> tuple[float, float, float]:
        """(curvature, speed, acceleration) at a place; beyond the end straight, and as at it."""
        index = bisect.bisect_right(self._along, along_m) - 1
        index = min(max(index, 0), len(self._along) - 1)
        speed = self._speeds[index]
        if index + 1 < len(self._along):
            span = self._along[index + 1] - self._along[index]
            speed += (along_m - self._along[index]) / span * (self._speeds[index + 1] - speed)
        return self._curvature[index], max(speed, 0.0), self._accelerations[index]


def way_of(track: Track) -> Way:
    """A plan's path with its speeds."""
    return Way(
        track.xyz_in_odometry[:, :2],
        track.yaw_in_odometry,
        track.speeds_mps,
        track.accelerations_mps2,
        track.frame_id,
    )


def arc_from(pose: EgoPose, limits: VehicleLimits) -> Way:
    """The arc that the vehicle is on, as long as it drives in 4 s."""
    speed = max(pose.speed_mps, 0.0)
    curvature = arc_curvature(pose, limits)
    length = max(ARC_S * speed, ARC_MIN_M)
    along = np.linspace(0.0, length, max(int(length / ARC_STEP_M), 2) + 1)
    yaw = _yaw(pose) + curvature * along
    steps = np.diff(along)
    middle = 0.5 * (yaw[:-1] + yaw[1:])
    xy = np.empty((len(along), 2))
    xy[:, 0] = pose.position_m[0] + np.concatenate(([0.0], np.cumsum(steps * np.cos(middle))))
    xy[:, 1] = pose.position_m[1] + np.concatenate(([0.0], np.cumsum(steps * np.sin(middle))))
    same = np.full(len(along), speed)
    return Way(xy, yaw, same, np.zeros(len(along)), pose.frame_id)


def arc_curvature(pose: EgoPose, limits: VehicleLimits) -> float:
    """Of the vehicle's own motion, within what it may drive."""
    divisor = max(abs(pose.speed_mps), CURVATURE_SPEED_MPS)
    bound = curvature_bound(pose.speed_mps, limits)
    curvature = pose.yaw_rate_rps / math.copysign(divisor, pose.speed_mps)
    return min(max(curvature, -bound), bound)


def curvature_bound(speed_mps: float, limits: VehicleLimits) -> float:
    """The largest at a speed, without dividing by the speed of a standstill."""
    square = speed_mps * speed_mps
    if square * limits.max_curvature_1pm > limits.max_lateral_mps2:
        return limits.max_lateral_mps2 / square
    return limits.max_curvature_1pm


def _yaw(pose: EgoPose) -> float:
    return float(geometry.yaw_of(geometry.quaternion_to_rotation(pose.quaternion_xyzw)))
