"""A calibrated f-theta lens: the angle from the axis gives the radius in pixels, by a polynomial.

ROS has no name for it in CameraInfo. Where a clip has one, it is carried beside CameraInfo, which
gets the equidistant (fisheye) model nearest to it over the whole image: ROS's tools understand it.
"""

from __future__ import annotations

import json
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

    def as_json(self) -> str:
        """What /camera/<name>/f_theta carries."""
        return json.dumps({
            "model": "f_theta", "width": self.width, "height": self.height,
            "cx": self.cx, "cy": self.cy,
            "radius_px_of_angle_rad": self.radius_of_angle,
            "angle_rad_of_radius_px": self.angle_of_radius,
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> FTheta:
        """The lens of `as_json`. Raises ValueError."""
        try:
            content = json.loads(text)
            return cls(
                int(content["width"]), int(content["height"]),
                float(content["cx"]), float(content["cy"]),
                tuple(map(float, content["radius_px_of_angle_rad"])),
                tuple(map(float, content["angle_rad_of_radius_px"])),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no f-theta lens: {error}") from error

    def intrinsics(self) -> tuple[Array, Array]:
        """(3, 3) k and (n,) d of the same lens as a CameraModel of `f_theta`."""
        focal = self.radius_of_angle[1]
        k = np.array([[focal, 0.0, self.cx], [0.0, focal, self.cy], [0.0, 0.0, 1.0]])
        return k, np.array(self.radius_of_angle) / focal

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
