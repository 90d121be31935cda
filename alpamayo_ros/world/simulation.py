"""The world in time: an ego vehicle driven by commands, and agents that mind it.

Knows no camera, no message and no planner. The same scenario and the same commands give the same
states, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from alpamayo_ros.world.agents import EgoView, LeadCar, OncomingAgent, Pedestrian, RoadCar
from alpamayo_ros.world.bicycle import DEFAULT_VEHICLE, VehicleParameters, VehicleState, drive
from alpamayo_ros.world.boxes import Box
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.scenario import CONE_SIZE_M, Scenario
from alpamayo_ros.world.scenarios import START_M
from alpamayo_ros.world.scene import Actor
from alpamayo_ros.world.vehicle import Command

STEP_NS = 20_000_000
START_SPEED_SHARE = 0.6  # of the scenario's cruising speed
_CONE_COLOUR = (0.92, 0.38, 0.08)
_NEAR_M = 14.0  # obstacles further away are no candidates for the closest gap
_ONCOMING_REACH_M = 400.0


class Simulation:
    """One scenario from its start on."""

    def __init__(self, scenario: Scenario, parameters: VehicleParameters = DEFAULT_VEHICLE) -> None:
        self.scenario, self.parameters = scenario, parameters
        road = scenario.road
        speed = START_SPEED_SHARE * scenario.cruise_mps
        x_m, y_m = (float(v) for v in road.points(START_M, EGO_LANE_OFFSET_M))
        self.ego = VehicleState(x_m, y_m, float(road.heading(START_M)), speed)
        self.time_ns = 0
        self.s_m, self.d_m = START_M, EGO_LANE_OFFSET_M  # of the rear axle
        self.lead: LeadCar | None = None
        if scenario.lead is not None:
            ahead = parameters.front_m + scenario.lead.gap_m + 0.5 * scenario.lead.size_m[0]
            self.lead = LeadCar(road, scenario.lead, START_M + ahead, speed)
        self.oncoming = [OncomingAgent(road, car) for car in scenario.oncoming]
        for front, behind in zip(self.oncoming, self.oncoming[1:]):
            behind.ahead = front
        self.pedestrians = [
            Pedestrian(road, crossing, walker)
            for crossing in scenario.crossings
            for walker in crossing.walkers
        ]
        self._fixed = _fixed_actors(scenario)
        self._fixed_boxes = [(s_m, _box(actor), actor.name) for s_m, actor in self._fixed]

    @property
    def time_s(self) -> float:
        """Since the start."""
        return self.time_ns * 1e-9

    def step(self, command: Command) -> None:
        """Move everything on by STEP_NS; agents see the ego as it was before."""
        dt_s = STEP_NS * 1e-9
        view = self._ego_view()
        if self.lead is not None:
            self.lead.step(self.time_s, dt_s)
        for car in self.oncoming:
            if car.s_m - self.s_m < _ONCOMING_REACH_M or car.ahead is None:
                car.step(view, dt_s)
            else:  # too far to see anything: as fast as always
                car.advance(0.0, dt_s)
        for pedestrian in self.pedestrians:
            if abs(pedestrian.s_m - self.s_m) < 80.0:
                pedestrian.step(view, dt_s)
        self.ego = drive(self.ego, command, dt_s, self.parameters)
        self.time_ns += STEP_NS
        self.s_m, self.d_m = self.scenario.road.nearest((self.ego.x_m, self.ego.y_m), self.s_m)

    # ---- what is true ------------------------------------------------------------------------

    def ego_box(self) -> Box:
        """The ego's footprint."""
        ego, shift = self.ego, self.parameters.centre_m
        x_m = ego.x_m + shift * math.cos(ego.yaw_rad)
        y_m = ego.y_m + shift * math.sin(ego.yaw_rad)
        return Box(x_m, y_m, ego.yaw_rad, self.parameters.length_m, self.parameters.width_m)

    def outside_m(self) -> float:
        """How far the ego's footprint reaches out of where it may be; negative: room left."""
        road, worst = self.scenario.road, -math.inf
        for corner in self.ego_box().corners():
            s_m, d_m = road.nearest(corner, self.s_m)
            right, left = self.scenario.corridor(s_m)
            worst = max(worst, d_m - left, right - d_m)
        return worst

    def obstacles_near(self, reach_m: float = _NEAR_M) -> Iterator[tuple[str, Box]]:
        """Names and footprints of what the ego could touch soon."""
        for s_m, box, name in self._fixed_boxes:
            if abs(s_m - self.s_m) < reach_m + 5.0:
                yield name, box
        movers: list[RoadCar | Pedestrian] = [*self.pedestrians, *self.oncoming]
        if self.lead is not None:
            movers.append(self.lead)
        for mover in movers:
            if abs(mover.s_m - self.s_m) < reach_m + 5.0:
                yield mover.name, mover.box()

    def actors(self) -> list[Actor]:
        """Everything that a camera could see besides the scenery."""
        actors = [actor for _, actor in self._fixed]
        if self.lead is not None and not self.lead.gone:
            actors.append(self.lead.actor())
        actors += [car.actor() for car in self.oncoming if not car.gone]
        actors += [pedestrian.actor() for pedestrian in self.pedestrians]
        actors += [self._light_actor(index) for index in range(len(self.scenario.lights))]
        return actors

    def navigation(self) -> str | None:
        """What a route guide says now."""
        return self.scenario.navigation(self.s_m + self.parameters.front_m)

    def _light_actor(self, index: int) -> Actor:
        light = self.scenario.lights[index]
        road = self.scenario.road
        x_m, y_m = (float(v) for v in road.points(light.s_m + light.mast_m, -4.6))
        yaw = float(road.heading(light.s_m))
        return Actor(light.name, "light", x_m, y_m, yaw, 0.0, (0.3, 0.3, 2.9), (0.2, 0.2, 0.2),
                     light.colour(self.time_s))  # fmt: skip

    def _ego_view(self) -> EgoView:
        left = self.d_m + 0.5 * self.parameters.width_m
        heading = self.ego.yaw_rad - float(self.scenario.road.heading(self.s_m))
        left += self.parameters.front_m * max(math.sin(heading), 0.0)
        return EgoView(self.s_m, left, self.parameters.front_m, self.ego.speed_mps)


def _fixed_actors(scenario: Scenario) -> list[tuple[float, Actor]]:
    """(s, actor) of what stands in the road."""
    road, fixed = scenario.road, []
    for car in scenario.stopped:
        x_m, y_m = (float(v) for v in road.points(car.s_m, car.d_m))
        yaw = float(road.heading(car.s_m))
        fixed.append((car.s_m, Actor(car.name, "car", x_m, y_m, yaw, 0.0, car.size_m, car.colour)))
    for cone in scenario.cones:
        x_m, y_m = (float(v) for v in road.points(cone.s_m, cone.d_m))
        yaw = float(road.heading(cone.s_m))
        fixed.append(
            (cone.s_m, Actor(cone.name, "cone", x_m, y_m, yaw, 0.0, CONE_SIZE_M, _CONE_COLOUR))
        )
    return fixed


def _box(actor: Actor) -> Box:
    return Box(actor.x_m, actor.y_m, actor.yaw_rad, actor.size_m[0], actor.size_m[1])
