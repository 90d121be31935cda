"""Paths on a camera's image, by its calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.cameras.projection import CameraModel, project_polyline, project_ribbon
from alpamayo_ros.viz import canvas as draw

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]

VEHICLE_WIDTH_M = 1.8
_STANDS_M = 0.5  # a planned path shorter than this has no direction to draw


def draw_path(
    picture: Rgb,
    camera: CameraModel,
    path_xyz: ArrayLike,
    future_xyz: ArrayLike | None = None,
    candidates_xyz: Sequence[ArrayLike] = (),
    *,
    from_rig: bool = True,
) -> None:
    """Draw a planned path as a vehicle-wide ribbon and the recorded future as a line, in place.

    All (n, 3) m in the rig frame, on the ground where the rig's origin is; `from_rig`: they go on
    from that origin, which is not among their points. The ribbon has a rung each second, candidates
    are thin lines below it. A plan to stand is a bar in front of the vehicle.
    """
    for candidate in candidates_xyz:
        draw_line(picture, camera, _begun(candidate, from_rig), draw.GREEN, 1)
    line = _begun(path_xyz, from_rig)
    length = float(np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1).sum())
    stands = length < _STANDS_M
    if stands:
        line = np.array([[4.0, 0.0, 0.0], [4.4, 0.0, 0.0]])
    left, right = edges(line, VEHICLE_WIDTH_M / 2)
    quads = project_ribbon(camera, left, right)
    draw.polygons(picture, quads, draw.VERMILION if stands else draw.SKY, 0.85 if stands else 0.5)
    for edge in (left, right):
        draw_line(picture, camera, edge, draw.WHITE, 1)
    for k in range(10, len(line) if not stands else 0, 10):
        draw_line(picture, camera, np.stack([left[k], right[k]]), draw.WHITE, 1)
    if future_xyz is not None:
        draw_line(picture, camera, _begun(future_xyz, from_rig), draw.ORANGE, 2)


def draw_line(
    picture: Rgb, camera: CameraModel, line_xyz: ArrayLike, colour: draw.Colour, thickness: int
) -> None:
    """A line (n, 3) m of the rig frame, where the camera sees it."""
    for piece in project_polyline(camera, line_xyz):
        draw.polyline(picture, piece, colour, thickness)


def _begun(line: ArrayLike, from_rig: bool) -> Array:
    points = np.asarray(line, dtype=np.float64).reshape(-1, 3)
    return np.vstack([np.zeros(3), points]) if from_rig else points


def edges(line: Array, half_width_m: float) -> tuple[Array, Array]:
    """(n, 3) left and right of a line (n, 3), at right angles to it in x and y."""
    direction = np.gradient(line[:, :2], axis=0)
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    # A standing stretch has no direction of its own: it keeps the last one.
    moving = np.flatnonzero(length[:, 0] > 1e-3)
    if not len(moving):
        direction[:] = (1.0, 0.0)
    else:
        nearest = moving[
            np.clip(np.searchsorted(moving, np.arange(len(line)), "right") - 1, 0, None)
        ]
        direction = direction[nearest] / length[nearest]
    normal = np.stack([-direction[:, 1], direction[:, 0], np.zeros(len(line))], axis=1)
    return line + half_width_m * normal, line - half_width_m * normal
