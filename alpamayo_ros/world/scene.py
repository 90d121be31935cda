"""What a world consists of: data only. generate.py makes it from a seed, render.py draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.road import LANE_WIDTH_M, Road

CHUNK_M = 36.0  # the scenery is placed and drawn in pieces of this length

Colour = tuple[float, float, float]  # linear in what is shown, 0 … 1


@dataclass(frozen=True)
class Item:
    """A thing that stands still: kind, where, how large."""

    kind: str  # "broadleaf", "conifer", "bush", "house", "car", "lamp", "post"
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    size_m: tuple[float, float, float]  # length along yaw, width, height
    colour: Colour
    variant: int = 0


@dataclass(frozen=True)
class Actor:
    """A thing that moves or changes, at one instant; its origin is its footprint's middle."""

    name: str
    kind: str
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    size_m: tuple[float, float, float]
    colour: Colour
    state: str = ""  # "braking" of a car, "walking", or the colour that a light shows


@dataclass(frozen=True)
class OncomingCar:
    """Drives the left lane against the road's direction at constant speed."""

    name: str
    start_m: float  # arc length at time 0
    speed_mps: float
    size_m: tuple[float, float, float]
    colour: Colour


@dataclass(frozen=True)
class Light:
    """The day: where the sun stands and how clouds change it."""

    sun_direction: tuple[float, float, float]  # towards the sun, odometry frame
    tint: Colour
    cloud_period_s: float
    cloud_phase_rad: float
    cloud_depth: float  # 0 … 1 of the brightness that the thickest cloud takes

    def gain(self, time_s: float) -> NDArray[np.float64]:
        """(3,) factors on red, green and blue at a time."""
        phase = 2.0 * np.pi * time_s / self.cloud_period_s + self.cloud_phase_rad
        cloud = 0.5 + 0.35 * np.sin(phase) + 0.15 * np.sin(2.7 * phase)
        return 1.15 * np.array(self.tint) * (1.0 - self.cloud_depth * cloud)


@dataclass(frozen=True)
class Marks:
    """What is painted on the road besides its lines, and the roads that join it."""

    gaps: tuple[tuple[float, float], ...] = ()  # arc lengths between which there are no lines
    crossings_m: tuple[float, ...] = ()  # arc lengths of zebra crossings' middles
    stop_lines_m: tuple[float, ...] = ()
    arms: tuple[tuple[float, Road], ...] = ()  # (arc length of its junction, the road)


@dataclass(frozen=True)
class Scene:
    """A seed's world. Items of a chunk depend on the seed and the road before it alone."""

    seed: int
    road: Road
    town: tuple[bool, ...]  # per chunk: pavements and houses, or verges and trees
    items: tuple[tuple[Item, ...], ...]  # per chunk
    traffic: tuple[OncomingCar, ...]
    light: Light
    marks: Marks = Marks()

    @property
    def chunks(self) -> int:
        return len(self.items)

    def actors(self, time_s: float) -> list[Actor]:
        """The moving cars that are on the road at a time."""
        cars = []
        for car in self.traffic:
            s_m = car.start_m - car.speed_mps * time_s
            if not 0.0 < s_m < self.road.length_m:
                continue
            x_m, y_m = self.road.points(s_m, 0.5 * LANE_WIDTH_M)
            yaw = float(self.road.heading(s_m)) + np.pi
            cars.append(
                Actor(car.name, "car", float(x_m), float(y_m), yaw, car.speed_mps, car.size_m,
                      car.colour)
            )  # fmt: skip
        return cars
