"""The world of a seed: road, stretches of town and country, scenery, traffic and light."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from alpamayo_ros.world.road import generate_road
from alpamayo_ros.world.scene import CHUNK_M, Light, OncomingCar, Scene
from alpamayo_ros.world.scenery import car_look, place_items

# Each part draws from numbers of its own, so that a change of one leaves the others as they were.
_STREAM_STRETCH, _STREAM_TRAFFIC, _STREAM_LIGHT = 3, 5, 6


@lru_cache(maxsize=4)
def generate_scene(seed: int, length_m: float, duration_s: float) -> Scene:
    """The scene of a seed: its road for `length_m`, its traffic for `duration_s`."""
    road = generate_road(seed, length_m)
    chunks = int(road.length_m // CHUNK_M)
    town = generate_stretches(seed, chunks)
    items = place_items(seed, road, town)
    traffic = _traffic(seed, road.length_m + 14.0 * duration_s)
    return Scene(seed, road, town, items, traffic, generate_light(seed))


def generate_stretches(seed: int, chunks: int) -> tuple[bool, ...]:
    """Town and country by turns, four to seven chunks each."""
    rng = np.random.default_rng([seed, _STREAM_STRETCH])
    town: list[bool] = []
    here = bool(rng.random() < 0.5)
    while len(town) < chunks:
        town.extend([here] * int(rng.integers(4, 8)))
        here = not here
    return tuple(town[:chunks])


def _traffic(seed: int, reach_m: float) -> tuple[OncomingCar, ...]:
    # One speed for all, that even the tightest bend allows: nobody catches anybody up.
    rng = np.random.default_rng([seed, _STREAM_TRAFFIC])
    speed = float(rng.uniform(7.5, 9.0))
    cars: list[OncomingCar] = []
    s_m = 110.0
    while True:
        s_m += float(rng.uniform(35.0, 160.0))
        if s_m > reach_m:
            return tuple(cars)
        cars.append(OncomingCar(f"oncoming{len(cars)}", s_m, speed, *car_look(rng)))


def generate_light(seed: int) -> Light:
    rng = np.random.default_rng([seed, _STREAM_LIGHT])
    azimuth, elevation = rng.uniform(0.0, 2.0 * np.pi), np.deg2rad(rng.uniform(25.0, 60.0))
    low = (np.cos(elevation) - 0.5) / 0.41  # 1 with the sun low: warmer and darker
    tint = (1.0, 1.0 - 0.05 * low, 1.0 - 0.14 * low)
    sun = (
        float(np.cos(azimuth) * np.cos(elevation)),
        float(np.sin(azimuth) * np.cos(elevation)),
        float(np.sin(elevation)),
    )
    return Light(
        sun, tint, float(rng.uniform(14.0, 40.0)), float(rng.uniform(0.0, 6.28)),
        float(rng.uniform(0.1, 0.35)),
    )  # fmt: skip
