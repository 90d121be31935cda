"""A video and a table of poses: one camera, calibrated by a field of view or a file.

The table (.csv or .parquet) has a row a pose: `timestamp` in microseconds or `t_s` in seconds, on
the video's clock; x, y and, where it is not flat, z in metres; qx, qy, qz, qw or `yaw_rad`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.cameras.projection import optical_rotation_from_rig
from alpamayo_ros.cameras.views import rig_rotation
from alpamayo_ros.clips.clip import Clip, ClipCamera, InfoLens
from alpamayo_ros.clips.layout import ClipError, read_parquet
from alpamayo_ros.clips.motion import Motion, motion_of, rig_motion
from alpamayo_ros.clips.video import frame_size, need_av, timed_frames
from alpamayo_ros.types import Pose3
from alpamayo_ros.yaml_text import read_yaml

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """What the files do not say."""

    camera: str = "front_wide"
    fov_deg: float = 0.0  # horizontal; or `calibration`
    calibration: Path | None = None  # as camera_calibration writes it
    mount_m: tuple[float, float, float] = (1.7, 0.0, 1.4)
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)  # yaw, pitch, roll of the camera
    poses_of_camera: bool = False  # else of the rig; x ahead, y left, z up either way


def video_clip(video: Path, poses: Path, options: VideoOptions) -> Clip:
    """A video with its poses. Raises ClipError, UserError."""
    need_av()
    if not video.is_file():
        raise ClipError(f"{video} is missing")
    rig_from_body = Pose3(np.array(options.mount_m), rig_rotation(*options.turn_deg))
    optical = Pose3(np.zeros(3), optical_rotation_from_rig().T)
    lens = (
        read_calibration(options.calibration)
        if options.calibration is not None
        else InfoLens.of_fov(*frame_size(video, str(video)), options.fov_deg)
    )
    camera = ClipCamera(
        options.camera, lens, geometry.compose(rig_from_body, optical),
        lambda: timed_frames(video, str(video)),
    )  # fmt: skip
    return Clip(video.stem, _motion(poses, rig_from_body, options.poses_of_camera), (camera,))


def _motion(path: Path, rig_from_body: Pose3, of_camera: bool) -> Motion:
    table = _read(path)
    try:
        if "timestamp" in table:
            stamps = np.asarray(table["timestamp"], dtype=np.int64)
        else:
            stamps = np.round(np.asarray(table["t_s"], dtype=np.float64) * 1e6).astype(np.int64)
        flat = np.zeros(len(stamps))
        positions = np.stack([np.asarray(table.get(axis, flat), np.float64) for axis in "xyz"], 1)
        if "qw" in table:
            xyzw = np.stack([np.asarray(table[f"q{a}"], np.float64) for a in "xyzw"], axis=1)
        else:
            yaw = np.asarray(table["yaw_rad"], np.float64)
            xyzw = geometry.rotation_to_quaternion(geometry.yaw_to_rotation(yaw))
        if not {"x", "y"} <= set(table):
            raise KeyError("x and y")
        if not of_camera:
            return motion_of(stamps, positions, xyzw)
        rotations = geometry.quaternion_to_rotation(xyzw)
        return rig_motion(stamps, positions, rotations, rig_from_body)
    except KeyError as error:
        raise ClipError(
            f"{path} has no column {error}; it has {', '.join(table)}. Wanted: timestamp (us) or "
            "t_s, x, y, z, and qx, qy, qz, qw or yaw_rad"
        ) from error
    except (ValueError, TypeError) as error:
        raise ClipError(f"{path}: {error}") from error


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".parquet":
        return read_parquet(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}
    except (OSError, ValueError, TypeError) as error:
        raise ClipError(f"{path} cannot be read: {error}") from error


def read_calibration(path: Path) -> InfoLens:
    """A camera's YAML as camera_calibration and camera_info_manager write it. Raises ClipError."""
    try:
        content = read_yaml(path)
        k = [float(value) for value in content["camera_matrix"]["data"]]
        d = tuple(float(value) for value in content["distortion_coefficients"]["data"])
        return InfoLens(
            int(content["image_width"]), int(content["image_height"]), (k[0], k[4], k[2], k[5]), d,
            str(content["distortion_model"]),
        )  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ClipError(f"{path} is no camera calibration: {error}") from error
