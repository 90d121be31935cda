"""A plan laid down in the odometry frame, where it stays while the vehicle moves on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S, WAYPOINT_STEP_S, EgoPose, Plan, Pose3

Array = NDArray[np.float64]
TURN_S = 0.05  # over which a yaw rate is taken
RELOCATED_S, RELOCATED_MPS = 0.3, 2.0  # odometry's silence and change of speed at a leap
POINT_TIMES_S = np.arange(N_WAYPOINTS + 1) * WAYPOINT_STEP_S


@dataclass(frozen=True, slots=True)
class Track:
    """65 points, from the vehicle at t0 on, 0.1 s apart."""

    t0_ns: int
    frame_id: str  # of odometry
    xyz_in_odometry: Array  # (65, 3) m
    yaw_in_odometry: Array  # (65,) rad, unwrapped
    speeds_mps: Array  # (65,)
    accelerations_mps2: Array  # (65,) of the step from each point; the last repeats

    def since_s(self, stamp_ns: int) -> float:
        """Seconds from t0 to a stamp."""
        return (stamp_ns - self.t0_ns) / NS_PER_S

    def pose_at(self, stamp_ns: int) -> EgoPose | None:
        """The vehicle there, where it drives as planned; None before the start."""
        since_s = self.since_s(stamp_ns)
        if since_s < 0.0:
            return None
        at = [np.interp(since_s, POINT_TIMES_S, self.xyz_in_odometry[:, k]) for k in range(3)]
        soon_s = since_s + TURN_S
        yaw, then = np.interp((since_s, soon_s), POINT_TIMES_S, self.yaw_in_odometry).tolist()
        return EgoPose(
            stamp_ns,
            np.array(at),
            np.array([0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]),
            float(np.interp(since_s, POINT_TIMES_S, self.speeds_mps)),
            (then - yaw) / TURN_S,
            self.frame_id,
        )

    def moved(self, new_from_old: Pose3, frame_id: str) -> Track:
        """The same way seen from another odometry frame."""
        return replace(
            self,
            frame_id=frame_id,
            xyz_in_odometry=geometry.apply(new_from_old, self.xyz_in_odometry),
            yaw_in_odometry=self.yaw_in_odometry + float(geometry.yaw_of(new_from_old.rotation)),
        )

    def acceleration_before(self, stamp_ns: int) -> float:
        """What was planned for the step before the one that a stamp lies in; 0 after the end."""
        index = int(np.floor(self.since_s(stamp_ns) / WAYPOINT_STEP_S + 1e-6)) - 1
        return float(self.accelerations_mps2[max(index, 0)]) if index <= N_WAYPOINTS else 0.0


def track_of(plan: Plan, odometry_from_rig_t0: Pose3, frame_id: str) -> Track:
    """The plan in the odometry frame `frame_id`."""
    xyz = np.concatenate((np.zeros((1, 3)), plan.xyz_in_rig_t0))
    rot = np.concatenate((np.eye(3)[None], plan.rot_in_rig_t0))
    return Track(
        plan.t0_ns,
        frame_id,
        geometry.apply(odometry_from_rig_t0, xyz),
        np.unwrap(geometry.yaw_of(odometry_from_rig_t0.rotation @ rot)),
        plan.speeds_mps,
        np.append(plan.action[:, 0], plan.action[-1, 0]),
    )


def relocation(before: EgoPose, after: EgoPose) -> Pose3 | None:
    """New odometry frame from the old one, where odometry leapt and the vehicle drove on; None
    where it did not: too long a silence, or another speed."""
    dt_s = (after.stamp_ns - before.stamp_ns) / NS_PER_S
    same_drive = abs(after.speed_mps - before.speed_mps) <= RELOCATED_MPS
    if not (0.0 < dt_s <= RELOCATED_S and same_drive):
        return None
    turn, step_m = before.yaw_rate_rps * dt_s, before.speed_mps * dt_s
    rotation = geometry.quaternion_to_rotation(before.quaternion_xyzw)
    middle = rotation @ geometry.yaw_to_rotation(0.5 * turn)
    there = Pose3(
        before.position_m + step_m * middle[:, 0], rotation @ geometry.yaw_to_rotation(turn)
    )
    here = geometry.pose_from_quaternion(after.position_m, after.quaternion_xyzw)
    return geometry.compose(here, geometry.invert(there))
