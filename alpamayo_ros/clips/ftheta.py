"""The f-theta lens: the angle from the axis gives the radius in the image, by a polynomial.

ROS has no name for it in CameraInfo. It is carried beside it, and CameraInfo gets the equidistant
(fisheye) model that lies nearest to it over the whole image, which ROS's tools understand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_MAX_ANGLE_RAD = 1.5  # CameraInfo's equidistant model has no points behind the lens


@dataclass(frozen=True, slots=True)
class FTheta:
    """One camera's lens; polynomials by rising power."""

    width: int
    height: int
    cx: float  # pixels
    cy: float
    radius_of_angle: tuple[float, ...]  # rad to pixels
    angle_of_radius: tuple[float, ...]  # pixels to rad

    def resized(self, width: int, height: int) -> FTheta:
        """The same lens for its whole image at another size of the same shape."""
        scale = width / self.width
        return FTheta(
            width,
            height,
            self.cx * scale,
            self.cy * scale,
            tuple(c * scale for c in self.radius_of_angle),
            tuple(c / scale**power for power, c in enumerate(self.angle_of_radius)),
        )

    def project(self, points_in_optical: ArrayLike) -> Array:
        """(n, 3) points of the optical frame to (n, 2) pixels; the axis itself to the centre."""
        points = np.asarray(points_in_optical, dtype=np.float64).reshape(-1, 3)
        sideways = np.linalg.norm(points[:, :2], axis=1)
        angle = np.arctan2(sideways, points[:, 2])
        radius = np.polynomial.polynomial.polyval(angle, self.radius_of_angle)
        direction = points[:, :2] / np.maximum(sideways, 1e-12)[:, None]
        return np.array([self.cx, self.cy]) + radius[:, None] * direction

    def equidistant(self) -> tuple[float, Array, float]:
        """Focal length in pixels, k1 … k4 and the largest error in pixels over the image.

        radius = f · (θ + k1 θ³ + k2 θ⁵ + k3 θ⁷ + k4 θ⁹), by least squares.
        """
        corners = [(u - self.cx, v - self.cy) for u in (0, self.width) for v in (0, self.height)]
        reach = max(float(np.hypot(u, v)) for u, v in corners)
        # The forward polynomial's own reach: beyond where it falls again it means nothing.
        angle = np.linspace(0.0, _MAX_ANGLE_RAD, 301)
        radius = np.polynomial.polynomial.polyval(angle, self.radius_of_angle)
        falls = np.flatnonzero(np.diff(radius) <= 0)
        end = int(falls[0]) + 1 if len(falls) else len(angle)
        end = min(end, int(np.searchsorted(radius[:end], reach)) + 1)
        angle, radius = angle[:end], radius[:end]
        powers = np.stack([angle**p for p in (1, 3, 5, 7, 9)], axis=1)
        weights = np.linalg.lstsq(powers, radius, rcond=None)[0]
        error = float(np.abs(powers @ weights - radius).max())
        return float(weights[0]), weights[1:] / weights[0], error
