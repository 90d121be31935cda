"""What a picture of one instant is made of. Plain arrays; positions in the rig frame then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.cameras.projection import CameraModel

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera's image then; None: there was none within tolerance, or it was damaged."""

    name: str
    image: Rgb | None  # (H, W, 3)
    camera: CameraModel | None  # None: no CameraInfo or no transform, no path is drawn


@dataclass(frozen=True, slots=True)
class MomentPlan:
    """The plan in force, brought to the rig frame of the picture's instant."""

    times_s: Array  # (65,) of its points, from the picture's instant; negative: already driven
    xyz_m: Array  # (65, 3)
    candidates_xyz_m: Array  # (n, 64, 3), the chosen one left out
    speeds_mps: Array  # (65,)
    curvatures_1pm: Array  # (65,)
    reasoning: str
    decisions: str
    model: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the vehicle did around the instant, by odometry."""

    times_s: Array  # (m,) from the instant
    xyz_m: Array  # (m, 3)
    speeds_mps: Array  # (m,)
    curvatures_1pm: Array  # (m,) left positive


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant of a drive."""

    time_s: float  # since the first picture
    views: tuple[CameraView, ...]  # the large one first
    recorded: Recorded
    plan: MomentPlan | None
    refusal: str = ""  # why there is no plan, where that was said


@dataclass(frozen=True, slots=True)
class Limits:
    """What the axes reach over a whole drive, so that they stand still."""

    speed_mps: float
    curvature_1pm: float
