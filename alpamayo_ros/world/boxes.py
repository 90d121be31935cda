"""Oriented rectangles on the ground: do they touch, and how far apart are they."""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A footprint: its middle, its direction, its extent. In the odometry frame."""

    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float
    width_m: float

    @property
    def reach_m(self) -> float:
        """The radius of the circle around it."""
        return 0.5 * math.hypot(self.length_m, self.width_m)

    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Front left, rear left, rear right, front right."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        ax, ay = 0.5 * self.length_m * c, 0.5 * self.length_m * s
        bx, by = -0.5 * self.width_m * s, 0.5 * self.width_m * c
        x, y = self.x_m, self.y_m
        return (
            (x + ax + bx, y + ay + by),
            (x - ax + bx, y - ay + by),
            (x - ax - bx, y - ay - by),
            (x + ax - bx, y + ay - by),
        )


def gap_m(a: Box, b: Box) -> float:
    """The distance between two boxes, 0 where they touch or overlap."""
    if overlap(a, b):
        return 0.0
    first, second = a.corners(), b.corners()
    return math.sqrt(min(_nearest(first, second), _nearest(second, first)))


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a point: no side of either separates them."""
    if math.hypot(a.x_m - b.x_m, a.y_m - b.y_m) > a.reach_m + b.reach_m:
        return False
    first, second = a.corners(), b.corners()
    for yaw in (a.yaw_rad, b.yaw_rad):
        c, s = math.cos(yaw), math.sin(yaw)
        for ux, uy in ((c, s), (-s, c)):
            p = [x * ux + y * uy for x, y in first]
            q = [x * ux + y * uy for x, y in second]
            if max(p) < min(q) or max(q) < min(p):
                return False
    return True


def _nearest(points: tuple[Point, ...], polygon: tuple[Point, ...]) -> float:
    """The smallest squared distance of any point from any side."""
    best = math.inf
    for i, (ax, ay) in enumerate(polygon):
        bx, by = polygon[i - 1]
        ex, ey = bx - ax, by - ay
        length = ex * ex + ey * ey
        for x, y in points:
            share = min(max(((x - ax) * ex + (y - ay) * ey) / length, 0.0), 1.0)
            dx, dy = x - ax - share * ex, y - ay - share * ey
            best = min(best, dx * dx + dy * dy)
    return best
