"""Poses beside the one that was driven: what the cameras would see there and the expert would do.

Consecutive instants of a drive are alike. Moved at random, each shows another place in the lane
and another direction, and neither can be guessed from the motion so far, which moves along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, PlannerSample
from alpamayo_ros.world.boxes import overlap
from alpamayo_ros.world.sensors import Images
from alpamayo_ros.world.simulation import Simulation

NEWEST = N_FRAMES - 1  # the only frame that such a pose has
_ASIDE_M, _MOST_ASIDE_M = 0.35, 0.9  # standard deviation at strength 1, and the most
_TURN_RAD, _MOST_TURN_RAD = 0.03, 0.10
_ROOM_M = 14.0  # obstacles further away cannot be touched by the move


@contextmanager
def moved_aside(
    simulation: Simulation, rng: np.random.Generator, strength: float
) -> Iterator[None]:
    """Another pose of the ego for a while; its own where it would stand in something."""
    ego, s_m, d_m = simulation.ego, simulation.s_m, simulation.d_m
    aside = _bounded(rng, strength * _ASIDE_M, _MOST_ASIDE_M)
    turn = _bounded(rng, strength * _TURN_RAD, _MOST_TURN_RAD)
    try:
        simulation.ego = replace(
            ego,
            x_m=ego.x_m - aside * float(np.sin(ego.yaw_rad)),
            y_m=ego.y_m + aside * float(np.cos(ego.yaw_rad)),
            yaw_rad=ego.yaw_rad + turn,
        )
        box = simulation.ego_box()
        if any(overlap(box, other) for _, other in simulation.obstacles_near(_ROOM_M)):
            simulation.ego = ego
        else:
            place = simulation.ego.x_m, simulation.ego.y_m
            simulation.s_m, simulation.d_m = simulation.scenario.road.nearest(place, s_m)
        yield
    finally:
        simulation.ego, simulation.s_m, simulation.d_m = ego, s_m, d_m


def seen_newest(sample: PlannerSample, images: Images) -> PlannerSample:
    """The sample with other images in its newest frame; the older ones are not to be looked at.

    The motion so far stays as it was seen from the rig: it moved with it.
    """
    frames = sample.images.copy()
    for row, camera in enumerate(sample.camera_indices):
        frames[row, NEWEST] = images[CAMERA_NAMES[camera]]
    return replace(sample, images=frames)


def _bounded(rng: np.random.Generator, deviation: float, most: float) -> float:
    return float(np.clip(rng.normal(0.0, deviation), -most, most))
