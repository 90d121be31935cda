"""What the expert has to stop or slow for now: lights, pedestrians, oncoming cars, a lead.

From the true state of the world at one instant and nothing remembered, so that any state can be
labelled, also one that another driver brought about.
"""

from __future__ import annotations

from dataclasses import dataclass

from alpamayo_ros.world.agents import Pedestrian
from alpamayo_ros.world.road import LANE_WIDTH_M
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.scenario import LightColour, Shift
from alpamayo_ros.world.simulation import Simulation

LINE_MARGIN_M = 2.0  # the bumper stands so far before a stop line
CROSSING_MARGIN_M = 5.0  # and so far before a crossing's middle
_LOOK_M = 90.0
_YELLOW_BRAKING_MPS2 = 2.8  # a yellow light that asks for more is driven through
_RED_BRAKING_MPS2 = 7.0
_COMMITTED_MPS2 = 3.5  # of braking for a gap that closes: more, and the ego drives on
_PAST_LINE_M = 0.7
_STILL_IN_LANE_M = 6.0  # of a ramp: so far the ego does not reach over the centre line
_PASSING_MPS = 5.0  # on average, past a stopped car
_TIME_MARGIN_S = 1.5


@dataclass(frozen=True)
class Stop:
    """Stand with the rear axle here, at the latest."""

    s_m: float
    kind: str  # "light", "pedestrian" or "oncoming"
    cause: str


@dataclass(frozen=True)
class LeadMotion:
    """The vehicle ahead."""

    rear_m: float  # arc length of its rear bumper
    speed_mps: float
    acceleration_mps2: float


@dataclass(frozen=True)
class Hazards:
    """All of one instant."""

    stops: tuple[Stop, ...]
    lead: LeadMotion | None
    waiting_m: float | None  # arc length of a crossing at whose kerb somebody waits


def look(simulation: Simulation, route: Route) -> Hazards:
    """The hazards of this instant within sight."""
    stops = [*_lights(simulation), *_pedestrians(simulation), *_oncoming(simulation, route)]
    return Hazards(tuple(stops), _lead(simulation), _waiting(simulation))


def _lights(simulation: Simulation) -> list[Stop]:
    front = simulation.s_m + simulation.parameters.front_m
    for light in simulation.scenario.lights:
        ahead = light.s_m - front
        if not -_PAST_LINE_M < ahead < _LOOK_M:
            continue
        colour = light.colour(simulation.time_s)
        if colour == "green" or not _can_stop(simulation, ahead, colour):
            return []
        at = light.s_m - LINE_MARGIN_M - simulation.parameters.front_m
        return [Stop(at, "light", f"the light is {colour}")]
    return []


def _can_stop(simulation: Simulation, ahead_m: float, colour: LightColour) -> bool:
    limit = _YELLOW_BRAKING_MPS2 if colour == "yellow" else _RED_BRAKING_MPS2
    speed = simulation.ego.speed_mps
    return speed < 0.5 or speed**2 <= 2.0 * limit * max(ahead_m, 0.05)


def _pedestrians(simulation: Simulation) -> list[Stop]:
    front = simulation.s_m + simulation.parameters.front_m
    stops = []
    for pedestrian in simulation.pedestrians:
        ahead = pedestrian.s_m - front
        if not -0.5 < ahead < _LOOK_M or not pedestrian.walking or _has_passed(pedestrian):
            continue
        at = min(pedestrian.crossing_m - CROSSING_MARGIN_M, pedestrian.s_m - 3.0)
        if at < front and ahead > 1.0:  # too late for the line: still before the person
            at = max(at, front - 0.1)
        stops.append(
            Stop(at - simulation.parameters.front_m, "pedestrian", "a pedestrian is crossing")
        )
    return stops[:3]


def _has_passed(pedestrian: Pedestrian) -> bool:
    """Whether the walk has left the ego's lane behind."""
    if pedestrian.direction > 0:
        return pedestrian.d_m > 0.6
    return pedestrian.d_m < -LANE_WIDTH_M - 0.4


def _waiting(simulation: Simulation) -> float | None:
    front = simulation.s_m + simulation.parameters.front_m
    for pedestrian in simulation.pedestrians:
        if not pedestrian.walking and 0.0 < pedestrian.s_m - front < 45.0:
            return pedestrian.crossing_m
    return None


def _oncoming(simulation: Simulation, route: Route) -> list[Stop]:
    """Whether somebody comes while the ego would be on the other lane."""
    shift = route.shift_at(simulation.s_m, 60.0)
    if shift is None or not shift.leaves_lane:
        return []
    at = shift.start_m - 1.0
    room, speed = at - simulation.s_m, simulation.ego.speed_mps
    if room < 0.0 or speed**2 > 2.0 * _COMMITTED_MPS2 * max(room, 0.05):
        if speed > 0.5 or room < -1.5:
            return []
    clear_s = _time_to_clear(simulation, shift)
    begin, end = shift.start_m + _STILL_IN_LANE_M, shift.end_m - _STILL_IN_LANE_M
    for car in simulation.oncoming:
        nose = car.s_m - 0.5 * car.size_m[0]
        if car.s_m + 0.5 * car.size_m[0] < begin or nose > simulation.s_m + 400.0:
            continue
        if nose - end < max(car.speed_mps, 4.0) * (clear_s + _TIME_MARGIN_S):
            return [Stop(at, "oncoming", "a vehicle is oncoming")]
    return []


def _time_to_clear(simulation: Simulation, shift: Shift) -> float:
    """Until the ego would be back in its lane, driving on without a stop."""
    left = shift.end_m - _STILL_IN_LANE_M - simulation.s_m
    slower = max(_PASSING_MPS - simulation.ego.speed_mps, 0.0)
    return left / _PASSING_MPS + 0.25 * slower


def _lead(simulation: Simulation) -> LeadMotion | None:
    lead = simulation.lead
    if lead is None or lead.s_m < simulation.s_m:
        return None
    rear = lead.s_m - 0.5 * lead.size_m[0]
    if rear - simulation.s_m > 120.0:
        return None
    return LeadMotion(rear, lead.speed_mps, lead.acceleration_mps2)
