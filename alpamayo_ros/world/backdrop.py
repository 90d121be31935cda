"""What is far away or everywhere: sky, hills, the meadow, and the textures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.mesh import Mesh, merge, quads
from alpamayo_ros.world.scene import Scene

SKY_RADIUS_M = 900.0
TILE_M = 200.0  # the meadow is made and culled in tiles
_CELL_M = 20.0
_HORIZON = np.array((0.80, 0.86, 0.91))
_ZENITH = np.array((0.33, 0.53, 0.82))
_STREAM = 8


def sky() -> Mesh:
    """A dome around the viewer, hazy at the horizon."""
    azimuth = np.linspace(0.0, 2.0 * np.pi, 25)
    elevation = np.deg2rad([-4.0, 0.0, 4.0, 10.0, 20.0, 40.0, 89.9])
    mix = np.clip(np.rad2deg(elevation) / 50.0, 0.0, 1.0) ** 0.7
    colours = _HORIZON + mix[:, None] * (_ZENITH - _HORIZON)
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    points = SKY_RADIUS_M * np.stack((np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)), -1)
    # Wound to be seen from inside.
    corners = np.stack((points[:-1, 1:], points[:-1, :-1], points[1:, :-1], points[1:, 1:]), axis=2)
    low, high = colours[:-1, None, :], colours[1:, None, :]
    shape = (*corners.shape[:2], 3)
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    colour = np.stack((low, low, high, high), axis=2)
    return quads(corners.reshape(-1, 4, 3), colour.reshape(-1, 4, 3))


def hills(seed: int) -> Mesh:
    """Two rows of hills on the horizon, the farther one paler."""
    rng = np.random.default_rng([seed, _STREAM])
    azimuth = np.linspace(0.0, 2.0 * np.pi, 97)
    rows = []
    for base, colour in ((0.050, (0.60, 0.69, 0.74)), (0.028, (0.46, 0.57, 0.52))):
        height = np.full_like(azimuth, base)
        for wave in (2, 3, 5, 9, 16, 27):
            height += base * 0.9 / np.sqrt(wave) * np.sin(wave * azimuth + rng.uniform(0.0, 6.28))
        height = np.maximum(height, 0.006)
        ring = 0.95 * SKY_RADIUS_M * np.column_stack((np.cos(azimuth), np.sin(azimuth)))
        low = np.column_stack((ring, np.full(len(ring), -0.03 * SKY_RADIUS_M)))
        high = np.column_stack((ring, height * SKY_RADIUS_M))
        corners = np.stack((low[1:], low[:-1], high[:-1], high[1:]), axis=1)
        rows.append(quads(corners, colour))
    return merge(rows)


def meadow_tiles(scene: Scene, margin_m: float = 420.0) -> list[Mesh]:
    """Green ground under the whole road and `margin_m` beyond, one mesh a tile, textured."""
    low = np.floor((scene.road.xy_m.min(axis=0) - margin_m) / TILE_M).astype(int)
    high = np.ceil((scene.road.xy_m.max(axis=0) + margin_m) / TILE_M).astype(int)
    # The field is sampled on whole cells of the odometry frame: tiles meet without a seam.
    field = _field(scene.seed)
    tiles = []
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            if _near_road(scene, i, j, margin_m):
                tiles.append(_tile(field, i, j))
    return tiles


def _near_road(scene: Scene, i: int, j: int, margin_m: float) -> bool:
    centre = (np.array((i, j)) + 0.5) * TILE_M
    coarse = scene.road.xy_m[::40]
    return bool(np.min(np.linalg.norm(coarse - centre, axis=1)) < margin_m + 0.71 * TILE_M)


def _field(seed: int) -> NDArray[np.float64]:
    """(64, 64, 3) colours of the meadow, repeating every 64 cells."""
    rng = np.random.default_rng([seed, _STREAM, 1])
    rough = rng.uniform(-1.0, 1.0, (64, 64))
    shifts = ((0, 0), (1, 0), (0, 1), (1, 1))
    smooth = 2.0 * np.mean([np.roll(rough, shift, (0, 1)) for shift in shifts], axis=0)
    base = np.array((0.43, 0.54, 0.27))
    return np.clip(base + smooth[..., None] * (0.07, 0.045, 0.04), 0.0, 1.0)


def _tile(field: NDArray[np.float64], i: int, j: int) -> Mesh:
    count = int(TILE_M / _CELL_M)
    cells = np.arange(count + 1)
    cells_x, cells_y = cells + i * count, cells + j * count
    x, y = np.meshgrid(cells_x * _CELL_M, cells_y * _CELL_M, indexing="ij")
    points = np.stack((x, y, np.zeros_like(x)), axis=-1).astype(float)
    colour = field[np.ix_(cells_x % 64, cells_y % 64)]

    def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
        corners = (values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:])
        return np.stack(corners, axis=2).reshape(-1, 4, values.shape[-1])

    # Texture coordinates start at the tile, small numbers keep their precision.
    uv = np.stack((x - x[0, 0], y - y[0, 0]), axis=-1) / 5.0
    return quads(around(points), around(colour), around(uv))


def asphalt_texture() -> NDArray[np.uint8]:
    """(256, 256, 3) RGB; columns across the road, with worn wheel tracks; rows along it."""
    rng = np.random.default_rng(101)
    across = (np.arange(256) + 0.5) / 256.0 * 8.0 - 4.0
    tracks = sum(np.exp(-(((np.abs(across) - d) / 0.28) ** 2)) for d in (1.0, 2.5))
    grey = 0.385 + 0.030 * tracks - 0.02 * np.exp(-((np.abs(across) / 0.2) ** 2))
    noise = _tileable_noise(rng)
    return _texture(grey[None, :] * (1.0 + 0.16 * noise), (0.99, 1.0, 1.02))


def grass_texture() -> NDArray[np.uint8]:
    """(256, 256, 3) brightness that multiplies the meadow's colours."""
    noise = _tileable_noise(np.random.default_rng(102))
    return _texture(0.90 + 0.13 * noise, (1.0, 1.0, 1.0))


def _tileable_noise(rng: np.random.Generator) -> NDArray[np.float64]:
    """(256, 256) noise of several sizes, about ±1, that repeats without a seam."""
    total = np.zeros((256, 256))
    for size, weight in ((256, 0.55), (128, 0.4), (32, 0.35), (8, 0.3)):
        rough = rng.uniform(-1.0, 1.0, (size, size))
        times = 256 // size
        smooth = np.kron(rough, np.ones((times, times)))
        for axis in (0, 1):
            if times > 1:
                smooth = np.mean([np.roll(smooth, k, axis) for k in range(times)], axis=0)
        total += weight * smooth
    return total


def _texture(brightness: NDArray[np.float64], tint: tuple[float, ...]) -> NDArray[np.uint8]:
    return np.clip(255.0 * brightness[..., None] * np.array(tint), 0, 255).astype(np.uint8)
