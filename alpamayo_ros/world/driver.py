"""The driver of recordings: keeps the lane, slows for bends, stops once on long drives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, Road
from alpamayo_ros.world.vehicle import Command, EgoState

LATERAL_LIMIT_MPS2 = 2.0
_PLANNED_LATERAL_MPS2 = 1.7  # what is planned for, so that steering corrections stay in the limit
_ACCELERATION_MPS2, _BRAKING_MPS2 = 1.3, 1.5
_JERK_MPS3 = 2.5
_CONVERGENCE_M = 7.0  # lateral errors decay over about this distance
_STOP_DWELL_S = 3.0
_WANDER_M = 0.12  # nobody drives on a rail
_STREAM = 2


class LaneDriver:
    """Commands from the true state of the world; call `command` once a control step."""

    def __init__(
        self, road: Road, seed: int, cruise_mps: float, stop_at_m: float | None = None
    ) -> None:
        self._road = road
        self._limit_mps = speed_profile(road, cruise_mps)
        self._stop_at_m = stop_at_m
        self._standing_s = 0.0
        self._acceleration = 0.0
        rng = np.random.default_rng([seed, _STREAM])
        self._waves_1pm = 2.0 * np.pi / rng.uniform((60.0, 25.0), (140.0, 50.0))
        self._phases = rng.uniform(0.0, 2.0 * np.pi, 2)

    def target_speed(self, s_m: float) -> float:
        """The speed to drive at arc length s, m/s."""
        speed = float(np.interp(s_m, self._road.s_m, self._limit_mps))
        if self._stop_at_m is not None:
            left_m = max(self._stop_at_m - s_m, 0.0)
            speed = min(speed, float(np.sqrt(2.0 * 0.8 * _BRAKING_MPS2 * left_m)))
        return speed

    def command(self, state: EgoState, dt_s: float) -> Command:
        """The command to hold for the next `dt_s`."""
        s_m, d_m = self._road.nearest((state.x_m, state.y_m))
        self._count_standing(state, s_m, dt_s)
        return Command(self._accelerate(state, s_m, dt_s), self._steer(state, s_m, d_m))

    def _count_standing(self, state: EgoState, s_m: float, dt_s: float) -> None:
        if self._stop_at_m is None or state.speed_mps > 0.15 or s_m < self._stop_at_m - 3.0:
            return
        self._standing_s += dt_s
        if self._standing_s > _STOP_DWELL_S:
            self._stop_at_m = None

    def _accelerate(self, state: EgoState, s_m: float, dt_s: float) -> float:
        target = self.target_speed(s_m + 0.4 * state.speed_mps)
        wanted = float(
            np.clip((target - state.speed_mps) / 0.6, -2.0 * _BRAKING_MPS2, _ACCELERATION_MPS2)
        )
        change = _JERK_MPS3 * dt_s
        self._acceleration += float(np.clip(wanted - self._acceleration, -change, change))
        return self._acceleration

    def _steer(self, state: EgoState, s_m: float, d_m: float) -> float:
        phase = self._waves_1pm * s_m + self._phases
        wander = 0.5 * _WANDER_M * float(np.sin(phase).sum())
        error = d_m - (EGO_LANE_OFFSET_M + wander)
        heading_error = state.yaw_rad - float(self._road.heading(s_m))
        heading_error = float(np.arctan2(np.sin(heading_error), np.cos(heading_error)))
        centre = float(self._road.curvature(s_m))
        lane = centre / (1.0 - centre * d_m)
        # Critically damped in the distance driven, whatever the speed.
        return lane - error / _CONVERGENCE_M**2 - 2.0 * heading_error / _CONVERGENCE_M


def speed_profile(road: Road, cruise_mps: float) -> NDArray[np.float64]:
    """(N,) m/s at the road's samples: the bend's limit, approached at comfortable braking."""
    lane = np.abs(road.curvature_1pm / (1.0 - road.curvature_1pm * EGO_LANE_OFFSET_M))
    speed = np.minimum(cruise_mps, np.sqrt(_PLANNED_LATERAL_MPS2 / np.maximum(lane, 1e-6)))
    gain = 2.0 * 0.8 * _BRAKING_MPS2 * float(road.s_m[1] - road.s_m[0])
    for i in range(len(speed) - 2, -1, -1):
        speed[i] = min(speed[i], float(np.sqrt(speed[i + 1] ** 2 + gain)))
    return speed
