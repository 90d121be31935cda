"""Flat bands along a road: what its ground, lines and marks are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.world.mesh import Mesh, strip
from alpamayo_ros.world.road import Road

ASPHALT_TEXTURE_M = 8.0  # length of road that one asphalt texture covers
LINE_WIDTH_M = 0.15
DASH_M, DASH_PERIOD_M = 3.0, 9.0  # a chunk of road is a multiple of the period
PAINT = (0.93, 0.93, 0.90)


def line(road: Road, s_m: NDArray[np.float64], d_m: float, z_m: float = 0.0) -> NDArray[np.float64]:
    """(n, 3) points along the road at a lateral offset and height."""
    return np.column_stack((road.points(s_m, d_m), np.full(len(s_m), z_m)))


def band(
    road: Road,
    s_m: NDArray[np.float64],
    a_m: float,
    b_m: float,
    colour: ArrayLike,
    z_m: float = 0.0,
) -> Mesh:
    """A flat band between two lateral offsets, facing up."""
    left, right = max(a_m, b_m), min(a_m, b_m)
    return strip(line(road, s_m, left, z_m), line(road, s_m, right, z_m), colour)


def asphalt(road: Road, s_m: NDArray[np.float64], half_width_m: float) -> Mesh:
    """The textured surface of a road."""
    along = s_m / ASPHALT_TEXTURE_M
    return strip(
        line(road, s_m, half_width_m), line(road, s_m, -half_width_m), (1.0, 1.0, 1.0),
        np.column_stack((np.ones_like(along), along)), np.column_stack((0 * along, along)),
    )  # fmt: skip
