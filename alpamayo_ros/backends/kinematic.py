"""Motion carried on: turn rate and acceleration of odometry, decaying and bounded.

The baseline in every report. It looks at no image; its reasoning describes its trajectory.
"""

from __future__ import annotations

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


class KinematicBackend(PlannerBackend):
    """Needs odometry alone; images pass by unseen."""

    limits = KinematicLimits()

    def load(self) -> None:
        """Read the limits. Raises ModelError on an unknown or non-positive one."""
        known = {entry.name for entry in fields(KinematicLimits)}
        for name, value in self.manifest.options.items():
            if name not in known:
                raise ModelError(
                    f"{self.manifest.path}: unknown option {name}; known: {', '.join(sorted(known))}"
                )
            if not isinstance(value, (int, float)) or not value > 0:
                raise ModelError(f"{self.manifest.path}: {name} is {value!r}, wanted a number > 0")
        self.limits = KinematicLimits(**self.manifest.options)

    def plan(self, sample: PlannerSample) -> Plan:
        """Constant turn rate and acceleration at first, straight and steady in the long run."""
        action = self._action(sample)
        xyz, rot = action_space.integrate(action, sample.speed_mps)
        speeds = (
            sample.speed_mps + np.concatenate(([0.0], np.cumsum(action[:, 0]))) * WAYPOINT_STEP_S
        )
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

    def _action(self, sample: PlannerSample) -> np.ndarray:
        """(64, 2) acceleration and curvature."""
        limits, dt = self.limits, WAYPOINT_STEP_S
        times = np.arange(N_WAYPOINTS) * dt
        start = float(
            np.clip(
                sample.acceleration_mps2,
                -limits.max_deceleration_mps2,
                limits.max_acceleration_mps2,
            )
        )
        acceleration = start * np.exp(-times / limits.acceleration_time_constant_s)
        # Braking ends at standstill instead of leading into reverse (and reversing likewise).
        speed = sample.speed_mps
        for k in range(N_WAYPOINTS):
            after = speed + acceleration[k] * dt
            if speed * after < 0 or (speed == 0 and acceleration[k] < 0):
                after = 0.0
            acceleration[k] = (after - speed) / dt
            speed = after
        speed_t0 = sample.speed_mps
        divisor = np.copysign(max(abs(speed_t0), CURVATURE_SPEED_MPS), speed_t0)
        bound = min(
            limits.max_curvature_1pm,
            limits.max_lateral_acceleration_mps2 / max(speed_t0**2, 1e-6),
        )
        curvature_t0 = float(np.clip(sample.yaw_rate_rps / divisor, -bound, bound))
        curvature = curvature_t0 * np.exp(-times / limits.turn_time_constant_s)
        return np.stack([acceleration, curvature], axis=1)
