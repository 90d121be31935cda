"""The expert's own drive 6.4 s ahead: 64 actions that follow the way and heed the hazards."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S
from alpamayo_ros.world.hazards import Hazards, LeadMotion
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.simulation import Simulation

MAX_CURVATURE_1PM = 0.18
_CURVATURE_RATE = 0.18  # 1/m a second: what the steering can follow
_ACCELERATION_MPS2, _BRAKING_MPS2, _HARDEST_MPS2 = 1.4, 2.5, 7.5
_STOP_BRAKING_MPS2 = 1.6  # comfortable; braked harder only where the way is shorter
_JERK_MPS3, _HARD_JERK_MPS3 = 2.5, 15.0
_HEADWAY_S, _STANDING_GAP_M = 1.5, 4.0
_WAITING_MPS = 6.0  # past a crossing at whose kerb somebody waits
_WAITING_BEFORE_M = 22.0


@dataclass(frozen=True)
class Rollout:
    """What was planned, and what held it back."""

    action: NDArray[np.float64]  # (64, 2) acceleration m/s^2, curvature 1/m
    limits: tuple[str, ...]  # (64,) what decided each acceleration: a Stop's kind, "lead", …
    hardest_mps2: float  # the strongest braking that was asked for, positive
    way_error_m: float  # of the ego from the way at the start


def roll_out(simulation: Simulation, route: Route, hazards: Hazards) -> Rollout:
    """From the ego's true state on."""
    ego, dt = simulation.ego, WAYPOINT_STEP_S
    front = simulation.parameters.front_m
    s, d, v = simulation.s_m, simulation.d_m, ego.speed_mps
    heading = ego.yaw_rad - float(simulation.scenario.road.heading(s))
    heading = math.atan2(math.sin(heading), math.cos(heading))
    curvature, acceleration = ego.curvature_1pm, ego.acceleration_mps2
    actions, limits = np.zeros((N_WAYPOINTS, 2)), []
    hardest, way_error = 0.0, d - route.at(s).offset_m
    for k in range(N_WAYPOINTS):
        wanted, limit = _acceleration(s, v, k * dt, front, route, hazards)
        hardest = max(hardest, -wanted)
        acceleration = _with_jerk(acceleration, wanted, dt)
        acceleration = max(acceleration, -v / dt)
        curvature = _curvature(s, d, heading, v, curvature, route)
        actions[k] = acceleration, curvature
        limits.append(limit)
        distance = v * dt + 0.5 * acceleration * dt * dt
        road_curvature = route.at(s + 0.5 * distance).road_curvature_1pm
        middle = heading + 0.5 * (curvature - road_curvature) * distance
        along = distance * math.cos(middle) / _stretch(road_curvature, d)
        s, d = s + along, d + distance * math.sin(middle)
        heading += curvature * distance - road_curvature * along
        v = max(v + acceleration * dt, 0.0)
        if v < 1e-3:
            acceleration = max(acceleration, 0.0)
    return Rollout(actions, tuple(limits), hardest, way_error)


def _curvature(
    s: float, d: float, heading: float, v: float, before_1pm: float, route: Route
) -> float:
    """The way's own bend half a step ahead, and back to it critically damped in distance."""
    ahead = route.at(s + 0.5 * v * WAYPOINT_STEP_S)
    here = route.at(s)
    reach = min(max(0.9 * v, 4.0), 9.0)
    error = d - here.offset_m
    turned = heading - math.atan2(here.slope, _stretch(here.road_curvature_1pm, d))
    back = -error / reach**2 - 2.0 * turned / reach
    bound = 0.06 + 0.12 / (1.0 + 0.1 * v * v)  # far from the way: no faster back than this
    wanted = ahead.curvature_1pm + min(max(back, -bound), bound)
    change = _CURVATURE_RATE * WAYPOINT_STEP_S
    wanted = min(max(wanted, before_1pm - change), before_1pm + change)
    return min(max(wanted, -MAX_CURVATURE_1PM), MAX_CURVATURE_1PM)


def _stretch(road_curvature_1pm: float, d_m: float) -> float:
    """How much longer a line at an offset is than the road; bounded where nobody should be."""
    return max(1.0 - road_curvature_1pm * d_m, 0.2)


def _acceleration(
    s: float, v: float, ahead_s: float, front_m: float, route: Route, hazards: Hazards
) -> tuple[float, str]:
    """The lowest of what everything allows, and what it was."""
    target = route.speed(s + 0.5 * v)
    limit = "cruise" if target > route.scenario.cruise_mps - 0.3 else "slow"
    waiting = hazards.waiting_m
    if waiting is not None and s + front_m < waiting:
        room = max(waiting - s - front_m - _WAITING_BEFORE_M, 0.0)
        allowed = math.sqrt(_WAITING_MPS**2 + 2.0 * _STOP_BRAKING_MPS2 * room)
        if allowed < target:
            target, limit = allowed, "waiting"
    wanted = min(max((target - v) / 0.8, -_BRAKING_MPS2), _ACCELERATION_MPS2)
    for stop in hazards.stops:
        allowed = _to_stop(stop.s_m - s, v)
        if allowed < wanted:
            wanted, limit = allowed, stop.kind
    if hazards.lead is not None:
        allowed = _behind(hazards.lead, s + front_m, v, ahead_s)
        if allowed < wanted:
            wanted, limit = allowed, "lead"
    return max(wanted, -_HARDEST_MPS2), limit


def _to_stop(room_m: float, v: float) -> float:
    """Acceleration that ends `room_m` ahead."""
    if room_m <= 0.1:
        return -_BRAKING_MPS2 if v < 1.0 else -_HARDEST_MPS2
    needed = v * v / (2.0 * room_m)
    if needed > _STOP_BRAKING_MPS2:
        return -1.08 * needed
    # The last metres are rolled out: speed falls with the distance, not with its root.
    soft = 0.8 * room_m + 0.1
    target = min(math.sqrt(2.0 * 0.9 * _STOP_BRAKING_MPS2 * room_m), soft)
    return min((target - v) / 0.5, _ACCELERATION_MPS2)


def _behind(lead: LeadMotion, bumper_m: float, v: float, ahead_s: float) -> float:
    """IDM behind a vehicle that goes on as it does now, for 1.5 s, and steadily after."""
    change = lead.acceleration_mps2
    changing = min(ahead_s, 1.5)
    if change < 0.0:
        changing = min(changing, lead.speed_mps / -change)
    speed = max(lead.speed_mps + change * changing, 0.0)
    moved = 0.5 * (lead.speed_mps + speed) * changing + speed * (ahead_s - changing)
    gap = max(lead.rear_m + moved - bumper_m, 0.1)
    approach = v * (v - speed) / (2.0 * math.sqrt(_ACCELERATION_MPS2 * 2.0))
    wanted_gap = _STANDING_GAP_M + max(v * _HEADWAY_S + approach, 0.0)
    return _ACCELERATION_MPS2 * (1.0 - (wanted_gap / gap) ** 2)


def _with_jerk(before: float, wanted: float, dt: float) -> float:
    """Softly where there is time; as fast as brakes bite where there is none."""
    down = _HARD_JERK_MPS3 if wanted < -_BRAKING_MPS2 else 2.0 * _JERK_MPS3
    up = _JERK_MPS3 * (2.0 if before < 0.0 else 1.0)
    return min(max(wanted, before - down * dt), before + up * dt)
