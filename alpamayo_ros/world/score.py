"""What is measured of one closed-loop drive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alpamayo_ros.world.boxes import gap_m
from alpamayo_ros.world.scenarios import START_M
from alpamayo_ros.world.simulation import STEP_NS, Simulation

DEPARTURE_OVER_M = -0.1  # a departure ends where the footprint is back inside by this much
LOST_M = 2.5  # so far outside the road is lost and the drive over
_GAP_EVERY = 5  # steps
_STANDING_MPS = 0.1
_DT_S = STEP_NS * 1e-9


@dataclass
class Score:
    """Follow a simulation step by step; `result` sums up."""

    simulation: Simulation
    departures: int = 0
    collisions: list[str] = field(default_factory=list)  # what was touched, once each
    red_lights_run: list[str] = field(default_factory=list)
    closest_m: float = np.inf
    worst_outside_m: float = -np.inf
    ended: str = ""  # why the drive ended early
    first_fault_s: float | None = None
    track: list[tuple[float, float, float, float]] = field(default_factory=list)  # x, y, yaw, v

    def __post_init__(self) -> None:
        self._outside = False
        self._steps = 0
        self._accelerations: list[float] = []
        self._lateral: list[float] = []
        self._ages: list[float] = []
        self._standing_s, self._longest_stand_s = 0.0, 0.0
        self._front_m = self._front()

    def update(self, plan_age_s: float) -> None:
        """After every step."""
        simulation, ego = self.simulation, self.simulation.ego
        self._steps += 1
        self._accelerations.append(ego.acceleration_mps2)
        self._lateral.append(ego.speed_mps**2 * ego.curvature_1pm)
        if np.isfinite(plan_age_s):
            self._ages.append(plan_age_s)
        if self._steps % _GAP_EVERY == 0:
            self.track.append((ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps))
        self._standing_s = self._standing_s + _DT_S if ego.speed_mps < _STANDING_MPS else 0.0
        self._longest_stand_s = max(self._longest_stand_s, self._standing_s)
        self._watch_lane()
        self._watch_obstacles()
        self._watch_lights()
        if simulation.s_m > simulation.scenario.road.length_m - 5.0:
            self.ended = "the road ended"

    def _watch_lane(self) -> None:
        outside = self.simulation.outside_m()
        self.worst_outside_m = max(self.worst_outside_m, outside)
        if outside > 0.0 and not self._outside:
            self.departures += 1
            self._fault()
        self._outside = outside > (DEPARTURE_OVER_M if self._outside else 0.0)
        if outside > LOST_M:
            self.ended = "left the road"

    def _watch_obstacles(self) -> None:
        ego = self.simulation.ego_box()
        for name, box in self.simulation.obstacles_near():
            apart = gap_m(ego, box)
            self.closest_m = min(self.closest_m, apart)
            if apart == 0.0:
                self._fault()
                self.ended = f"collision with {name}"
                if name not in self.collisions:
                    self.collisions.append(name)

    def _watch_lights(self) -> None:
        before, self._front_m = self._front_m, self._front()
        for light in self.simulation.scenario.lights:
            if before <= light.s_m < self._front_m:
                if light.colour(self.simulation.time_s) == "red":
                    self.red_lights_run.append(light.name)
                    self._fault()

    def _front(self) -> float:
        return self.simulation.s_m + self.simulation.parameters.front_m

    def _fault(self) -> None:
        if self.first_fault_s is None:
            self.first_fault_s = self.simulation.time_s

    @property
    def clean(self) -> bool:
        """Neither left its lane, nor touched anything, nor ran a red light."""
        return not (self.departures or self.collisions or self.red_lights_run)

    def result(self) -> dict[str, Any]:
        """Figures as JSON takes them; accelerations in m/s^2, jerk in m/s^3."""
        acceleration = np.array(self._accelerations)
        # Jerk over 0.1 s: the finest that a passenger notices, and an accelerometer shows.
        jerk = np.abs(acceleration[5:] - acceleration[:-5]) / (5 * _DT_S)
        lateral, ages = np.abs(self._lateral), np.array(self._ages)
        driven_s = self._steps * _DT_S
        simulation = self.simulation
        return {
            "scenario": simulation.scenario.kind,
            "seed": simulation.scenario.seed,
            "weather": simulation.scenario.weather,
            "seconds": round(driven_s, 3),
            "ended": self.ended,
            "clean": self.clean,
            "progress_m": round(simulation.s_m - START_M, 3),
            "mean_speed_mps": round((simulation.s_m - START_M) / max(driven_s, _DT_S), 3),
            "lane_departures": self.departures,
            "worst_outside_m": round(max(self.worst_outside_m, -99.0), 3),
            "collisions": list(self.collisions),
            "red_lights_run": list(self.red_lights_run),
            "closest_gap_m": round(self.closest_m, 3) if np.isfinite(self.closest_m) else None,
            "longest_stand_s": round(self._longest_stand_s, 2),
            "max_acceleration_mps2": _largest(acceleration),
            "max_braking_mps2": _largest(-acceleration),
            "max_lateral_mps2": _largest(lateral),
            "jerk_p99_mps3": round(float(np.percentile(jerk, 99)), 3) if len(jerk) else 0.0,
            "jerk_max_mps3": _largest(jerk),
            "plan_age_mean_ms": round(float(1e3 * ages.mean()), 2) if len(ages) else None,
            "plan_age_max_ms": round(float(1e3 * ages.max()), 2) if len(ages) else None,
            "first_fault_s": self.first_fault_s,
        }


def _largest(values: np.ndarray) -> float:
    return round(max(float(values.max()), 0.0), 3) if len(values) else 0.0
