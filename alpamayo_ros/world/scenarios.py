"""From (kind, seed) to a scenario: the same for ever, and the same for any length of drive."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from alpamayo_ros.errors import UserError
from alpamayo_ros.world import events
from alpamayo_ros.world.layouts import (
    Junction,
    bending_road,
    junction_road,
    straight_road,
    winding_road,
)
from alpamayo_ros.world.road import LANE_WIDTH_M, Road
from alpamayo_ros.world.scenario import KINDS, WEATHERS, Lead, Oncoming, Scenario, SpeedPhase, Zone
from alpamayo_ros.world.scenery import car_look

# The one speed limit of this world: one that differed by seed no planner could see.
CRUISE_MPS = 11.0
START_M = 60.0  # arc length of the start, so that there is road behind the cameras
_ROAD_AHEAD_M = 420.0  # beyond where the fastest drive ends: what the last frame sees
_ROAD, _LEAD, _ONCOMING, _EVENTS, _WEATHER = range(5)
_WEATHER_SHARES = (0.6, 0.2, 0.2)
_JUNCTION_MARGIN_M, _JUNCTION_SWEEP_M = 6.0, 0.9
_ONCOMING_SPACING_M: dict[str, tuple[float, float]] = {
    "straight": (60.0, 200.0),
    "lead": (60.0, 200.0),
    "nudge": (160.0, 420.0),
    "cones": (80.0, 240.0),
}

Content = dict[str, Any]


@lru_cache(maxsize=8)
def make_scenario(kind: str, seed: int, seconds: float = 60.0) -> Scenario:
    """The scenario of a kind and a seed. Raises UserError naming the kinds that there are."""
    if kind not in KINDS:
        raise UserError(f"no scenario {kind!r}; there are {', '.join(KINDS)}")
    if seed < 0:
        raise UserError(f"seed {seed} is negative; seeds are whole numbers from 0")
    if not 1.0 <= seconds <= 600.0:
        raise UserError(f"{seconds:g} s is not a length from 1 to 600 s")
    cruise = CRUISE_MPS
    length = START_M + cruise * seconds + _ROAD_AHEAD_M
    road, junctions = _road(kind, seed, length)
    zones = tuple(_junction_zone(junction) for junction in junctions)
    content: Content = {"zones": zones}
    if kind in _EVENT_MAKERS:
        makers = _EVENT_MAKERS[kind]
        reach = START_M + cruise * seconds + 60.0
        _merge(content, _place(_rng(kind, seed, _EVENTS), road, makers, reach))
    if kind == "lead":
        content["lead"] = _lead(_rng(kind, seed, _LEAD), cruise)
    if kind == "junction":
        rng = _rng(kind, seed, _EVENTS)
        lights = [events.junction_light(rng, j.start_m - 8.0) for j in junctions]
        content["lights"] = tuple(light for light in lights if light is not None)
    if kind in _ONCOMING_SPACING_M:
        reach = START_M + cruise * seconds + 10.0 * seconds + 300.0
        spacing = _ONCOMING_SPACING_M[kind]
        content["oncoming"] = _oncoming(_rng(kind, seed, _ONCOMING), spacing, reach)
    weather = str(_rng(kind, seed, _WEATHER).choice(WEATHERS, p=_WEATHER_SHARES))
    return Scenario(kind, seed, seconds, road, cruise, weather, junctions, **content)


def _rng(kind: str, seed: int, stream: int) -> np.random.Generator:
    """Numbers of one part alone, so that a change of one leaves the others as they were."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), stream])


def _road(kind: str, seed: int, length_m: float) -> tuple[Road, tuple[Junction, ...]]:
    rng = _rng(kind, seed, _ROAD)
    if kind == "junction":
        return junction_road(rng, length_m)
    if kind == "straight":
        return straight_road(length_m), ()
    return (winding_road if kind == "curvy" else bending_road)(rng, length_m), ()


def _junction_zone(junction: Junction) -> Zone:
    """In a junction there are no lane markings, and a vehicle's front sweeps out of its lane."""
    return Zone(
        junction.start_m - _JUNCTION_MARGIN_M,
        junction.end_m + _JUNCTION_MARGIN_M,
        -LANE_WIDTH_M - _JUNCTION_SWEEP_M,
        _JUNCTION_SWEEP_M,
    )


Maker = Callable[[np.random.Generator, Road, float, int], Content]
_EVENT_MAKERS: dict[str, tuple[Maker, ...]] = {
    "nudge": (events.stopped_car,),
    "pedestrian": (events.crossing,),
    "light": (events.stop_light,),
    "cones": (events.narrowing,),
    "mixed": (events.stopped_car, events.crossing, events.stop_light, events.narrowing),
}


def _place(
    rng: np.random.Generator, road: Road, makers: tuple[Maker, ...], reach_m: float
) -> Content:
    """Events one after another, away from tight bends."""
    content: Content = {}
    s_m, number = START_M + float(rng.uniform(70.0, 110.0)), 0
    while s_m < reach_m:
        maker = makers[int(rng.integers(len(makers)))]
        at_m = events.gentle_spot(road, s_m)
        _merge(content, maker(rng, road, at_m, number))
        s_m, number = at_m + float(rng.uniform(115.0, 170.0)), number + 1
    return content


def _merge(content: Content, more: Content) -> None:
    for name, values in more.items():
        content[name] = (*content.get(name, ()), *values)


def _lead(rng: np.random.Generator, cruise_mps: float) -> Lead:
    """Cruises, brakes (now and then hard, now and then to a stop), waits, goes on."""
    phases: list[SpeedPhase] = []
    until = float(rng.uniform(3.0, 6.0))
    phases.append(SpeedPhase(until, cruise_mps * float(rng.uniform(0.7, 0.95)), 1.2))
    while until < 120.0:
        slow = 0.0 if rng.random() < 0.4 else float(rng.uniform(2.0, 5.0))
        until += float(rng.uniform(4.0, 7.0))
        phases.append(SpeedPhase(until, slow, float(rng.uniform(1.5, 4.0))))
        until += float(rng.uniform(7.0, 13.0))
        fast = cruise_mps * float(rng.uniform(0.7, 0.95))
        phases.append(SpeedPhase(until, fast, float(rng.uniform(0.9, 1.5))))
    return Lead(float(rng.uniform(18.0, 35.0)), tuple(phases), *car_look(rng))


def _oncoming(
    rng: np.random.Generator, spacing_m: tuple[float, float], reach_m: float
) -> tuple[Oncoming, ...]:
    cars: list[Oncoming] = []
    speed = float(rng.uniform(7.5, 9.0))
    s_m = START_M + 60.0
    while True:
        s_m += float(rng.uniform(*spacing_m))
        if s_m > reach_m:
            return tuple(cars)
        cars.append(Oncoming(f"oncoming{len(cars)}", s_m, speed, *car_look(rng)))
