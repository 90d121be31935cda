"""CameraInfo and static transforms to a camera that can be projected with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.cameras.projection import COEFFICIENTS, DISTORTION_MODELS, F_THETA, CameraModel
from alpamayo_ros.geometry import compose
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.types import Pose3


@dataclass(frozen=True, slots=True)
class Calibration:
    """CameraInfo of one camera, and the frame that it belongs to."""

    info: Any
    frame_id: str
    f_theta: FTheta | None = None  # the lens itself, where a recording has it beside CameraInfo


@dataclass(frozen=True, slots=True)
class RectifiedInfo:
    """What a CameraInfo says of the images that image_proc made of its camera's."""

    header: Any
    width: int
    height: int
    k: tuple[float, ...]  # of p
    r: tuple[float, ...]  # rectified from optical frame
    d: tuple[float, ...] = ()
    distortion_model: str = ""


def calibration_of(info: Any, image_topic: str, f_theta: FTheta | None = None) -> Calibration:
    """Of the images of a topic: `image_rect…`, by the convention of image_pipeline, shares the
    CameraInfo of the camera, whose p and r describe it, and has no distortion left."""
    name = image_topic.removesuffix("/compressed").rsplit("/", 1)[-1]
    if not name.startswith("image_rect"):
        return Calibration(info, info.header.frame_id, f_theta)
    k = np.asarray(info.p, dtype=np.float64).reshape(3, 4)[:, :3]
    r = np.asarray(info.r, dtype=np.float64)
    lens = RectifiedInfo(
        info.header,
        int(info.width),
        int(info.height),
        tuple(k.ravel().tolist()),
        tuple((r if r.any() else np.eye(3).ravel()).tolist()),
    )
    return Calibration(lens, info.header.frame_id)


def info_topic(image_topic: str) -> str:
    """Where image_transport publishes the CameraInfo of an image topic."""
    base = image_topic.removesuffix("/compressed")
    return base.rsplit("/", 1)[0] + "/camera_info"


def camera_model(calibration: Calibration | None, transforms: RigOffset) -> CameraModel | None:
    """A camera to project with; None without CameraInfo, transform, or a usable lens model."""
    if calibration is None or why_unusable(calibration.info):
        return None
    optical_from_rig = transforms.child_from_rig(calibration.frame_id)
    if optical_from_rig is None:
        return None
    if calibration.f_theta is not None:
        lens = calibration.f_theta
        k, d = lens.intrinsics()
        return CameraModel(k, optical_from_rig, lens.width, lens.height, d, F_THETA)
    info = calibration.info
    if isinstance(info, RectifiedInfo):
        turned = Pose3(np.zeros(3), np.asarray(info.r).reshape(3, 3))
        optical_from_rig = compose(turned, optical_from_rig)
    k = np.asarray(info.k, dtype=np.float64).reshape(3, 3)
    return CameraModel(
        k, optical_from_rig, int(info.width), int(info.height), info.d, info.distortion_model
    )


def why_unusable(info: Any) -> str:
    """What keeps a CameraInfo from describing a lens; empty where nothing does."""
    k, d = np.asarray(info.k, dtype=np.float64), np.asarray(info.d, dtype=np.float64)
    if not (np.isfinite(k).all() and np.isfinite(d).all() and k[0] > 0 and k[4] > 0):
        which = "p, which describes rectified images," if isinstance(info, RectifiedInfo) else "k"
        return f"an uncalibrated CameraInfo: its {which} has no focal lengths"
    if info.distortion_model not in DISTORTION_MODELS:
        known = ", ".join(DISTORTION_MODELS[1:])
        return f"a CameraInfo with distortion model {info.distortion_model!r}; known are {known}"
    lengths = COEFFICIENTS.get(info.distortion_model)
    if lengths is not None and len(d) not in lengths:
        return (
            f"a CameraInfo of {info.distortion_model or 'no'} distortion with {len(d)} numbers in d"
        )
    if info.distortion_model == F_THETA and len(d) < 2:
        return f"a CameraInfo of an f_theta lens with {len(d)} numbers in d, wanted d0, d1 and more"
    if info.width <= 0 or info.height <= 0:
        return f"a CameraInfo of {info.width}x{info.height} pixels"
    return ""
