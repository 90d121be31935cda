"""Motion carried on: turn rate and acceleration of odometry, decaying and bounded.

The baseline in every report. It looks at no image; its reasoning describes its trajectory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from alpamayo_ros import action_space, decisions, geometry
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import (
    N_WAYPOINTS,
    WAYPOINT_STEP_S,
    Plan,
    PlannerSample,
    ReasoningSource,
    speeds_along,
)

# Below this speed the ratio of yaw rate and speed is noise; the curvature fades out with it.
CURVATURE_SPEED_MPS = 1.0


@dataclass(frozen=True, slots=True)
class KinematicLimits:
    """`options` of models/kinematic.yaml."""

    max_acceleration_mps2: float = 2.0
    max_deceleration_mps2: float = 4.0
    max_lateral_acceleration_mps2: float = 4.0
    max_curvature_1pm: float = 0.2
    acceleration_time_constant_s: float = 1.0
    turn_time_constant_s: float = 3.0


DEFAULT_LIMITS = KinematicLimits()


class KinematicBackend(PlannerBackend):
    """Needs odometry alone; images pass by unseen."""

    reads_reasoning = False
    limits = DEFAULT_LIMITS

    def load(self) -> None:
        """Read the limits. Raises ModelError on an unknown or non-positive one."""
        known = {entry.name for entry in fields(KinematicLimits)}
        for name, value in self.manifest.options.items():
            if name not in known:
                listing = ", ".join(sorted(known))
                raise ModelError(f"{self.manifest.path}: unknown option {name}; known: {listing}")
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ModelError(f"{self.manifest.path}: {name} is {value!r}, wanted a number > 0")
        self.limits = KinematicLimits(**self.manifest.options)

    def plan(self, sample: PlannerSample) -> Plan:
        """Constant turn rate and acceleration at first, straight and steady in the long run."""
        action = carried_on(
            sample.speed_mps, sample.acceleration_mps2, sample.yaw_rate_rps, self.limits
        )
        xyz, rot = action_space.integrate(action, sample.speed_mps)
        speeds = speeds_along(action, sample.speed_mps)
        headings = geometry.yaw_of(rot)
        return Plan(
            t0_ns=sample.t0_ns,
            xyz_in_rig_t0=xyz,
            rot_in_rig_t0=rot,
            action=action,
            speed_t0_mps=sample.speed_mps,
            candidates_xyz_in_rig_t0=xyz[None],
            candidates_rot_in_rig_t0=rot[None],
            reasoning=decisions.describe(speeds, headings),
            reasoning_source=ReasoningSource.TRAJECTORY,
            decisions=decisions.decisions_of(speeds, headings),
            model=self.manifest.name,
        )


def carried_on(
    speed_mps: float,
    acceleration_mps2: float,
    yaw_rate_rps: float,
    limits: KinematicLimits = DEFAULT_LIMITS,
) -> np.ndarray:
    """(64, 2) acceleration and curvature from the motion at t0; the prior of the students too."""
    dt = WAYPOINT_STEP_S
    times = np.arange(N_WAYPOINTS) * dt
    start = float(
        np.clip(acceleration_mps2, -limits.max_deceleration_mps2, limits.max_acceleration_mps2)
    )
    acceleration = start * np.exp(-times / limits.acceleration_time_constant_s)
    # Braking, forwards or in reverse, ends at standstill instead of in the other direction.
    speed_t0 = speed = speed_mps
    stopped = speed == 0 and start < 0
    for k in range(N_WAYPOINTS):
        after = speed + acceleration[k] * dt
        stopped = stopped or speed * after < 0
        if stopped:
            after = 0.0
        acceleration[k] = (after - speed) / dt
        speed = after
    speeds = np.abs(speed_t0 + np.concatenate(([0.0], np.cumsum(acceleration))) * dt)
    fastest = np.maximum(speeds[:-1], speeds[1:])  # of each step: it may speed up in a curve
    bound = np.minimum(
        limits.max_curvature_1pm,
        limits.max_lateral_acceleration_mps2 / np.maximum(fastest**2, 1e-6),
    )
    divisor = np.copysign(max(abs(speed_t0), CURVATURE_SPEED_MPS), speed_t0)
    curvature_t0 = float(np.clip(yaw_rate_rps / divisor, -bound[0], bound[0]))
    curvature = curvature_t0 * np.exp(-times / limits.turn_time_constant_s)
    return np.stack([acceleration, np.clip(curvature, -bound, bound)], axis=1)
