"""Roads for scenarios: straight, bending, winding, and a staircase of junctions.

A road's heading stays within half a circle, so that it never meets itself, and the arms of its
junctions never meet it either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.road import STEP_M, Road, generate_road, integrate_knots

Turn = Literal["left", "right", "straight"]
Knots = list[tuple[float, float]]  # (arc length m, curvature 1/m), linear in between

ARM_LENGTH_M = 70.0
_FIRST_STRAIGHT_M = 90.0  # behind the start, and the first metres from it
_BOX_HALF_M = 9.0  # half of what a junction takes of a road that goes straight through it


@dataclass(frozen=True)
class Junction:
    """Where the route meets other roads: which way it goes, and what else leads away."""

    start_m: float  # arc lengths of the route between which there are no lanes
    end_m: float
    turn: Turn
    arms: tuple[Road, ...]  # the roads that the route does not take, from the middle outwards


def straight_road(length_m: float) -> Road:
    """Along x."""
    return integrate_knots(np.array([(0.0, 0.0), (length_m, 0.0)]))


def bending_road(rng: np.random.Generator, length_m: float) -> Road:
    """Bends of 45 to 140 m radius and straights between them."""
    return generate_road(int(rng.integers(1 << 31)), length_m)


def winding_road(rng: np.random.Generator, length_m: float) -> Road:
    """Bends of 24 to 60 m radius, to either side, close to each other."""
    knots: Knots = [(0.0, 0.0), (_FIRST_STRAIGHT_M, 0.0)]
    heading, limit = 0.0, np.deg2rad(80.0)
    while knots[-1][0] < length_m:
        sign = 1.0 if rng.random() < 0.5 else -1.0
        if abs(heading) > np.deg2rad(20.0):
            sign = -float(np.sign(heading))
        curvature, clothoid_m = 1.0 / rng.uniform(24.0, 60.0), rng.uniform(12.0, 18.0)
        turn = min(np.deg2rad(rng.uniform(35.0, 110.0)), limit - sign * heading)
        curvature = min(curvature, turn / clothoid_m)
        _append_bend(knots, sign * curvature, clothoid_m, turn)
        heading += sign * turn
        _append_straight(knots, rng.uniform(5.0, 25.0))
    return integrate_knots(np.array(knots))


def junction_road(rng: np.random.Generator, length_m: float) -> tuple[Road, tuple[Junction, ...]]:
    """Legs of 100 to 150 m between junctions; left and right turns alternate, some go straight."""
    knots: Knots = [(0.0, 0.0), (_FIRST_STRAIGHT_M, 0.0)]
    side = 1.0 if rng.random() < 0.5 else -1.0
    spans: list[tuple[float, float, Turn, bool]] = []
    while knots[-1][0] < length_m:
        _append_chicane(knots, rng)
        _append_straight(knots, rng.uniform(35.0, 55.0))
        start, crossroads = knots[-1][0], bool(rng.random() < 0.6)
        if rng.random() < 0.25:
            _append_straight(knots, 2.0 * _BOX_HALF_M)
            spans.append((start, knots[-1][0], "straight", crossroads))
        else:
            _append_bend(knots, side / rng.uniform(11.0, 14.0), 5.0, 0.5 * np.pi)
            turn: Turn = "left" if side > 0 else "right"
            spans.append((start, knots[-1][0], turn, crossroads))
            side = -side
        _append_straight(knots, rng.uniform(35.0, 50.0))
    road = integrate_knots(np.array(knots))
    return road, tuple(_junction(road, *span) for span in spans)


def _append_straight(knots: Knots, length_m: float) -> None:
    knots.append((knots[-1][0] + length_m, 0.0))


def _append_bend(knots: Knots, curvature_1pm: float, clothoid_m: float, turn_rad: float) -> None:
    """Clothoid, arc, clothoid; the two clothoids together turn by curvature x their length."""
    arc_m = max(turn_rad / abs(curvature_1pm) - clothoid_m, 0.5)
    start = knots[-1][0]
    knots.append((start + clothoid_m, curvature_1pm))
    knots.append((start + clothoid_m + arc_m, curvature_1pm))
    knots.append((start + 2.0 * clothoid_m + arc_m, 0.0))


def _append_chicane(knots: Knots, rng: np.random.Generator) -> None:
    """A gentle bend and back: the heading afterwards is as before."""
    curvature = (1.0 if rng.random() < 0.5 else -1.0) / rng.uniform(60.0, 120.0)
    turn = np.deg2rad(rng.uniform(12.0, 16.0))
    clothoid_m = min(12.0, 0.9 * turn / abs(curvature))
    for sign in (1.0, -1.0):
        _append_bend(knots, sign * curvature, clothoid_m, turn)


def _junction(road: Road, start_m: float, end_m: float, turn: Turn, crossroads: bool) -> Junction:
    heading = float(road.heading(start_m))
    side = {"left": 1.0, "right": -1.0, "straight": 0.0}[turn]
    if turn == "straight":
        centre = road.points(0.5 * (start_m + end_m))
        yaws = [heading + 0.5 * np.pi, heading - 0.5 * np.pi]
    else:
        # The tangents at both ends meet at right angles, as far from one as from the other.
        reach = float((road.points(end_m) - road.points(start_m)) @ _direction(heading))
        centre = road.points(start_m) + reach * _direction(heading)
        yaws = [heading, heading - side * 0.5 * np.pi]
    arms = tuple(_arm(centre, yaw) for yaw in (yaws if crossroads else yaws[:1]))
    return Junction(start_m, end_m, turn, arms)


def _direction(yaw_rad: float) -> NDArray[np.float64]:
    return np.array([np.cos(yaw_rad), np.sin(yaw_rad)])


def _arm(centre_m: NDArray[np.float64], yaw_rad: float) -> Road:
    """A straight road from a little before the junction's middle."""
    s_m = np.arange(0.0, ARM_LENGTH_M + 0.5 * STEP_M, STEP_M)
    xy_m = centre_m + (s_m - 6.0)[:, None] * _direction(yaw_rad)
    return Road(s_m, xy_m, np.full(len(s_m), yaw_rad), np.zeros(len(s_m)))
