"""A scenario's looks: scenery beside its road, marks on it, its light and weather."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from alpamayo_ros.world.generate import generate_light, generate_stretches
from alpamayo_ros.world.layouts import Junction
from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.scene import CHUNK_M, Item, Light, Marks, Scene
from alpamayo_ros.world.scenery import place_items

_CLEAR_M = ASPHALT_HALF_WIDTH_M + 3.0  # of a joining road's middle: nothing stands there
_DUSK = (0.58, 0.53, 0.60)
_RAIN = (0.78, 0.80, 0.83)


@lru_cache(maxsize=4)
def scene_of(scenario: Scenario) -> Scene:
    """Everything that is drawn and does not move."""
    road = scenario.road
    chunks = int(road.length_m // CHUNK_M)
    town = list(generate_stretches(scenario.seed, chunks))
    for junction in scenario.junctions:
        # Without kerbs, which would run across the joining roads.
        for chunk in range(int(junction.start_m // CHUNK_M), int(junction.end_m // CHUNK_M) + 1):
            for near in (chunk - 1, chunk, chunk + 1):
                if 0 <= near < chunks:
                    town[near] = False
    items = place_items(scenario.seed, road, tuple(town))
    arms = tuple((j.start_m, arm) for j in scenario.junctions for arm in j.arms)
    kept = tuple(
        tuple(item for item in chunk if not _on_an_arm(item, scenario.junctions)) for chunk in items
    )
    marks = Marks(
        tuple((j.start_m - 2.0, j.end_m + 2.0) for j in scenario.junctions),
        tuple(crossing.s_m for crossing in scenario.crossings),
        tuple(light.s_m for light in scenario.lights),
        arms,
    )
    return Scene(scenario.seed, road, tuple(town), kept, (), _light(scenario), marks)


def _on_an_arm(item: Item, junctions: tuple[Junction, ...]) -> bool:
    reach = _CLEAR_M + 0.5 * max(item.size_m[:2])
    for junction in junctions:
        for arm in junction.arms:
            delta = np.array((item.x_m, item.y_m)) - arm.xy_m[0]
            yaw = float(arm.heading_rad[0])
            along = float(delta @ (np.cos(yaw), np.sin(yaw)))
            aside = abs(float(delta @ (-np.sin(yaw), np.cos(yaw))))
            if -reach < along < arm.length_m + reach and aside < reach:
                return True
    return False


def _light(scenario: Scenario) -> Light:
    light = generate_light(scenario.seed)
    share = {"dusk": _DUSK, "rain": _RAIN}.get(scenario.weather, (1.0, 1.0, 1.0))
    red, green, blue = (a * b for a, b in zip(light.tint, share))
    return replace(light, tint=(red, green, blue))
