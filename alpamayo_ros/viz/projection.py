"""Points of the rig frame to pixels of a camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.types import Pose3, readonly

Array = NDArray[np.float64]

NEAR_M = 0.3  # in front of the lens: what is nearer is cut away before it is projected
# How many coefficients each may have; OpenCV takes no others.
DISTORTION_MODELS = {
    "": (0, 4, 5),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 4, 5, 8, 12, 14),
    "equidistant": (0, 4),
}


@dataclass(frozen=True, slots=True)
class CameraModel:
    """A calibrated camera, as sensor_msgs/CameraInfo and TF describe it."""

    k: Array  # (3, 3) pixels
    optical_from_rig: Pose3  # optical frame: x right, y down, z forward
    width: int  # of the image that k belongs to
    height: int
    d: Array = field(default_factory=lambda: np.zeros(0))  # (n,) in OpenCV's order; empty: none
    distortion_model: str = "plumb_bob"

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", readonly(np.reshape(self.k, (3, 3)), np.float64, (3, 3), "k"))
        object.__setattr__(self, "d", readonly(self.d, np.float64, (None,), "d"))
        if self.distortion_model not in DISTORTION_MODELS:
            known = ", ".join(filter(None, DISTORTION_MODELS))
            raise ValueError(f"distortion model {self.distortion_model!r} is none of {known}")

    def resized(self, width: int, height: int) -> CameraModel:
        """The same camera for its whole image at another size."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return CameraModel(
            scale @ self.k, self.optical_from_rig, width, height, self.d, self.distortion_model
        )

    def to_optical(self, points_in_rig: ArrayLike) -> Array:
        """(n, 3) metres of the rig frame to the optical frame."""
        points = np.asarray(points_in_rig, dtype=np.float64)
        return points @ self.optical_from_rig.rotation.T + self.optical_from_rig.translation_m

    def to_pixels(self, points_in_optical: ArrayLike) -> Array:
        """(n, 3) points in front of the lens to (n, 2) pixels, also outside the image.

        NaN where the lens model does not reach: behind NEAR_M, and beyond the angle at which the
        distortion polynomial turns back and would fold far points into the picture.
        """
        points = np.asarray(points_in_optical, dtype=np.float64).reshape(-1, 3)
        pixels = np.full((len(points), 2), np.nan)
        seen = points[:, 2] >= NEAR_M - 1e-9
        radius = np.linalg.norm(points[:, :2], axis=1) / np.maximum(points[:, 2], 1e-9)
        seen &= radius <= self._largest_radius()
        if not seen.any():
            return pixels
        lens = np.ascontiguousarray(points[seen]).reshape(-1, 1, 3)
        none = np.zeros(3)
        if self.distortion_model == "equidistant":
            four = np.resize(self.d, 4) if len(self.d) else np.zeros(4)
            projected = cv2.fisheye.projectPoints(lens, none, none, self.k, four)[0]
        else:
            projected = cv2.projectPoints(
                lens, none, none, self.k, self.d if self.d.any() else None
            )[0]
        pixels[seen] = projected.reshape(-1, 2)
        return pixels

    def _largest_radius(self) -> float:
        """tan of the largest angle from the axis for which the distortion still rises."""
        if not self.d.any() or self.distortion_model == "equidistant":
            return np.inf
        k1, k2, _p1, _p2, k3, k4, k5, k6 = np.concatenate([self.d, np.zeros(8)])[:8]
        r = np.linspace(0.0, 4.0, 401)
        q = r * r
        bent = r * (1 + q * (k1 + q * (k2 + q * k3))) / (1 + q * (k4 + q * (k5 + q * k6)))
        falls = np.flatnonzero(np.diff(bent) <= 0)
        return float(r[falls[0]]) if len(falls) else np.inf


def project(camera: CameraModel, points_in_rig: ArrayLike) -> Array:
    """(n, 3) points of the rig frame to (n, 2) pixels; NaN for those the camera cannot see."""
    return camera.to_pixels(camera.to_optical(points_in_rig))


def project_polygon(camera: CameraModel, polygon_in_rig: ArrayLike) -> Array:
    """(m, 2) pixels of a convex polygon (n, 3), cut at NEAR_M; (0, 2) where nothing is left."""
    pixels = camera.to_pixels(_clip(camera.to_optical(polygon_in_rig), closed=True))
    return pixels if np.isfinite(pixels).all() else np.zeros((0, 2))


def project_polyline(camera: CameraModel, line_in_rig: ArrayLike) -> list[Array]:
    """The visible pieces, each (m, 2) pixels, of a line (n, 3) cut at NEAR_M."""
    optical = camera.to_optical(line_in_rig)
    pieces: list[Array] = []
    for start, end in pairwise(optical):
        pixels = camera.to_pixels(_clip(np.stack([start, end]), closed=False))
        if len(pixels) < 2 or not np.isfinite(pixels).all():
            continue
        if pieces and np.allclose(pieces[-1][-1], pixels[0]):
            pieces[-1] = np.vstack([pieces[-1], pixels[1:]])
        else:
            pieces.append(pixels)
    return pieces


def _clip(points: Array, *, closed: bool) -> Array:
    """The part of a polygon or line in the optical frame with z >= NEAR_M."""
    kept: list[Array] = []
    count = len(points)
    for index in range(count):
        here = points[index]
        if here[2] >= NEAR_M:
            kept.append(here)
        if index + 1 == count and not closed:
            break
        there = points[(index + 1) % count]
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            share = (NEAR_M - here[2]) / (there[2] - here[2])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 3)


def optical_rotation_from_rig() -> Array:
    """(3, 3) of a camera that looks along the rig's x axis, level."""
    return np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
