"""States beside the one that was driven: what the cameras would see and the expert would do.

Consecutive instants of a drive are alike. Moved at random, each shows another place in the lane,
another direction, and another speed than fits what is ahead; place and direction cannot be
guessed from the motion so far, which moves along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, PlannerSample
from alpamayo_ros.world.bicycle import VehicleState
from alpamayo_ros.world.boxes import overlap
from alpamayo_ros.world.sensors import Images
from alpamayo_ros.world.simulation import Simulation

NEWEST = N_FRAMES - 1  # the only frame that such a state has
# Standard deviations at strength 1, and the most.
_ASIDE_M, _MOST_ASIDE_M = 0.35, 0.9
_AHEAD_M, _MOST_AHEAD_M = 2.0, 6.0
_TURN_RAD, _MOST_TURN_RAD = 0.03, 0.10
_FASTER, _MOST_FASTER = 0.2, 0.6  # the logarithm of a factor
_ROOM_M = 20.0  # obstacles further away cannot be touched by the move


@contextmanager
def moved_aside(
    simulation: Simulation, rng: np.random.Generator, strength: float
) -> Iterator[float]:
    """Another state of the ego for a while, and how many times as fast it is.

    Where it would stand in something only its speed is another.
    """
    ego, s_m, d_m = simulation.ego, simulation.s_m, simulation.d_m
    ahead = bounded(rng, strength * _AHEAD_M, _MOST_AHEAD_M)
    aside = bounded(rng, strength * _ASIDE_M, _MOST_ASIDE_M)
    turn = bounded(rng, strength * _TURN_RAD, _MOST_TURN_RAD)
    factor = float(np.exp(bounded(rng, strength * _FASTER, _MOST_FASTER)))
    faster = replace(ego, speed_mps=factor * ego.speed_mps)
    try:
        simulation.ego = moved(faster, ahead, aside, turn)
        box = simulation.ego_box()
        if any(overlap(box, other) for _, other in simulation.obstacles_near(_ROOM_M)):
            simulation.ego = faster
        else:
            place = simulation.ego.x_m, simulation.ego.y_m
            simulation.s_m, simulation.d_m = simulation.scenario.road.nearest(place, s_m)
        yield factor
    finally:
        simulation.ego, simulation.s_m, simulation.d_m = ego, s_m, d_m


def seen_beside(sample: PlannerSample, images: Images, factor: float) -> PlannerSample:
    """The sample with other images in its newest frame; the older ones are not to be looked at.

    The motion so far moved with the rig, and was as curved at `factor` times the speed: to second
    order in time that is so many times as far and as turned, and its square as far to the side.
    """
    frames = sample.images.copy()
    for row, camera in enumerate(sample.camera_indices):
        frames[row, NEWEST] = images[CAMERA_NAMES[camera]]
    scale = np.array((factor, factor**2, factor))
    yaw = factor * geometry.yaw_of(sample.history_rot_in_rig_t0)
    return replace(
        sample,
        images=frames,
        history_xyz_in_rig_t0=scale * sample.history_xyz_in_rig_t0,
        history_rot_in_rig_t0=geometry.yaw_to_rotation(yaw),
        speed_mps=factor * sample.speed_mps,
        acceleration_mps2=factor**2 * sample.acceleration_mps2,
        yaw_rate_rps=factor * sample.yaw_rate_rps,
    )


def moved(ego: VehicleState, ahead_m: float, aside_m: float, turn_rad: float) -> VehicleState:
    """The same vehicle elsewhere: along its own axes, left positive, and turned."""
    cos, sin = float(np.cos(ego.yaw_rad)), float(np.sin(ego.yaw_rad))
    return replace(
        ego,
        x_m=ego.x_m + ahead_m * cos - aside_m * sin,
        y_m=ego.y_m + ahead_m * sin + aside_m * cos,
        yaw_rad=ego.yaw_rad + turn_rad,
    )


def bounded(rng: np.random.Generator, deviation: float, most: float) -> float:
    """A normal draw, no further from 0 than `most`."""
    return float(np.clip(rng.normal(0.0, deviation), -most, most))
