"""The ground of one chunk of road, in layers that are painted one over the other.

Everything flat lies at z = 0 and is drawn in order without a depth buffer, so nothing flickers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.bands import (
    DASH_M,
    DASH_PERIOD_M,
    LINE_WIDTH_M,
    PAINT,
    band,
    line,
)
from alpamayo_ros.world.bands import asphalt as asphalt_of
from alpamayo_ros.world.marksmesh import arms_asphalt, marks_paint
from alpamayo_ros.world.mesh import Mesh, merge, strip, triangles
from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scene import CHUNK_M, Item, Scene
from alpamayo_ros.world.scenery import KERB_HEIGHT_M, PAVEMENT_OUTER_M

_STATION_M = 2.0
_STREAM = 7
_SHADOW_WIDTH = {"broadleaf": 0.42, "conifer": 0.40, "bush": 0.45}


@dataclass(frozen=True)
class ChunkGround:
    """The painted layers from the lowest up, and what stands up from the ground."""

    verge: Mesh
    asphalt: Mesh  # textured
    paint: Mesh
    shadows: Mesh  # drawn half transparent
    kerbs: Mesh  # solid: kerbs and pavements


def chunk_ground(scene: Scene, chunk: int) -> ChunkGround:
    """The ground meshes of one chunk, in the odometry frame, unlit."""
    start_m = chunk * CHUNK_M
    s_m = np.linspace(start_m, start_m + CHUNK_M, int(CHUNK_M / _STATION_M) + 1)
    road = scene.road
    half = ASPHALT_HALF_WIDTH_M
    asphalt = merge([asphalt_of(road, s_m, half), arms_asphalt(scene, chunk)])
    gaps = scene.marks.gaps
    paint = merge([
        _patches(scene, chunk), _markings(road, s_m, start_m, gaps), marks_paint(scene, chunk),
    ])  # fmt: skip
    shadows = merge([_shadow(item, scene) for item in scene.items[chunk]])
    if scene.town[chunk]:
        return ChunkGround(merge([]), asphalt, paint, shadows, _pavements(road, s_m))
    gravel = merge([
        band(road, s_m, side * half, side * (half + 0.8), (0.47, 0.43, 0.34)) for side in (-1, 1)
    ])  # fmt: skip
    return ChunkGround(gravel, asphalt, paint, shadows, merge([]))


def _markings(
    road: Road,
    s_m: NDArray[np.float64],
    start_m: float,
    gaps: tuple[tuple[float, float], ...] = (),
) -> Mesh:
    """Solid edge lines and the dashed centre line, left out in the gaps."""
    half = 0.5 * LINE_WIDTH_M
    edge = LANE_WIDTH_M - 0.05
    bands = []
    for piece in _outside(s_m, gaps):
        bands += [band(road, piece, d - half, d + half, PAINT) for d in (-edge, edge)]
    for dash_m in np.arange(start_m, start_m + CHUNK_M, DASH_PERIOD_M):
        if any(first - DASH_M < dash_m < last for first, last in gaps):
            continue
        bands.append(band(road, dash_m + np.linspace(0, DASH_M, 3), -half, half, PAINT))
    return merge(bands)


def _outside(
    s_m: NDArray[np.float64], gaps: tuple[tuple[float, float], ...]
) -> list[NDArray[np.float64]]:
    """The runs of at least two stations that lie in no gap."""
    free = np.ones(len(s_m), bool)
    for first, last in gaps:
        free &= (s_m < first) | (s_m > last)
    runs = np.split(np.arange(len(s_m)), np.flatnonzero(np.diff(free.astype(int))) + 1)
    return [s_m[run] for run in runs if free[run[0]] and len(run) > 1]


def _patches(scene: Scene, chunk: int) -> Mesh:
    """Repairs of the asphalt: darker and lighter rectangles."""
    rng = np.random.default_rng([scene.seed, _STREAM, chunk])
    bands = []
    for _ in range(int(rng.integers(0, 4))):
        start_m = chunk * CHUNK_M + rng.uniform(1.0, CHUNK_M - 8.0)
        s_m = start_m + np.linspace(0.0, rng.uniform(1.5, 6.0), 4)
        d_m, width = rng.uniform(-3.0, 2.0), rng.uniform(0.5, 1.4)
        grey = rng.uniform(0.26, 0.38)
        bands.append(band(scene.road, s_m, d_m, d_m + width, (grey, grey, grey + 0.01)))
    return merge(bands)


def _pavements(road: Road, s_m: NDArray[np.float64]) -> Mesh:
    """Kerb face, kerb stones and slabs on both sides, and the slabs' outer face."""
    inner, stone, outer = ASPHALT_HALF_WIDTH_M, ASPHALT_HALF_WIDTH_M + 0.2, PAVEMENT_OUTER_M
    top = KERB_HEIGHT_M
    slab = 0.60 + 0.025 * ((np.arange(len(s_m) - 1)) % 2)[:, None] * np.ones(3)
    stones = 0.74 + 0.04 * ((np.arange(len(s_m) - 1)) % 2)[:, None] * np.ones(3)
    parts = []
    for side in (-1, 1):
        low, high = line(road, s_m, side * inner), line(road, s_m, side * inner, top)
        out_low, out_high = line(road, s_m, side * outer), line(road, s_m, side * outer, top)
        # Seen from the road the face's top lies left of its bottom on the left side.
        parts.append(
            strip(high, low, 0.80 * stones) if side > 0 else strip(low, high, 0.80 * stones)
        )
        parts.append(strip(out_low, out_high, slab) if side > 0 else strip(out_high, out_low, slab))
        parts.append(band(road, s_m, side * inner, side * stone, stones, top))
        parts.append(band(road, s_m, side * stone, side * outer, slab, top))
    return merge(parts)


def _shadow(item: Item, scene: Scene) -> Mesh:
    """The flat shadow of one item: an ellipse away from the sun, or a box's outline."""
    if item.kind in _SHADOW_WIDTH:
        sun = np.array(scene.light.sun_direction)
        reach = 0.6 * item.size_m[2] / max(float(np.tan(np.arcsin(sun[2]))), 0.5)
        away = -sun[:2] / np.linalg.norm(sun[:2])
        centre = np.array((item.x_m, item.y_m)) + reach * away
        wide = _SHADOW_WIDTH[item.kind] * item.size_m[0]
        long = wide * (0.75 + 0.5 * reach / item.size_m[2])
        yaw = float(np.arctan2(away[1], away[0]))
        return _ellipse(centre, long, wide, yaw)
    if item.kind in ("car", "house"):
        grown = 1.12 if item.kind == "car" else 1.05
        return footprint_shadow(
            item.x_m, item.y_m, item.yaw_rad, item.size_m[0] * grown, item.size_m[1] * grown
        )
    return merge([])


def footprint_shadow(
    x_m: float, y_m: float, yaw_rad: float, length_m: float, width_m: float
) -> Mesh:
    """A dark rectangle with cut corners on the ground."""
    a, b = 0.5 * length_m, 0.5 * width_m
    cut = 0.3 * b
    outline = np.array([(a - cut, -b), (a, cut - b), (a, b - cut), (a - cut, b),
                        (cut - a, b), (-a, b - cut), (-a, cut - b), (cut - a, -b)])  # fmt: skip
    return _fan(outline).placed(x_m, y_m, 0.0, yaw_rad)


def _ellipse(centre: Iterable[float], long_m: float, wide_m: float, yaw_rad: float) -> Mesh:
    angles = np.arange(12) * 2.0 * np.pi / 12
    outline = np.column_stack((long_m * np.cos(angles), wide_m * np.sin(angles)))
    x_m, y_m = centre
    return _fan(outline).placed(x_m, y_m, 0.0, yaw_rad)


def _fan(outline: NDArray[np.float64]) -> Mesh:
    points = np.column_stack((outline, np.zeros(len(outline))))
    faces = [[points[0], points[i], points[i + 1]] for i in range(1, len(points) - 1)]
    return triangles(faces, (0.06, 0.07, 0.09))
