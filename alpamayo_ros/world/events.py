"""One thing on the road each: a stopped car, a crossing, a stop light, a narrowing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scenario import (
    Cone,
    Crossing,
    Shift,
    SlowStretch,
    StopLight,
    StoppedCar,
    Walker,
    Zone,
)
from alpamayo_ros.world.scene import Colour
from alpamayo_ros.world.scenery import car_look
from alpamayo_ros.world.vehicle import WIDTH_M

Content = dict[str, Any]

_GENTLE_1PM = 1.0 / 75.0
_RAMP_M = 18.0
_PASSING_GAP_M = 1.0  # between the ego and a stopped car, sideways
_COATS: tuple[Colour, ...] = (
    (0.75, 0.15, 0.15), (0.15, 0.25, 0.65), (0.85, 0.75, 0.20), (0.20, 0.20, 0.22),
    (0.85, 0.85, 0.85), (0.15, 0.50, 0.30),
)  # fmt: skip


def gentle_spot(road: Road, s_m: float) -> float:
    """The first place from s on without a tight bend 35 m around it."""
    while s_m < road.length_m - 40.0:
        around = road.curvature(np.arange(s_m - 35.0, s_m + 35.0, 5.0))
        if float(np.abs(around).max()) < _GENTLE_1PM:
            return s_m
        s_m += 5.0
    return s_m


def stopped_car(rng: np.random.Generator, road: Road, s_m: float, number: int) -> Content:
    """At the right edge, so that the lane still has room, or in the way, so that it has not."""
    size, colour = car_look(rng)
    in_the_way = rng.random() < 0.5
    left_side = float(rng.uniform(-1.5, -0.9) if in_the_way else rng.uniform(-2.95, -2.7))
    car = StoppedCar(f"stopped{number}", s_m, left_side - 0.5 * size[1], size, colour)
    gap = _PASSING_GAP_M if in_the_way else 0.55
    shift = left_side + gap + 0.5 * WIDTH_M - EGO_LANE_OFFSET_M
    rear, front = s_m - 0.5 * size[0], s_m + 0.5 * size[0]
    full, full_end = rear - 7.0, front + 3.0
    start, end = full - _RAMP_M, full_end + _RAMP_M
    cause = "stopped vehicle"
    return {
        "stopped": (car,),
        "shifts": (Shift(start, full, full_end, end, shift, cause),),
        "zones": (Zone(start - 5.0, end + 5.0, left_m=LANE_WIDTH_M),) if in_the_way else (),
        "slow": (SlowStretch(start + 4.0, front, 6.0, cause),),
    }


def crossing(rng: np.random.Generator, road: Road, s_m: float, number: int) -> Content:
    """One to three who want to cross; now and then nobody."""
    walkers = []
    for k in range(int(rng.choice((0, 1, 2, 3), p=(0.15, 0.45, 0.3, 0.1)))):
        walkers.append(
            Walker(
                f"walker{number}_{k}",
                1.0 if rng.random() < 0.5 else -1.0,
                float(rng.uniform(1.0, 1.7)),
                float(rng.uniform(24.0, 40.0)),
                float(rng.uniform(-1.2, 1.2)),
                _COATS[int(rng.integers(len(_COATS)))],
            )
        )
    slow = (SlowStretch(s_m - 25.0, s_m + 2.0, 8.0, "crossing"),)
    return {"crossings": (Crossing(s_m, tuple(walkers)),), "slow": slow}


def stop_light(rng: np.random.Generator, road: Road, s_m: float, number: int) -> Content:
    """A light by the road, each with times of its own."""
    return {"lights": (_light(rng, s_m, f"light{number}"),)}


def junction_light(rng: np.random.Generator, s_m: float) -> StopLight | None:
    """A light before a junction, at its near corner; most have none."""
    light = replace(_light(rng, s_m, f"light_at_{s_m:.0f}"), mast_m=6.0)
    return light if rng.random() < 0.35 else None


def _light(rng: np.random.Generator, s_m: float, name: str) -> StopLight:
    green, red = float(rng.uniform(7.0, 12.0)), float(rng.uniform(6.0, 11.0))
    return StopLight(name, s_m, green, 3.0, red, float(rng.uniform(0.0, green + 3.0 + red)))


def narrowing(rng: np.random.Generator, road: Road, s_m: float, number: int) -> Content:
    """Cones cut the lane's right side off and stand along the centre line."""
    cut, left = float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.25, 0.5))
    inner = -LANE_WIDTH_M + cut
    taper, length = 14.0, float(rng.uniform(16.0, 32.0))
    start, end = s_m, s_m + length
    cones: list[Cone] = []
    for along in np.arange(start - taper, end + taper + 0.1, 3.5):
        outside = max(start - along, along - end, 0.0) / taper
        name = f"cone{number}_{len(cones)}"
        cones.append(Cone(name, float(along), inner - cut * outside - 0.25 * outside))
        if outside == 0.0:
            cones.append(Cone(f"{name}l", float(along), left))
    middle = 0.5 * (inner + left)
    shift = Shift(
        start - 22.0, start - 5.0, end + 2.0, end + 18.0, middle - EGO_LANE_OFFSET_M, "narrowing"
    )
    return {
        "cones": tuple(cones),
        "shifts": (shift,),
        "zones": (Zone(start - 25.0, end + 20.0, left_m=left),),
        "slow": (SlowStretch(start - 6.0, end + 2.0, 6.0, "narrowing"),),
    }
