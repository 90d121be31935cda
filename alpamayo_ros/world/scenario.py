"""What a closed-loop drive meets: data only. scenarios.py makes it from a kind and a seed.

Positions along the road are arc lengths s, positions across it offsets d (left positive) from the
road's centre line, both in metres; the ego's lane lies between -LANE_WIDTH_M and 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alpamayo_ros.world.layouts import Junction
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scene import Colour

KINDS_WITHOUT_TRAFFIC = ("straight", "free", "curvy", "junction")
KINDS_WITH_TRAFFIC = ("lead", "nudge", "pedestrian", "light", "cones", "mixed")
KINDS = KINDS_WITHOUT_TRAFFIC + KINDS_WITH_TRAFFIC
WEATHERS = ("day", "dusk", "rain")
CONE_SIZE_M = (0.36, 0.36, 0.75)
PEDESTRIAN_SIZE_M = (0.5, 0.6, 1.75)

LightColour = Literal["green", "yellow", "red"]
Size = tuple[float, float, float]  # length, width, height


@dataclass(frozen=True)
class StoppedCar:
    """Stands in or partly in the ego's lane, facing along the road."""

    name: str
    s_m: float  # of its middle
    d_m: float
    size_m: Size
    colour: Colour


@dataclass(frozen=True)
class Cone:
    """One traffic cone."""

    name: str
    s_m: float
    d_m: float


@dataclass(frozen=True)
class Walker:
    """Waits at a crossing's kerb and walks straight across when the ego comes near."""

    name: str
    side: float  # 1: starts at the left kerb, -1: at the right one
    speed_mps: float
    trigger_m: float  # the distance of the ego's front at which the walk begins
    offset_m: float  # along the road from the crossing's middle
    colour: Colour


@dataclass(frozen=True)
class Crossing:
    """A zebra crossing and who waits at it."""

    s_m: float  # of its middle
    walkers: tuple[Walker, ...]


@dataclass(frozen=True)
class StopLight:
    """A stop line with a light that runs through its colours by the clock."""

    name: str
    s_m: float  # of the line
    green_s: float
    yellow_s: float
    red_s: float
    phase_s: float  # how far into the green it is at time 0
    mast_m: float = 12.0  # behind the line, so that who stands there sees it well

    def colour(self, time_s: float) -> LightColour:
        """What it shows."""
        into = (time_s + self.phase_s) % (self.green_s + self.yellow_s + self.red_s)
        if into < self.green_s:
            return "green"
        return "yellow" if into < self.green_s + self.yellow_s else "red"


@dataclass(frozen=True)
class SpeedPhase:
    """One stretch of a lead vehicle's speeds: reach `speed_mps` at a rate, keep it until a time."""

    until_s: float
    speed_mps: float
    rate_mps2: float


@dataclass(frozen=True)
class Lead:
    """The vehicle ahead; after its last phase the first comes again."""

    gap_m: float  # between the bumpers at the start
    phases: tuple[SpeedPhase, ...]
    size_m: Size
    colour: Colour


@dataclass(frozen=True)
class Oncoming:
    """Drives the left lane the other way."""

    name: str
    start_m: float
    speed_mps: float
    size_m: Size
    colour: Colour


@dataclass(frozen=True)
class Shift:
    """Where the free way leaves the lane's middle: a smooth ramp to `offset_m` and back."""

    start_m: float
    full_m: float
    full_end_m: float
    end_m: float
    offset_m: float  # left positive, from the lane's middle
    cause: str  # "stopped vehicle" or "narrowing"

    @property
    def leaves_lane(self) -> bool:
        """Whether a vehicle on it crosses the centre line."""
        return EGO_LANE_OFFSET_M + self.offset_m > -1.0


@dataclass(frozen=True)
class Zone:
    """A stretch where the ego may be elsewhere than in its lane."""

    start_m: float
    end_m: float
    right_m: float = -LANE_WIDTH_M
    left_m: float = 0.0


@dataclass(frozen=True)
class SlowStretch:
    """A stretch to be driven slowly, and why."""

    start_m: float
    end_m: float
    speed_mps: float
    cause: str


@dataclass(frozen=True, eq=False)  # by identity: arrays have no truth value
class Scenario:
    """Everything that a kind and a seed determine, before anything moves."""

    kind: str
    seed: int
    seconds: float
    road: Road
    cruise_mps: float
    weather: str
    junctions: tuple[Junction, ...] = ()
    stopped: tuple[StoppedCar, ...] = ()
    cones: tuple[Cone, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    lights: tuple[StopLight, ...] = ()
    lead: Lead | None = None
    oncoming: tuple[Oncoming, ...] = ()
    shifts: tuple[Shift, ...] = ()  # ascending, apart from each other
    zones: tuple[Zone, ...] = ()
    slow: tuple[SlowStretch, ...] = ()

    @property
    def name(self) -> str:
        """Kind and seed."""
        return f"{self.kind}-{self.seed}"

    def corridor(self, s_m: float) -> tuple[float, float]:
        """(right, left) offsets between which the ego's footprint has to stay at s."""
        right, left = -LANE_WIDTH_M, 0.0
        for zone in self.zones:
            if zone.start_m <= s_m <= zone.end_m:
                right, left = min(right, zone.right_m), max(left, zone.left_m)
        return right, left

    def navigation(self, s_m: float) -> str | None:
        """What a route guide says at s: the next junction within 120 m, or None."""
        for junction in self.junctions:
            if s_m > junction.end_m:
                continue
            ahead = junction.start_m - s_m
            if ahead > NAVIGATION_REACH_M:
                return None
            words = "Go straight" if junction.turn == "straight" else f"Turn {junction.turn}"
            return f"{words} in {max(int(ahead // 10) * 10, 0)}m"
        return None


NAVIGATION_REACH_M = 120.0
