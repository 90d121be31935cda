"""CameraInfo and mountings against the rig that a model was trained on.

A model drives by where in its pictures things are: a camera of another angle of view, turned, or
swapped with its neighbour gives plausible plans for another road.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH

FOV_SHARE = 0.15  # of the angle of view
YAW_DEG, ROLL_DEG = 25.0, 8.0
PIXEL_SHARE = 0.05  # of a pixel's width, by which its height may differ
# ROS's name for each lens model whose angle of view is not a pinhole's.
FISHEYES = ("equidistant", "fisheye", "kannala_brandt4")


@dataclass(frozen=True, slots=True)
class Mounting:
    """One camera as a model was trained with it."""

    horizontal_fov_deg: float
    yaw_deg: float  # of its optical axis in the rig, left positive


@dataclass(frozen=True, slots=True)
class Lens:
    """What a CameraInfo says, without what is not looked at."""

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    is_fisheye: bool

    def horizontal_fov_deg(self, crops: bool) -> float:
        """Of the whole picture, or of what is left of it at the model's shape."""
        width = float(self.width_px)
        if crops:
            width = min(width, self.height_px * IMAGE_WIDTH / IMAGE_HEIGHT)
        half = 0.5 * width / self.fx_px
        return math.degrees(2.0 * (half if self.is_fisheye else math.atan(half)))


def lens_of(info: Any) -> Lens | None:
    """From a sensor_msgs/CameraInfo; None where it is not calibrated."""
    fx, fy = float(info.k[0]), float(info.k[4])
    known = math.isfinite(fx) and math.isfinite(fy) and fx > 0.0 and fy > 0.0
    if not known or not info.width or not info.height:
        return None
    fisheye = str(info.distortion_model).lower() in FISHEYES
    return Lens(int(info.width), int(info.height), fx, fy, fisheye)


def problems(
    camera: str,
    lens: Lens | None,
    rig_from_optical: NDArray[np.float64] | None,
    rig: Mapping[str, Mounting],
    crops: bool,
) -> list[str]:
    """What is wrong with one camera; `rig_from_optical` (3, 3) where /tf_static has it."""
    wanted = rig.get(camera)
    if wanted is None:
        return []
    found = _lens_problems(camera, lens, wanted, crops) if lens is not None else []
    if rig_from_optical is not None:
        found += _mounting_problems(camera, rig_from_optical, wanted)
    return found


def _lens_problems(camera: str, lens: Lens, wanted: Mounting, crops: bool) -> list[str]:
    found = []
    fov, trained = lens.horizontal_fov_deg(crops), wanted.horizontal_fov_deg
    if abs(fov - trained) > FOV_SHARE * trained:
        found.append(
            f"{camera} sees {fov:.0f} degrees across, the model was trained on {trained:.0f}: "
            "another camera, or camera_names in another order than camera_topics?"
        )
    if abs(lens.fy_px / lens.fx_px - 1.0) > PIXEL_SHARE:
        found.append(
            f"{camera}'s pixels are {lens.fx_px / lens.fy_px:.2f} times as high as wide: stretched "
            "pictures, or a CameraInfo of another resolution?"
        )
    return found


def _mounting_problems(
    camera: str, rig_from_optical: NDArray[np.float64], wanted: Mounting
) -> list[str]:
    right, axis = rig_from_optical[:, 0], rig_from_optical[:, 2]
    yaw = math.degrees(math.atan2(axis[1], axis[0]))
    off = math.remainder(yaw - wanted.yaw_deg, 360.0)
    # Level, the picture's right lies in the plane; upside down, its down points up.
    roll = math.degrees(math.atan2(-right[2], -rig_from_optical[2, 1]))
    found = []
    if abs(off) > YAW_DEG:
        mirrored = abs(math.remainder(yaw + wanted.yaw_deg, 360.0)) <= YAW_DEG
        swapped = ": is it swapped with the other side's?" if mirrored else ""
        found.append(
            f"{camera} looks {_side(yaw)}, the model was trained with {_side(wanted.yaw_deg)}"
            f"{swapped}"
        )
    if abs(roll) > ROLL_DEG:
        found.append(f"{camera} is rolled by {roll:.0f} degrees; the model was trained upright")
    return found


def _side(yaw_deg: float) -> str:
    if abs(yaw_deg) < 0.5:
        return "straight ahead"
    return f"{abs(yaw_deg):.0f} degrees to the {'left' if yaw_deg > 0 else 'right'}"
