"""Images of another rig as the views that a model was trained on.

Directions are put right: lens, field of view and how the camera is turned. Where the camera sits is
not: without depth nothing can undo that. Maps are computed once a camera.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.cameras.calibration import (
    Calibration,
    calibration_of,
    camera_model,
    why_unusable,
)
from alpamayo_ros.cameras.projection import CameraModel
from alpamayo_ros.cameras.views import rays_in_rig
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH, ImageError

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]
Shrink = Callable[[Rgb], Rgb]

MAX_SAMPLES = 3  # a side of a model's pixel: 1080p to 320 x 576 takes 3.4
_STEP = 4  # pixels between those that are projected
_NEAR = 1e-3  # along the axis, of unit directions: 89.9 degrees off the axis


class ViewMap:
    """From one camera's images to one view of 320 x 576; black where the camera does not see.

    `coverage` is the share of the view that it sees.
    """

    def __init__(self, view: CameraModel, camera: CameraModel) -> None:
        self._size = camera.width, camera.height
        small = view.resized(IMAGE_WIDTH, IMAGE_HEIGHT)
        self._samples = _samples_a_pixel(small, camera)
        fine = view.resized(self._samples * IMAGE_WIDTH, self._samples * IMAGE_HEIGHT)
        pixels = _all_pixels(fine, camera)
        inside = _inside(pixels, camera)
        across = np.where(inside, pixels[..., 0], -1e4).astype(np.float32)
        down = np.where(inside, pixels[..., 1], -1e4).astype(np.float32)
        # Fixed point: half the time, to 1/32 pixel.
        self._maps = cv2.convertMaps(across, down, cv2.CV_16SC2)
        blocks = inside.reshape(IMAGE_HEIGHT, self._samples, IMAGE_WIDTH, self._samples)
        seen = np.asarray(blocks.all(axis=(1, 3)))
        self._seen = seen[..., None].astype(np.uint8)
        self.coverage = float(seen.mean())

    def __call__(self, rgb: Rgb, shrink: Shrink) -> Rgb:
        """(H, W, 3) to (320, 576, 3); `shrink` brings a view of whole multiples to that size.

        Raises ImageError where the image is not of the calibration's shape.
        """
        height, width = rgb.shape[:2]
        if (width, height) != self._size:
            raise ImageError(
                f"{width}x{height} pixels, its CameraInfo is of {self._size[0]}x{self._size[1]}"
            )
        large = cv2.remap(rgb, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        result = shrink(np.asarray(large, np.uint8))
        return np.asarray(result * self._seen, np.uint8)


def _pixels(view: CameraModel, camera: CameraModel) -> Array:
    """(rows, columns, 2) where the camera sees what lies far away behind every _STEP-th pixel.

    One more row and column than there are steps, so that they enclose the view.
    """
    rows = np.arange(0, view.height + _STEP, _STEP, dtype=np.float64)
    columns = np.arange(0, view.width + _STEP, _STEP, dtype=np.float64)
    rays = rays_in_rig(view, rows, columns) @ camera.optical_from_rig.rotation.T
    pixels = camera.to_pixels(np.nan_to_num(rays, nan=-1.0), near_m=_NEAR)
    return pixels.reshape(len(rows), len(columns), 2)


def _all_pixels(view: CameraModel, camera: CameraModel) -> Array:
    """(height, width, 2) of every pixel, straight in between: off by 0.02 pixels at most."""
    pixels, share = _pixels(view, camera), np.arange(_STEP) / _STEP
    for _ in range(2):  # rows, then columns
        before, after = pixels[:-1, None], pixels[1:, None]
        between = before + (after - before) * share[:, None, None]
        pixels = between.reshape(-1, *pixels.shape[1:]).swapaxes(0, 1)
    return pixels


def _inside(pixels: Array, camera: CameraModel) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        low = (pixels >= 0.0).all(axis=-1)
        return np.asarray(
            low & (pixels[..., 0] <= camera.width - 1) & (pixels[..., 1] <= camera.height - 1)
        )


def _samples_a_pixel(view: CameraModel, camera: CameraModel) -> int:
    """So many that the camera's pixels are averaged, not picked from: at least one, at most 3."""
    steps = np.linalg.norm(np.diff(_pixels(view, camera), axis=1), axis=2) / _STEP
    seen = steps[np.isfinite(steps)]
    # A sample between pixels takes in two of them: 1.3 apart leaves none out by much.
    return int(np.clip(np.ceil(np.median(seen) / 1.3), 1, MAX_SAMPLES)) if len(seen) else 1


class RigAdapter:
    """The maps of a rig's cameras, made as CameraInfo and transforms arrive. Thread-safe."""

    def __init__(self, views: Mapping[str, CameraModel], rig_frame: str) -> None:
        self._views = views
        self._transforms = RigOffset(rig_frame)
        self._calibrations: dict[str, Calibration] = {}
        self._maps: dict[str, ViewMap] = {}
        self._lock = threading.Lock()

    def add_static_transforms(
        self, message: Any, to_pose: Callable[..., Any] = geometry.pose_from_quaternion
    ) -> None:
        """Take in a /tf_static message; a camera that waited for it gets its map."""
        with self._lock:
            self._transforms.add_static_transforms(message, to_pose)
            for name in self._calibrations:
                if name not in self._maps:
                    self._prepare(name)

    def add_camera_info(self, name: str, info: Any, image_topic: str = "") -> None:
        """Take in a camera's CameraInfo; one that says what the last said costs nothing.

        `image_topic` tells whether its images are rectified.
        """
        calibration = calibration_of(info, image_topic)
        with self._lock:
            last = self._calibrations.get(name)
            if last is not None and _same(last.info, calibration.info):
                return
            self._calibrations[name] = calibration
            self._maps.pop(name, None)
            self._prepare(name)

    def coverage(self, name: str) -> float:
        """The share of the camera's view that is seen; NaN while there is no map."""
        found = self._maps.get(name)
        return found.coverage if found is not None else float("nan")

    def fault(self, name: str) -> str:
        """Why a camera cannot be adapted, and the remedy; empty where it can."""
        found = self._maps.get(name)
        if found is not None:
            return "" if found.coverage > 0 else (
                "it sees nothing of the model's view: are the camera's frame and rig_views right?"
            )  # fmt: skip
        calibration = self._calibrations.get(name)
        if name not in self._views:
            return "rig_views has no view of this camera"
        if calibration is None:
            return "no CameraInfo yet, which rig_views needs; parameter camera_info_topics names it"
        return why_unusable(calibration.info) or (
            f"/tf_static does not relate its frame {calibration.frame_id!r} to the rig, which "
            "rig_views needs"
        )

    def adapt(self, name: str, rgb: Rgb, shrink: Shrink) -> Rgb:
        """The model's view. Raises ImageError."""
        found = self._maps.get(name)
        if found is None:
            raise ImageError(self.fault(name))
        return found(rgb, shrink)

    def _prepare(self, name: str) -> None:
        camera = camera_model(self._calibrations[name], self._transforms)
        if camera is not None and name in self._views:
            self._maps[name] = ViewMap(self._views[name], camera)


def _same(one: Any, other: Any) -> bool:
    return (
        (one.width, one.height, one.distortion_model, one.header.frame_id)
        == (other.width, other.height, other.distortion_model, other.header.frame_id)
        and np.array_equal(one.k, other.k)
        and np.array_equal(one.d, other.d)
        and np.array_equal(one.r, other.r)
    )
