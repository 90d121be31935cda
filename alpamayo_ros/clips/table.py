"""A video and a table of poses: one camera, calibrated by a field of view or a file.

The table (.csv or .parquet) has a row a pose: `timestamp` in microseconds or `t_s` in seconds, on
the video's clock; x, y and, where it is not flat, z in metres; qx, qy, qz, qw or `yaw_rad`. Other
columns are not read.
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
from alpamayo_ros.clips.video import frame_size, need_av, timed_frames, video_span_s
from alpamayo_ros.errors import UserError
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
    motion = _motion(poses, rig_from_body, options.poses_of_camera)
    _check_overlap(video, poses, motion)
    return Clip(video.stem, motion, (camera,))


def _check_overlap(video: Path, poses: Path, motion: Motion) -> None:
    """Raises UserError where the poses are all before or all after the video."""
    span = video_span_s(video, str(video))
    first, last = float(motion.stamps_us[0]) * 1e-6, float(motion.stamps_us[-1]) * 1e-6
    if span is None or (first <= span[1] and last >= span[0]):
        return
    raise UserError(
        f"{poses} has poses from {first:.3f} to {last:.3f} s, {video} has frames from "
        f"{span[0]:.3f} to {span[1]:.3f} s: another clock or unit? Wanted: timestamp in "
        "microseconds or t_s in seconds, zero at the video's beginning"
    )


def _motion(path: Path, rig_from_body: Pose3, of_camera: bool) -> Motion:
    table = _read(path)

    def column(name: str) -> Array:
        return _numbers(path, name, table[name])

    try:
        times_us = column("timestamp") if "timestamp" in table else column("t_s") * 1e6
        stamps = np.round(times_us).astype(np.int64)
        height = column("z") if "z" in table else np.zeros(len(stamps))
        positions = np.stack([column("x"), column("y"), height], axis=1)
        if "qw" in table:
            xyzw = np.stack([column(f"q{axis}") for axis in "xyzw"], axis=1)
        else:
            turn = geometry.yaw_to_rotation(column("yaw_rad"))
            xyzw = geometry.rotation_to_quaternion(turn)
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


def _numbers(path: Path, name: str, values: list[Any]) -> Array:
    """A column as numbers. Raises ClipError."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ClipError(f"{path}: column {name}: {error}") from error
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ClipError(f"{path}: column {name} has no finite number in row {bad[0] + 1}")
    return numbers


def _read(path: Path) -> Mapping[str, list[Any]]:
    """Column -> values; those of a .csv are text."""
    if path.suffix == ".parquet":
        return read_parquet(path)
    try:
        # -sig: spreadsheets write a byte order mark, which would be part of the first name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = list(reader)
            return {name: [row[name] for row in rows] for name in reader.fieldnames or ()}
    except (OSError, ValueError, csv.Error) as error:
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
