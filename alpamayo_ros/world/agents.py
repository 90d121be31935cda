"""Everything that moves by itself, by simple rules of where it is and where the ego is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alpamayo_ros.world.boxes import Box
from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M, EGO_LANE_OFFSET_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scenario import PEDESTRIAN_SIZE_M, Crossing, Lead, Oncoming, Walker
from alpamayo_ros.world.scene import Actor, Colour

BRAKE_LIGHT_MPS2 = -0.5
_KERB_M = ASPHALT_HALF_WIDTH_M + 0.9  # where who wants to cross waits
_LATERAL_MPS2 = 1.8
_STEP_OUT_M = 0.3


@dataclass(frozen=True)
class EgoView:
    """What agents know of the ego vehicle."""

    s_m: float  # of its rear axle
    left_m: float  # the leftmost offset of its footprint
    front_m: float  # of its bumper from the rear axle
    speed_mps: float


def lane_speed(road: Road, s_m: float, offset_m: float) -> float:
    """The speed that a bend at s allows on a lane at an offset, m/s."""
    curvature = float(road.curvature(s_m))
    curvature /= 1.0 - curvature * offset_m
    return math.sqrt(_LATERAL_MPS2 / max(abs(curvature), 1e-6))


class RoadCar:
    """A car on a lane: along the road (direction 1) or against it (-1)."""

    def __init__(
        self,
        road: Road,
        name: str,
        s_m: float,
        direction: int,
        speed_mps: float,
        look: tuple[tuple[float, float, float], Colour],
    ) -> None:
        self.name, self.direction = name, direction
        self.s_m, self.speed_mps = s_m, speed_mps
        self.d_m = EGO_LANE_OFFSET_M * direction
        self.acceleration_mps2 = 0.0
        self.size_m, self.colour = look
        self._road = road

    def advance(self, acceleration_mps2: float, dt_s: float) -> None:
        """Move on; never backwards."""
        self.acceleration_mps2 = max(acceleration_mps2, -self.speed_mps / dt_s)
        speed = self.speed_mps + self.acceleration_mps2 * dt_s
        along = 0.5 * (self.speed_mps + speed) * dt_s
        curvature = float(self._road.curvature(self.s_m))
        self.s_m += self.direction * along / (1.0 - curvature * self.d_m)
        self.speed_mps = speed

    @property
    def gone(self) -> bool:
        """Whether it has left the road."""
        return not 0.0 < self.s_m < self._road.length_m

    def actor(self) -> Actor:
        """Where it is, for a picture."""
        x_m, y_m = (float(v) for v in self._road.points(self.s_m, self.d_m))
        yaw = float(self._road.heading(self.s_m)) + (0.0 if self.direction > 0 else math.pi)
        state = "braking" if self.acceleration_mps2 < BRAKE_LIGHT_MPS2 else ""
        if self.direction > 0 and self.speed_mps < 0.1:
            state = "braking"
        return Actor(self.name, "car", x_m, y_m, yaw, self.speed_mps, self.size_m, self.colour,
                     state)  # fmt: skip

    def box(self) -> Box:
        """Its footprint."""
        actor = self.actor()
        return Box(actor.x_m, actor.y_m, actor.yaw_rad, self.size_m[0], self.size_m[1])


class LeadCar(RoadCar):
    """Follows its script of speeds, and slows for bends."""

    def __init__(self, road: Road, lead: Lead, s_m: float, speed_mps: float) -> None:
        super().__init__(road, "lead", s_m, 1, speed_mps, (lead.size_m, lead.colour))
        self._phases = lead.phases
        self._period_s = lead.phases[-1].until_s

    def step(self, time_s: float, dt_s: float) -> None:
        """Towards the phase's speed at the phase's rate."""
        at = time_s % self._period_s
        phase = next(phase for phase in self._phases if at < phase.until_s)
        target, brake = phase.speed_mps, phase.rate_mps2
        for ahead in (0.0, 10.0, 20.0):
            allowed = math.sqrt(
                lane_speed(self._road, self.s_m + ahead, self.d_m) ** 2 + 2 * 1.2 * ahead
            )
            if allowed < target:
                target, brake = allowed, 2.0
        wanted = (target - self.speed_mps) / 0.4
        # The brakes take a moment to bite: 8 m/s^3.
        wanted = min(max(wanted, -brake), 1.4)
        change = 8.0 * dt_s
        low, high = self.acceleration_mps2 - change, self.acceleration_mps2 + change
        self.advance(min(max(wanted, low), high), dt_s)


class OncomingAgent(RoadCar):
    """Keeps its speed, and brakes for an ego that stands or drives in its lane."""

    def __init__(self, road: Road, car: Oncoming) -> None:
        super().__init__(road, car.name, car.start_m, -1, car.speed_mps, (car.size_m, car.colour))
        self._wanted_mps = car.speed_mps
        self.ahead: OncomingAgent | None = None  # who drives before it

    def step(self, ego: EgoView, dt_s: float) -> None:
        """By the nearer of the ego in its way and the car ahead, else at its own speed."""
        wanted = min(1.2, (self._wanted_mps - self.speed_mps) / 0.5)
        half = 0.5 * self.size_m[0]
        gaps = []
        if ego.left_m > self.d_m - 0.5 * self.size_m[1] - 0.3 and ego.s_m < self.s_m:
            gaps.append(self.s_m - half - ego.s_m - ego.front_m)
        if self.ahead is not None:
            gaps.append(self.s_m - half - self.ahead.s_m - 0.5 * self.ahead.size_m[0])
        for gap in gaps:
            room = max(gap - 4.0, 0.0)
            needed = self.speed_mps**2 / max(2.0 * room, 0.1)
            if needed > 1.5 or room < 1.0:
                wanted = min(wanted, -min(max(needed, 1.5), 7.0))
        self.advance(wanted, dt_s)


class Pedestrian:
    """Stands at the kerb; walks straight across once the ego's front is within its distance."""

    def __init__(self, road: Road, crossing: Crossing, walker: Walker) -> None:
        self.name = walker.name
        self.s_m = crossing.s_m + walker.offset_m
        self.d_m = walker.side * _KERB_M
        self.crossing_m = crossing.s_m
        self.walking = False
        self.direction = -walker.side  # of the walk, left positive
        self.pace_mps = walker.speed_mps
        self._walker, self._road = walker, road

    @property
    def done(self) -> bool:
        """Whether the other side is reached."""
        return self.d_m * self.direction >= _KERB_M

    @property
    def speed_mps(self) -> float:
        """Now."""
        return self.pace_mps if self.walking and not self.done else 0.0

    def step(self, ego: EgoView, dt_s: float) -> None:
        """Start when it is time, and walk."""
        ahead = self.s_m - ego.s_m - ego.front_m
        if not self.walking and _STEP_OUT_M < ahead < self._walker.trigger_m:
            self.walking = True
        if self.walking and not self.done:
            self.d_m += self.direction * self.pace_mps * dt_s

    def on_lane(self, margin_m: float) -> bool:
        """Whether it stands or walks within `margin_m` of the ego's lane."""
        return -LANE_WIDTH_M - margin_m < self.d_m < margin_m

    def actor(self) -> Actor:
        """Where it is, for a picture."""
        x_m, y_m = (float(v) for v in self._road.points(self.s_m, self.d_m))
        yaw = float(self._road.heading(self.s_m)) + self.direction * 0.5 * np.pi
        state = "walking" if self.speed_mps else ""
        return Actor(self.name, "pedestrian", x_m, y_m, yaw, self.speed_mps, PEDESTRIAN_SIZE_M,
                     self._walker.colour, state)  # fmt: skip

    def box(self) -> Box:
        """Its footprint."""
        actor = self.actor()
        return Box(actor.x_m, actor.y_m, actor.yaw_rad, *PEDESTRIAN_SIZE_M[:2])
