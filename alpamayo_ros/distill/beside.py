"""States beside the one that was driven: what the cameras would see and the expert would do.

Consecutive instants of a drive are alike, and a motion so far tells what the driver has seen: who
brakes already brakes on. Moved at random along and across the road and turned, with a speed and an
acceleration that fit nothing, every instant shows another picture that alone tells what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.types import CAMERA_NAMES, HISTORY_STEP_NS, N_FRAMES, N_HISTORY, PlannerSample
from alpamayo_ros.world.bicycle import VehicleState
from alpamayo_ros.world.boxes import overlap
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.sensors import Images
from alpamayo_ros.world.simulation import Simulation

NEWEST = N_FRAMES - 1  # the only frame that such a state has
# Standard deviations at strength 1, and the most.
_ASIDE_M, _MOST_ASIDE_M = 0.35, 0.9
_AHEAD_M, _MOST_AHEAD_M = 8.0, 25.0
_TURN_RAD, _MOST_TURN_RAD = 0.03, 0.10
_FASTER, _MOST_FASTER = 0.2, 0.6  # the logarithm of a factor
_ADDED_MPS, _MOST_ADDED_MPS = 0.8, 2.5
_ACCELERATION_MPS2, _MOST_ACCELERATION_MPS2 = 0.8, 2.5
_LATE = 0.35  # of the places on a way around something: still in the lane's middle
_TRIES = 4


@dataclass(frozen=True)
class Motion:
    """How the ego came to such a state: as curved as it was, at a constant acceleration."""

    speed_mps: float
    acceleration_mps2: float
    curvature_1pm: float


@contextmanager
def moved_aside(
    simulation: Simulation, rng: np.random.Generator, strength: float
) -> Iterator[Motion]:
    """Another state of the ego for a while, and how it came there.

    Where it finds no place that is free only its speed and acceleration are others.
    """
    was = simulation.ego, simulation.s_m, simulation.d_m
    ego = simulation.ego
    factor = float(np.exp(bounded(rng, strength * _FASTER, _MOST_FASTER)))
    added = bounded(rng, strength * _ADDED_MPS, _MOST_ADDED_MPS)
    speed = max(factor * ego.speed_mps + added, 0.0)
    acceleration = bounded(rng, strength * _ACCELERATION_MPS2, _MOST_ACCELERATION_MPS2)
    if speed == 0.0:
        acceleration = 0.0
    ego = replace(ego, speed_mps=speed, acceleration_mps2=acceleration)
    try:
        for _ in range(_TRIES):
            simulation.ego, simulation.s_m, simulation.d_m = _elsewhere(
                simulation.scenario, ego, was[1:], rng, strength
            )
            box = simulation.ego_box()
            if not any(overlap(box, other) for _, other in simulation.obstacles_near()):
                break
        else:
            simulation.ego, simulation.s_m, simulation.d_m = ego, *was[1:]
        yield Motion(speed, acceleration, ego.curvature_1pm)
    finally:
        simulation.ego, simulation.s_m, simulation.d_m = was


def _elsewhere(
    scenario: Scenario, ego: VehicleState, place: tuple[float, float],
    rng: np.random.Generator, strength: float,
) -> tuple[VehicleState, float, float]:  # fmt: skip
    """(ego, s, d) moved from a place (s, d): along the road, across it, and turned to it."""
    road, (s_m, d_m) = scenario.road, place
    turned = ego.yaw_rad - float(road.heading(s_m))
    turned += bounded(rng, strength * _TURN_RAD, _MOST_TURN_RAD)
    s_m += bounded(rng, strength * _AHEAD_M, _MOST_AHEAD_M)
    s_m = float(np.clip(s_m, 0.0, float(road.s_m[-1]) - 1.0))
    # Whoever has seen the obstacle late is where no expert comes to be.
    if rng.random() < _LATE and any(shift.start_m < s_m < shift.end_m for shift in scenario.shifts):
        d_m = EGO_LANE_OFFSET_M
    d_m += bounded(rng, strength * _ASIDE_M, _MOST_ASIDE_M)
    x_m, y_m = (float(v) for v in road.points(s_m, d_m))
    yaw_rad = float(road.heading(s_m)) + turned
    return replace(ego, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad), s_m, d_m


def seen_beside(sample: PlannerSample, images: Images, motion: Motion) -> PlannerSample:
    """The sample with other images in its newest frame, and the motion that led there; the older
    frames are not to be looked at."""
    frames = sample.images.copy()
    for row, camera in enumerate(sample.camera_indices):
        frames[row, NEWEST] = images[CAMERA_NAMES[camera]]
    time_s = 1e-9 * HISTORY_STEP_NS * np.arange(1 - N_HISTORY, 1)
    if motion.acceleration_mps2 > 0.0:  # it began to move no earlier than this
        time_s = np.maximum(time_s, -motion.speed_mps / motion.acceleration_mps2)
    along = motion.speed_mps * time_s + 0.5 * motion.acceleration_mps2 * time_s**2
    yaw = motion.curvature_1pm * along
    # A chord is half as turned as its arc, and as much shorter as a sine than its angle.
    chord = along * np.sinc(yaw / (2.0 * np.pi))
    xyz = np.stack((chord * np.cos(0.5 * yaw), chord * np.sin(0.5 * yaw), 0.0 * yaw), axis=-1)
    return replace(
        sample,
        images=frames,
        history_xyz_in_rig_t0=xyz,
        history_rot_in_rig_t0=geometry.yaw_to_rotation(yaw),
        speed_mps=motion.speed_mps,
        acceleration_mps2=motion.acceleration_mps2,
        yaw_rate_rps=motion.speed_mps * motion.curvature_1pm,
    )


def bounded(rng: np.random.Generator, deviation: float, most: float) -> float:
    """A normal draw, no further from 0 than `most`."""
    return float(np.clip(rng.normal(0.0, deviation), -most, most))
