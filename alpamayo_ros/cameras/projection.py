"""Points of the rig frame to pixels of a camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.types import Pose3, readonly

Array = NDArray[np.float64]

NEAR_M = 0.3  # in front of the lens: what is nearer is cut away before it is projected
F_THETA = "f_theta"
# How many numbers of d OpenCV takes; an f_theta lens has any number from two on.
COEFFICIENTS = {
    "": (0, 4, 5),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 4, 5, 8, 12, 14),
    "equidistant": (0, 4),
}
DISTORTION_MODELS = ("", "plumb_bob", "rational_polynomial", "equidistant", F_THETA)


@dataclass(frozen=True, slots=True)
class CameraModel:
    """A calibrated camera, as sensor_msgs/CameraInfo and TF describe it; pixel centres are whole.

    Beside ROS's own lens models there is `f_theta`: the angle θ from the axis gives the distance
    from the centre, fx (across) and fy (down) times d0 + d1 θ + d2 θ² + …
    """

    k: Array  # (3, 3) pixels
    optical_from_rig: Pose3  # optical frame: x right, y down, z forward
    width: int  # of the image that k belongs to
    height: int
    d: Array = field(default_factory=lambda: np.zeros(0))  # (n,) in OpenCV's order; empty: none
    distortion_model: str = "plumb_bob"
    _reach: float = field(init=False, repr=False)  # tan of the largest angle that is projected

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", readonly(np.reshape(self.k, (3, 3)), np.float64, (3, 3), "k"))
        object.__setattr__(self, "d", readonly(self.d, np.float64, (None,), "d"))
        if self.distortion_model not in DISTORTION_MODELS:
            raise ValueError(
                f"distortion model {self.distortion_model!r} is none of {DISTORTION_MODELS[1:]}"
            )
        if self.distortion_model == F_THETA and len(self.d) < 2:
            raise ValueError(f"an f_theta lens wants d0, d1 and more, got {len(self.d)} numbers")
        object.__setattr__(self, "_reach", self._largest_radius())

    def resized(self, width: int, height: int) -> CameraModel:
        """The same camera for its whole image at another size."""
        across, down = width / self.width, height / self.height
        # Half a pixel lies outside the outermost centres, at either size.
        scale = np.array(
            [[across, 0.0, (across - 1) / 2], [0.0, down, (down - 1) / 2], [0.0, 0.0, 1.0]]
        )
        return CameraModel(
            scale @ self.k, self.optical_from_rig, width, height, self.d, self.distortion_model
        )

    def to_optical(self, points_in_rig: ArrayLike) -> Array:
        """(n, 3) metres of the rig frame to the optical frame."""
        points = np.asarray(points_in_rig, dtype=np.float64)
        return points @ self.optical_from_rig.rotation.T + self.optical_from_rig.translation_m

    def to_pixels(self, points_in_optical: ArrayLike, near_m: float = NEAR_M) -> Array:
        """(n, 3) points in front of the lens to (n, 2) pixels, also outside the image.

        NaN where the lens model does not reach: nearer than `near_m`, and beyond the angle at
        which the distortion turns back and would fold far points into the picture.
        """
        points = np.asarray(points_in_optical, dtype=np.float64).reshape(-1, 3)
        pixels = np.full((len(points), 2), np.nan)
        seen = points[:, 2] >= near_m - 1e-9
        radius = np.linalg.norm(points[:, :2], axis=1) / np.maximum(points[:, 2], 1e-9)
        seen &= radius <= self._reach
        if not seen.any():
            return pixels
        lens = np.ascontiguousarray(points[seen]).reshape(-1, 1, 3)
        none = np.zeros(3)
        projected: Any
        if self.distortion_model == F_THETA:
            projected = self._f_theta(points[seen])
        elif self.distortion_model == "equidistant":
            four = np.resize(self.d, 4) if len(self.d) else np.zeros(4)
            projected = cv2.fisheye.projectPoints(lens, none, none, self.k, four)[0]
        else:
            projected = cv2.projectPoints(
                lens, none, none, self.k, self.d if self.d.any() else None
            )[0]
        pixels[seen] = projected.reshape(-1, 2)
        return pixels

    def _f_theta(self, points: Array) -> Array:
        """(n, 2) pixels by the polynomial of the angle; the axis itself is the centre."""
        sideways = np.linalg.norm(points[:, :2], axis=1)
        radius = _powers(np.arctan2(sideways, points[:, 2]), range(len(self.d))) @ self.d
        bent = points[:, :2] * (radius / np.maximum(sideways, 1e-12))[:, None]
        return np.asarray(np.column_stack((bent, np.ones(len(bent)))) @ self.k.T)[:, :2]

    def _largest_radius(self) -> float:
        """tan of the largest angle from the axis for which the distortion still rises."""
        if not self.d.any():
            return float("inf")
        if self.distortion_model in ("equidistant", F_THETA):
            angle: Array = np.linspace(0.0, 0.5 * np.pi, 1001)[:-1]
            bent: Array
            if self.distortion_model == F_THETA:
                bent = _powers(angle, range(len(self.d))) @ self.d
            else:
                bent = angle + _powers(angle, (3, 5, 7, 9)) @ np.resize(self.d, 4)
            falls = np.flatnonzero(np.diff(bent) <= 0)
            return float(np.tan(angle[falls[0]])) if len(falls) else float("inf")
        k1, k2, _p1, _p2, k3, k4, k5, k6 = np.concatenate([self.d, np.zeros(8)])[:8]
        r = np.linspace(0.0, 4.0, 401)
        q = r * r
        bent = r * (1 + q * (k1 + q * (k2 + q * k3))) / (1 + q * (k4 + q * (k5 + q * k6)))
        falls = np.flatnonzero(np.diff(bent) <= 0)
        return float(r[falls[0]]) if len(falls) else float("inf")


def _powers(angle: Array, exponents: Iterable[int]) -> Array:
    """(n, m) an angle a row, a power a column."""
    return np.stack([angle**p for p in exponents], axis=1)


def project(camera: CameraModel, points_in_rig: ArrayLike) -> Array:
    """(n, 3) points of the rig frame to (n, 2) pixels; NaN for those the camera cannot see."""
    return camera.to_pixels(camera.to_optical(points_in_rig))


def project_polygon(camera: CameraModel, polygon_in_rig: ArrayLike) -> Array:
    """(m, 2) pixels of a convex polygon (n, 3), cut at NEAR_M; (0, 2) where nothing is left."""
    pixels = camera.to_pixels(_clip(camera.to_optical(polygon_in_rig)))
    return pixels if np.isfinite(pixels).all() else np.zeros((0, 2))


def project_polyline(camera: CameraModel, line_in_rig: ArrayLike) -> list[Array]:
    """The visible pieces, each (m, 2) pixels, of a line (n, 3) cut at NEAR_M."""
    optical = camera.to_optical(line_in_rig).reshape(-1, 3)
    ahead = optical[:, 2] >= NEAR_M
    crossings = np.flatnonzero(ahead[1:] != ahead[:-1])
    if len(crossings):
        start, end = optical[crossings], optical[crossings + 1]
        share = (NEAR_M - start[:, 2]) / (end[:, 2] - start[:, 2])
        cut = start + share[:, None] * (end - start)
        optical = np.insert(optical, crossings + 1, cut, axis=0)
    pixels = camera.to_pixels(optical)
    seen = np.isfinite(pixels[:, 0])
    ends = np.flatnonzero(np.diff(np.concatenate(([False], seen, [False])).astype(np.int8)))
    return [pixels[a:b] for a, b in zip(ends[::2], ends[1::2]) if b - a >= 2]


def project_ribbon(
    camera: CameraModel, left_in_rig: ArrayLike, right_in_rig: ArrayLike
) -> list[Array]:
    """The visible (m, 2) polygons between neighbouring points of two lines, (n, 3) each."""
    left, right = np.asarray(left_in_rig), np.asarray(right_in_rig)
    pixels = camera.to_pixels(camera.to_optical(np.vstack([left, right]))).reshape(2, -1, 2)
    left_px, right_px = pixels
    whole = np.isfinite(left_px[:, 0] + right_px[:, 0])
    shapes: list[Array] = []
    for k in range(len(left) - 1):
        if whole[k] and whole[k + 1]:
            corners = [left_px[k], left_px[k + 1], right_px[k + 1], right_px[k]]
            shapes.append(np.stack(corners))
        elif whole[k] or whole[k + 1]:
            quad = np.stack([left[k], left[k + 1], right[k + 1], right[k]])
            shapes.append(project_polygon(camera, quad))
    return [shape for shape in shapes if len(shape)]


def _clip(points: Array) -> Array:
    """The part of a polygon in the optical frame with z >= NEAR_M."""
    kept: list[Array] = []
    count = len(points)
    for index in range(count):
        here = points[index]
        if here[2] >= NEAR_M:
            kept.append(here)
        there = points[(index + 1) % count]
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            share = (NEAR_M - here[2]) / (there[2] - here[2])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 3)


def optical_rotation_from_rig() -> Array:
    """(3, 3) of a camera that looks along the rig's x axis, level."""
    return np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
