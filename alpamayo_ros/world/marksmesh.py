"""Zebra crossings, stop lines, and the roads that join at junctions."""

from __future__ import annotations

import numpy as np

from alpamayo_ros.world.bands import DASH_M, DASH_PERIOD_M, LINE_WIDTH_M, PAINT, asphalt, band
from alpamayo_ros.world.mesh import Mesh, merge
from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scene import CHUNK_M, Scene

_STRIPE_M, _CROSSING_M, _STOP_LINE_M = 0.5, 3.2, 0.5
_ARM_LINES_FROM_M = 14.0  # an arm's lines begin so far from its start


def marks_paint(scene: Scene, chunk: int) -> Mesh:
    """What is painted in one chunk besides the lines along the road."""
    road, marks, bands = scene.road, scene.marks, []
    for s_m in _within(marks.crossings_m, chunk):
        along = s_m + np.array([-0.5, 0.5]) * _CROSSING_M
        for d_m in np.arange(-3.3, 3.3, 2.0 * _STRIPE_M):
            bands.append(band(road, along, d_m, d_m + _STRIPE_M, PAINT))
    for s_m in _within(marks.stop_lines_m, chunk):
        along = s_m + np.array([0.0, _STOP_LINE_M])
        bands.append(band(road, along, -LANE_WIDTH_M + 0.1, -0.15, PAINT))
    for at_m, arm in marks.arms:
        if int(at_m // CHUNK_M) == chunk:
            bands.append(_arm_lines(arm))
    return merge(bands)


def arms_asphalt(scene: Scene, chunk: int) -> Mesh:
    """The surface of the roads that join in one chunk; textured."""
    return merge([
        asphalt(arm, _stations(arm), ASPHALT_HALF_WIDTH_M)
        for at_m, arm in scene.marks.arms
        if int(at_m // CHUNK_M) == chunk
    ])  # fmt: skip


def _within(places_m: tuple[float, ...], chunk: int) -> list[float]:
    return [s_m for s_m in places_m if int(s_m // CHUNK_M) == chunk]


def _stations(road: Road) -> np.ndarray:
    return np.arange(0.0, road.length_m + 0.01, 2.0)


def _arm_lines(arm: Road) -> Mesh:
    half, edge = 0.5 * LINE_WIDTH_M, LANE_WIDTH_M - 0.05
    along = np.arange(_ARM_LINES_FROM_M, arm.length_m, 4.0)
    bands = [band(arm, along, d - half, d + half, PAINT) for d in (-edge, edge)]
    for dash_m in np.arange(_ARM_LINES_FROM_M, arm.length_m - DASH_M, DASH_PERIOD_M):
        bands.append(band(arm, dash_m + np.linspace(0.0, DASH_M, 2), -half, half, PAINT))
    return merge(bands)
