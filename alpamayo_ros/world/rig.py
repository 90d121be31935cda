"""The cameras: names of the model's table, mounting in the rig frame, pinhole intrinsics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Columns: the optical frame's x (right), y (down), z (forward) in a camera that looks along rig x.
_RIG_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class PinholeCamera:
    """One camera without distortion, level with the ground."""

    name: str
    position_in_rig_m: tuple[float, float, float]
    yaw_in_rig_deg: float  # left positive, 0 looks ahead
    horizontal_fov_deg: float
    width_px: int
    height_px: int

    @property
    def optical_frame(self) -> str:
        return f"{self.name}_optical"

    @cached_property
    def rig_from_optical(self) -> NDArray[np.float64]:
        """(3, 3) rotation: x right, y down, z forward (REP 103) into the rig frame."""
        c, s = np.cos(np.deg2rad(self.yaw_in_rig_deg)), np.sin(np.deg2rad(self.yaw_in_rig_deg))
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ _RIG_FROM_OPTICAL

    @property
    def rig_from_optical_xyzw(self) -> NDArray[np.float64]:
        """(4,) the same as a quaternion."""
        half = np.deg2rad(self.yaw_in_rig_deg) / 2.0
        c, s = np.cos(half), np.sin(half)
        # yaw * (-0.5, 0.5, -0.5, 0.5), the quaternion of _RIG_FROM_OPTICAL
        return 0.5 * np.array([-c - s, c - s, s - c, s + c])

    @cached_property
    def intrinsics(self) -> NDArray[np.float64]:
        """(3, 3) K in pixels; pixel centres at whole numbers."""
        focal = 0.5 * self.width_px / np.tan(np.deg2rad(self.horizontal_fov_deg) / 2.0)
        cx, cy = 0.5 * (self.width_px - 1), 0.5 * (self.height_px - 1)
        return np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])

    def project(self, points_in_rig_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) points to (N, 2) pixels (column, row); NaN for points behind the camera."""
        in_optical = (points_in_rig_m - np.array(self.position_in_rig_m)) @ self.rig_from_optical
        depth = np.where(in_optical[:, 2:] > 0.0, in_optical[:, 2:], np.nan)
        return (in_optical / depth @ self.intrinsics.T)[:, :2]


Rig = tuple[PinholeCamera, ...]  # by the names of types.DEFAULT_CAMERAS, in that order


def default_rig(width_px: int = 576, height_px: int = 320) -> Rig:
    """front_wide and front_tele behind the windscreen, the cross cameras at the mirrors."""
    size = (width_px, height_px)
    return (
        PinholeCamera("front_wide", (1.7, 0.0, 1.45), 0.0, 120.0, *size),
        PinholeCamera("front_tele", (1.7, -0.05, 1.45), 0.0, 30.0, *size),
        PinholeCamera("cross_left", (1.9, 0.95, 1.15), 57.0, 120.0, *size),
        PinholeCamera("cross_right", (1.9, -0.95, 1.15), -57.0, 120.0, *size),
    )
