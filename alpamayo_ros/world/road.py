"""The road: a seeded centre line of straights, clothoids and arcs in a flat world.

Everything is addressed by arc length s along the centre line and lateral offset d (left positive),
both in metres. Traffic keeps right: the ego lane's middle is at d = -LANE_WIDTH_M / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LANE_WIDTH_M = 3.5
ASPHALT_HALF_WIDTH_M = 4.0
MIN_RADIUS_M = 45.0  # of the centre line; the inner lane's middle stays above 40 m
EGO_LANE_OFFSET_M = -0.5 * LANE_WIDTH_M
SEARCH_M = 25.0  # further than anything moves between two looks

STEP_M = 0.25  # spacing of the stored points: chords are within 0.2 mm of the arc
_MAX_HEADING_RAD = np.deg2rad(75.0)  # the road never turns back, so it never meets itself
_CLOTHOID_M = (18.0, 30.0)
_STREAM = 1  # keeps the road's random numbers apart from the scenery's


@dataclass(frozen=True)
class Road:
    """A centre line sampled every 0.25 m, in the odometry frame."""

    s_m: NDArray[np.float64]  # (N,) arc length
    xy_m: NDArray[np.float64]  # (N, 2)
    heading_rad: NDArray[np.float64]  # (N,) unwrapped, 0 along x
    curvature_1pm: NDArray[np.float64]  # (N,) left positive

    @property
    def length_m(self) -> float:
        return float(self.s_m[-1])

    def curvature(self, s_m: ArrayLike) -> NDArray[np.float64]:
        """Centre-line curvature, 1/m, at arc lengths of any shape."""
        return np.interp(np.asarray(s_m, float), self.s_m, self.curvature_1pm)

    def heading(self, s_m: ArrayLike) -> NDArray[np.float64]:
        """Direction of travel, rad, at arc lengths of any shape."""
        return np.interp(np.asarray(s_m, float), self.s_m, self.heading_rad)

    def points(self, s_m: ArrayLike, d_m: ArrayLike = 0.0) -> NDArray[np.float64]:
        """(..., 2) positions at arc lengths s and lateral offsets d (broadcast)."""
        s_m, d_m = np.broadcast_arrays(np.asarray(s_m, float), np.asarray(d_m, float))
        heading = self.heading(s_m)
        x = np.interp(s_m, self.s_m, self.xy_m[:, 0]) - d_m * np.sin(heading)
        y = np.interp(s_m, self.s_m, self.xy_m[:, 1]) + d_m * np.cos(heading)
        return np.stack((x, y), axis=-1)

    def nearest(self, xy_m: ArrayLike, near_s_m: float | None = None) -> tuple[float, float]:
        """(s, d) of the centre-line point nearest to one position (2,).

        `near_s_m`: look only within SEARCH_M of it, where a caller follows something that moves.
        """
        first = 0
        part = self.xy_m
        if near_s_m is not None:
            middle, reach = int(near_s_m / STEP_M), int(SEARCH_M / STEP_M)
            first = min(max(middle - reach, 0), len(self.xy_m) - 2)
            part = self.xy_m[first : max(middle + reach, first + 2)]
        x_m, y_m = np.asarray(xy_m, float).tolist()
        dx, dy = x_m - part[:, 0], y_m - part[:, 1]
        index = int(np.argmin(dx * dx + dy * dy)) + first
        heading = float(self.heading_rad[index])
        c, s = math.cos(heading), math.sin(heading)
        dx, dy = x_m - float(self.xy_m[index, 0]), y_m - float(self.xy_m[index, 1])
        # One Newton step from the sample to the foot of the perpendicular.
        bend = 1.0 - (c * dy - s * dx) * float(self.curvature_1pm[index])
        s_m = float(self.s_m[index]) + (c * dx + s * dy) / max(bend, 0.2)
        s_m = min(max(s_m, 0.0), self.length_m)
        foot_x, foot_y, heading = self._on_line(s_m)
        return s_m, (y_m - foot_y) * math.cos(heading) - (x_m - foot_x) * math.sin(heading)

    def _on_line(self, s_m: float) -> tuple[float, float, float]:
        """x, y and heading at one arc length; as `points` and `heading`, without arrays."""
        place = s_m / STEP_M
        index = min(int(place), len(self.s_m) - 2)
        share = place - index
        (x0, y0), (x1, y1) = self.xy_m[index].tolist(), self.xy_m[index + 1].tolist()
        before, after = float(self.heading_rad[index]), float(self.heading_rad[index + 1])
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0), before + share * (after - before)


def generate_road(seed: int, length_m: float) -> Road:
    """The road of a seed, at least `length_m` long. A longer road of one seed starts the same."""
    rng = np.random.default_rng([seed, _STREAM])
    knots = [(0.0, 0.0), (rng.uniform(85.0, 110.0), 0.0)]  # (s, curvature), linear in between
    heading = 0.0
    while knots[-1][0] < length_m:
        heading += _append_curve(knots, heading, rng)
        knots.append((knots[-1][0] + rng.uniform(10.0, 55.0), 0.0))
    return integrate_knots(np.array(knots))


def _append_curve(
    knots: list[tuple[float, float]], heading_rad: float, rng: np.random.Generator
) -> float:
    """Add one clothoid-arc-clothoid bend to `knots`; returns its change of heading, rad."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    if abs(heading_rad) > np.deg2rad(35.0):
        sign = -float(np.sign(heading_rad))
    curvature = 1.0 / rng.uniform(MIN_RADIUS_M, 140.0)
    clothoid_m = rng.uniform(*_CLOTHOID_M)
    room = _MAX_HEADING_RAD - sign * heading_rad
    turn = min(np.deg2rad(rng.uniform(20.0, 75.0)), room)
    # The two clothoids alone turn by curvature * clothoid_m; a tight bend that would turn too far
    # is widened rather than shortened.
    curvature = min(curvature, turn / clothoid_m)
    arc_m = max(turn / curvature - clothoid_m, 1.0)
    start = knots[-1][0]
    knots.append((start + clothoid_m, sign * curvature))
    knots.append((start + clothoid_m + arc_m, sign * curvature))
    knots.append((start + 2.0 * clothoid_m + arc_m, 0.0))
    return sign * curvature * (clothoid_m + arc_m)


def integrate_knots(knots: NDArray[np.float64]) -> Road:
    """Curvature knots (K, 2) to headings and positions by the trapezoidal and midpoint rules."""
    s_m = np.arange(0.0, knots[-1, 0], STEP_M)
    curvature = np.interp(s_m, knots[:, 0], knots[:, 1])
    middle = 0.5 * (curvature[1:] + curvature[:-1])
    heading = np.concatenate(([0.0], np.cumsum(middle) * STEP_M))
    half = heading[:-1] + 0.25 * STEP_M * (curvature[:-1] + middle)
    steps = STEP_M * np.stack((np.cos(half), np.sin(half)), axis=-1)
    xy_m = np.concatenate((np.zeros((1, 2)), np.cumsum(steps, axis=0)))
    return Road(s_m, xy_m, heading, curvature)
