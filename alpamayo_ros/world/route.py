"""The way to drive through a scenario: offsets and speeds along the road, as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, STEP_M
from alpamayo_ros.world.scenario import Scenario, Shift, SlowStretch

Array = NDArray[np.float64]

LATERAL_MPS2 = 1.7  # what bends are slowed for
BRAKING_MPS2 = 1.3  # at which bends and slow stretches are approached


@dataclass(frozen=True)
class RoutePoint:
    """The way at one arc length."""

    road_curvature_1pm: float
    offset_m: float  # of the way from the road's centre line
    slope: float  # its derivative along the road
    curvature_1pm: float  # of the way itself
    speed_mps: float  # no faster than this


class Route:
    """Lookups by arc length; cheap, since the expert makes hundreds a plan."""

    def __init__(self, scenario: Scenario) -> None:
        road = scenario.road
        self.scenario = scenario
        self._last = len(road.s_m) - 2
        offset, slope, bend = offsets(scenario.shifts, road.s_m)
        curvature = road.curvature_1pm / (1.0 - road.curvature_1pm * offset) + bend
        speed = _speeds(scenario, road.s_m, curvature)
        self._columns = [
            column.tolist() for column in (road.curvature_1pm, offset, slope, curvature, speed)
        ]

    def at(self, s_m: float) -> RoutePoint:
        """The way at s, linear between the stored points."""
        place = s_m / STEP_M
        index = min(max(int(place), 0), self._last)
        share = min(max(place - index, 0.0), 1.0)
        return RoutePoint(
            *(column[index] + share * (column[index + 1] - column[index])
              for column in self._columns)
        )  # fmt: skip

    def speed(self, s_m: float) -> float:
        """The speed to drive at s, m/s."""
        index = min(max(int(s_m / STEP_M), 0), self._last)
        return float(self._columns[4][index])

    def shift_at(self, s_m: float, reach_m: float) -> Shift | None:
        """The first shift that has not ended at s and begins within `reach_m`."""
        for shift in self.scenario.shifts:
            if shift.end_m > s_m:
                return shift if shift.start_m < s_m + reach_m else None
        return None

    def slow_at(self, s_m: float, reach_m: float) -> SlowStretch | None:
        """The first slow stretch that has not ended at s and begins within `reach_m`."""
        for stretch in self.scenario.slow:
            if stretch.end_m > s_m:
                return stretch if stretch.start_m < s_m + reach_m else None
        return None


def offsets(shifts: tuple[Shift, ...], s_m: Array) -> tuple[Array, Array, Array]:
    """The way's offset from the centre line (N,), and its first and second derivatives."""
    offset = np.full(len(s_m), EGO_LANE_OFFSET_M)
    slope, bend = np.zeros(len(s_m)), np.zeros(len(s_m))
    for shift in shifts:
        for start, end, sign in (
            (shift.start_m, shift.full_m, 1.0),
            (shift.full_end_m, shift.end_m, -1.0),
        ):
            length = end - start
            u = np.clip((s_m - start) / length, 0.0, 1.0)
            # A quintic: its slope and bend are 0 at both ends.
            height = sign * shift.offset_m
            offset += height * u**3 * (10.0 - 15.0 * u + 6.0 * u * u)
            slope += height / length * 30.0 * u**2 * (1.0 - u) ** 2
            bend += height / length**2 * 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u)
    return offset, slope, bend


def _speeds(scenario: Scenario, s_m: Array, curvature: Array) -> Array:
    """(N,) m/s: cruise, bends and slow stretches, approached at comfortable braking."""
    speed = np.minimum(
        scenario.cruise_mps, np.sqrt(LATERAL_MPS2 / np.maximum(np.abs(curvature), 1e-6))
    )
    for stretch in scenario.slow:
        inside = (s_m >= stretch.start_m) & (s_m <= stretch.end_m)
        speed[inside] = np.minimum(speed[inside], stretch.speed_mps)
    gain = 2.0 * BRAKING_MPS2 * STEP_M
    result = speed.tolist()
    for i in range(len(result) - 2, -1, -1):
        reachable = math.sqrt(result[i + 1] ** 2 + gain)
        if reachable < result[i]:
            result[i] = reachable
    return np.array(result)
