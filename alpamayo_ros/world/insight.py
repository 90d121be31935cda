"""What the expert looks at, as numbers: a teacher's features for students that see pixels only.

A student that has to name the gap ahead or the light's colour learns to look at them; from
trajectories alone it takes long to find out which of its pixels matter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.agents import BRAKE_LIGHT_MPS2
from alpamayo_ros.world.hazards import Hazards
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.simulation import Simulation

# All about -1 … 1. A nearness is 1 at the bumper, 0 from _SIGHT_M on and where there is nothing.
NAMES = (
    "aside",  # of the way's middle, m, left positive
    "turned",  # from the way, in 0.2 rad, left positive
    "bend_10", "bend_25", "bend_45",  # of the way so many metres ahead, in 0.05 1/m
    "way_10", "way_20", "way_35",  # of the way there from the lane's middle, in 2 m
    "speed_10", "speed_25", "speed_45",  # that the way allows there, in 10 m/s
    "lead", "lead_brakes", "lead_stands",
    "light", "red", "yellow",
    "pedestrian", "waiting",
    "oncoming", "oncoming_stop",
    "shift", "shift_leaves_lane",
    "junction", "turn",  # of the next junction; 1 left, -1 right
)  # fmt: skip
_SIGHT_M = 60.0
_TURNS = {"left": 1.0, "right": -1.0}


def insight(simulation: Simulation, route: Route, hazards: Hazards) -> NDArray[np.float32]:
    """(len(NAMES),) of one instant."""
    s, scenario = simulation.s_m, simulation.scenario
    front = s + simulation.parameters.front_m
    here = route.at(s)
    heading = simulation.ego.yaw_rad - float(scenario.road.heading(s)) - math.atan(here.slope)
    values = dict.fromkeys(NAMES, 0.0)
    values["aside"] = simulation.d_m - here.offset_m
    values["turned"] = math.atan2(math.sin(heading), math.cos(heading)) / 0.2
    for ahead in (10, 25, 45):
        values[f"bend_{ahead}"] = route.at(s + ahead).curvature_1pm / 0.05
        values[f"speed_{ahead}"] = route.speed(s + ahead) / 10.0
    for ahead in (10, 20, 35):
        values[f"way_{ahead}"] = (route.at(s + ahead).offset_m - EGO_LANE_OFFSET_M) / 2.0
    lead = hazards.lead
    if lead is not None and (near := _nearness(lead.rear_m - front)):
        values["lead"] = near
        values["lead_brakes"] = float(lead.acceleration_mps2 < BRAKE_LIGHT_MPS2)
        values["lead_stands"] = float(lead.speed_mps < 0.1)
    for light in scenario.lights:
        if near := _nearness(light.s_m - front, behind_m=2.0):
            values["light"] = near
            colour = light.colour(simulation.time_s)
            if colour != "green":
                values[colour] = near
            break
    for stop in hazards.stops:
        near = _nearness(stop.s_m - s, behind_m=4.0)
        if stop.kind == "pedestrian":
            values["pedestrian"] = max(values["pedestrian"], near)
        elif stop.kind == "oncoming":
            values["oncoming_stop"] = near
    if hazards.waiting_m is not None:
        values["waiting"] = _nearness(hazards.waiting_m - front)
    for car in simulation.oncoming:
        values["oncoming"] = max(values["oncoming"], _nearness(car.s_m - front))
    shift = route.shift_at(s, _SIGHT_M)
    if shift is not None:
        values["shift"] = _nearness(max(shift.full_m - front, 0.0))
        values["shift_leaves_lane"] = float(shift.leaves_lane) * values["shift"]
    for junction in scenario.junctions:
        if junction.end_m > s and (near := _nearness(max(junction.start_m - front, 0.0))):
            values["junction"], values["turn"] = near, near * _TURNS.get(junction.turn, 0.0)
            break
    return np.clip(np.array(list(values.values()), np.float32), -1.5, 1.5)


def _nearness(ahead_m: float, behind_m: float = 0.0) -> float:
    """1 here … 0 at the end of sight; 0 behind."""
    if ahead_m < -behind_m:
        return 0.0
    return min(max(1.0 - ahead_m / _SIGHT_M, 0.0), 1.0)
