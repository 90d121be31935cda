"""The trajectory that a controller follows, in the odometry frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S, WAYPOINT_STEP_S, Plan, Pose3, readonly

N_POINTS = N_WAYPOINTS + 1
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """65 points from t0 on, 0.1 s apart."""

    t0_ns: int
    xy_in_odometry_m: Array  # (65, 2) of the rig
    yaw_rad: Array  # (65,)
    speed_mps: Array  # (65,) along the rig's x axis
    acceleration_mps2: Array  # (65,) from a point to the next
    sequence: int = 0

    def __post_init__(self) -> None:
        for name, shape in (
            ("xy_in_odometry_m", (N_POINTS, 2)),
            ("yaw_rad", (N_POINTS,)),
            ("speed_mps", (N_POINTS,)),
            ("acceleration_mps2", (N_POINTS,)),
        ):
            array = readonly(getattr(self, name), np.float64, shape, name)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} has values that are not finite")
            object.__setattr__(self, name, array)

    def age_s(self, now_ns: int) -> float:
        """Since t0."""
        return (now_ns - self.t0_ns) / NS_PER_S

    def speed_at(self, age_s: float) -> float:
        """Planned speed at a time after t0; the last one beyond the end."""
        return float(np.interp(age_s, POINT_TIMES_S, self.speed_mps))

    def acceleration_at(self, age_s: float) -> float:
        """Planned acceleration at a time after t0; 0 beyond the end."""
        index = int(age_s / WAYPOINT_STEP_S)
        return float(self.acceleration_mps2[index]) if 0 <= index < N_POINTS - 1 else 0.0


POINT_TIMES_S = np.arange(N_POINTS) * WAYPOINT_STEP_S


def reference_from_plan(plan: Plan, odometry_from_rig_t0: Pose3, sequence: int = 0) -> Reference:
    """A plan brought into the odometry frame: what ~/trajectory says, without the message."""
    xyz = np.concatenate((np.zeros((1, 3)), plan.xyz_in_rig_t0))
    rot = np.concatenate((np.eye(3)[None], plan.rot_in_rig_t0))
    return Reference(
        plan.t0_ns,
        geometry.apply(odometry_from_rig_t0, xyz)[:, :2],
        geometry.yaw_of(odometry_from_rig_t0.rotation @ rot),
        plan.speeds_mps,
        np.append(plan.action[:, 0], plan.action[-1, 0]),
        sequence,
    )
