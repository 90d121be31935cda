"""Triangle meshes as arrays: vertex colours with the sun's shading already in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_AMBIENT = 0.62  # brightness of what the sun does not reach


def shade(normals: NDArray[np.float64], sun: ArrayLike) -> NDArray[np.float64]:
    """Brightness (N,) of faces by their unit normals (N, 3): sun, open sky, and the rest."""
    direct = np.maximum(normals @ np.asarray(sun, float), 0.0)
    return _AMBIENT + 0.10 * normals[:, 2] + 0.38 * direct


@dataclass(frozen=True)
class Mesh:
    """Separate triangles (flat faces share no vertices), counter-clockwise from outside."""

    vertices_m: NDArray[np.float64]  # (3T, 3)
    colours: NDArray[np.float64]  # (3T, 3), 0 … 1
    texture: NDArray[np.float64]  # (3T, 2) texture coordinates; zeros where none is used

    def placed(
        self, x_m: float, y_m: float, z_m: float, yaw_rad: float, scale: ArrayLike = 1.0
    ) -> Mesh:
        """Scaled by `scale` (scalar or (3,)), turned by the yaw, then moved."""
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        scaled = self.vertices_m * np.asarray(scale, float)
        turned = scaled @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return Mesh(turned + (x_m, y_m, z_m), self.colours, self.texture)

    def lit(self, sun: ArrayLike) -> Mesh:
        """With the faces' shading multiplied into the colours."""
        corners = self.vertices_m.reshape(-1, 3, 3)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        factors = np.repeat(shade(normals, sun), 3)[:, None]
        return Mesh(self.vertices_m, self.colours * factors, self.texture)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one mesh, in order."""
    if not meshes:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2)))
    return Mesh(
        np.concatenate([m.vertices_m for m in meshes]),
        np.concatenate([m.colours for m in meshes]),
        np.concatenate([m.texture for m in meshes]),
    )


def quads(corners_m: ArrayLike, colours: ArrayLike, texture: ArrayLike | None = None) -> Mesh:
    """Quads (Q, 4, 3), counter-clockwise; colours broadcast to (Q, 4, 3), texture to (Q, 4, 2)."""
    corners = np.asarray(corners_m, float).reshape(-1, 4, 3)
    order = [0, 1, 2, 0, 2, 3]
    colour = np.asarray(colours, float)
    if colour.ndim == 2:  # one colour a quad
        colour = colour[:, None, :]
    colour = np.broadcast_to(colour, corners.shape)
    uv = np.zeros((len(corners), 4, 2)) if texture is None else np.asarray(texture, float)
    uv = np.broadcast_to(uv, (len(corners), 4, 2))
    return Mesh(
        corners[:, order].reshape(-1, 3), colour[:, order].reshape(-1, 3),
        uv[:, order].reshape(-1, 2),
    )  # fmt: skip


def triangles(corners_m: ArrayLike, colours: ArrayLike) -> Mesh:
    """Triangles (T, 3, 3), counter-clockwise; colours (3,) or (T, 3)."""
    corners = np.asarray(corners_m, float).reshape(-1, 3, 3)
    colour = np.asarray(colours, float)
    if colour.ndim == 2:
        colour = colour[:, None, :]
    colour = np.broadcast_to(colour, corners.shape)
    flat = corners.reshape(-1, 3)
    return Mesh(flat, colour.reshape(-1, 3), np.zeros((len(flat), 2)))


def strip(
    left_m: NDArray[np.float64], right_m: NDArray[np.float64], colours: ArrayLike,
    texture_left: NDArray[np.float64] | None = None,
    texture_right: NDArray[np.float64] | None = None,
) -> Mesh:  # fmt: skip
    """Quads between two polylines (n, 3) run the same way; colours (3,) or (n - 1, 3)."""
    corners = np.stack((right_m[:-1], right_m[1:], left_m[1:], left_m[:-1]), axis=1)
    texture = None
    if texture_left is not None and texture_right is not None:
        texture = np.stack(
            (texture_right[:-1], texture_right[1:], texture_left[1:], texture_left[:-1]), axis=1
        )
    return quads(corners, colours, texture)


def box(centre_m: Sequence[float], size_m: Sequence[float], colour: ArrayLike) -> Mesh:
    """An upright box; no bottom, as nobody looks from below."""
    x, y, z = (0.5 * np.asarray(size_m, float)).tolist()
    base = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
    return prism(base + np.asarray(centre_m[:2], float), centre_m[2] - z, centre_m[2] + z, colour)


def prism(outline_m: NDArray[np.float64], low_m: float, high_m: float, colour: ArrayLike) -> Mesh:
    """An upright prism over a convex outline (n, 2), counter-clockwise, with a lid."""
    low = np.column_stack((outline_m, np.full(len(outline_m), low_m)))
    high = np.column_stack((outline_m, np.full(len(outline_m), high_m)))
    sides = np.stack((low, np.roll(low, -1, 0), np.roll(high, -1, 0), high), axis=1)
    lid = [[high[0], high[i], high[i + 1]] for i in range(1, len(high) - 1)]
    return merge([quads(sides, colour), triangles(lid, colour)])
