"""The ego vehicle: a kinematic bicycle about its rear axle, by acceleration and curvature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH_M = 1.9
MAX_CURVATURE_1PM = 0.2


@dataclass(frozen=True)
class Command:
    """What a controller asks for; held until the next one."""

    acceleration_mps2: float = 0.0
    curvature_1pm: float = 0.0  # of the rear axle's path, left positive


@dataclass(frozen=True)
class EgoState:
    """Pose of the rig in the odometry frame and its motion."""

    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0
    speed_mps: float = 0.0  # along the rig's x axis, never negative
    curvature_1pm: float = 0.0

    @property
    def yaw_rate_rps(self) -> float:
        return self.speed_mps * self.curvature_1pm

    @property
    def quaternion_xyzw(self) -> tuple[float, float, float, float]:
        """Odometry from rig."""
        return (0.0, 0.0, float(np.sin(0.5 * self.yaw_rad)), float(np.cos(0.5 * self.yaw_rad)))


def step(state: EgoState, command: Command, dt_s: float) -> EgoState:
    """The state `dt_s` later under a held command: exact, an arc driven at constant acceleration.

    Braking ends in standstill, not in reverse.
    """
    acceleration = command.acceleration_mps2
    curvature = float(np.clip(command.curvature_1pm, -MAX_CURVATURE_1PM, MAX_CURVATURE_1PM))
    moving_s = dt_s
    if acceleration < 0.0:
        moving_s = min(dt_s, state.speed_mps / -acceleration)
    travelled = state.speed_mps * moving_s + 0.5 * acceleration * moving_s**2
    turn = curvature * travelled
    chord = travelled * float(np.sinc(0.5 * turn / np.pi))
    direction = state.yaw_rad + 0.5 * turn
    return EgoState(
        x_m=state.x_m + chord * float(np.cos(direction)),
        y_m=state.y_m + chord * float(np.sin(direction)),
        yaw_rad=state.yaw_rad + turn,
        speed_mps=max(0.0, state.speed_mps + acceleration * moving_s),
        curvature_1pm=curvature,
    )
