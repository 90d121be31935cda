"""KITTI: a sequence of the odometry benchmark, or a synchronised drive of the raw data.

odometry: ROOT/sequences/06/{image_2|image_0}/000000.png, velodyne/000000.bin, times.txt, calib.txt;
          ROOT/poses/06.txt
raw:      ROOT/2011_09_26/2011_09_26_drive_0001_sync/{image_02|image_00,oxts}/…, and beside it the
          calib_*.txt of the day
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.cameras.projection import optical_rotation_from_rig
from alpamayo_ros.clips.bag import ClipOptions
from alpamayo_ros.clips.clip import Clip, ClipCamera, Frames, InfoLens, Lidar
from alpamayo_ros.clips.layout import ClipError
from alpamayo_ros.clips.motion import rig_motion
from alpamayo_ros.types import Pose3

Array = NDArray[np.float64]

# The vehicle of the data set, by its published drawing: the Velodyne and camera 0 on the middle of
# the roof, camera 0 1.65 m above the road and 1.08 m ahead of the IMU, which sits left of the
# middle, just behind the rear axle. The sideways motion of the published poses in bends says the
# same of camera 0: 0.9 to 1.04 m ahead of the axle.
IMU_M = (-0.05, 0.32, 0.93)
CAMERA_0_M = (1.03, 0.0, 1.65)
_EARTH_M = 6378137.0


def kitti_clip(root: Path, name: str, options: ClipOptions) -> Clip:
    """A sequence such as 06, or a drive such as 2011_09_26_drive_0001_sync. Raises ClipError."""
    if (root / "sequences" / name).is_dir():
        return _sequence(root, name, options)
    drive = root / name[:10] / name
    if drive.is_dir():
        return _raw(drive, options)
    raise ClipError(f"neither {root / 'sequences' / name} nor {drive} is there; name the root "
                    "with --root")  # fmt: skip


def _sequence(root: Path, name: str, options: ClipOptions) -> Clip:
    folder = root / "sequences" / name
    stamps_us = np.round(_numbers(folder / "times.txt", 1)[:, 0] * 1e6).astype(np.int64)
    poses = _numbers(root / "poses" / f"{name}.txt", 12).reshape(-1, 3, 4)
    if len(poses) != len(stamps_us):
        raise ClipError(f"{name}: {len(poses)} poses, but {len(stamps_us)} times")
    # From the first camera's axes (right, down, ahead) to odometry's (ahead, left, up).
    turn = optical_rotation_from_rig().T
    rig_from_camera_0 = Pose3(np.array(CAMERA_0_M), turn)
    index = next((k for k in (2, 0) if (folder / f"image_{k}").is_dir()), None)
    if index is None:
        raise ClipError(f"{folder} has neither image_2 nor image_0")
    projection = _calibration(folder / "calib.txt", f"P{index}", 12).reshape(3, 4)
    images = sorted((folder / f"image_{index}").glob("*.png"))
    try:
        motion = rig_motion(stamps_us, poses[..., 3] @ turn.T, turn @ poses[..., :3],
                            rig_from_camera_0)  # fmt: skip
    except ValueError as error:
        raise ClipError(f"{name}: {error}") from error
    stamps = stamps_us.tolist()
    camera = _camera(projection, rig_from_camera_0, images, stamps, name)
    lidar = _sequence_lidar(folder, stamps, rig_from_camera_0) if options.lidar else None
    return Clip(name, motion, (camera,), lidar)


def _sequence_lidar(folder: Path, stamps_us: Sequence[int], rig_from_camera_0: Pose3) -> Lidar:
    """The Velodyne of a sequence: a spin an image, placed by calib.txt. Raises ClipError."""
    if not (folder / "velodyne").is_dir():
        raise ClipError(f"{folder / 'velodyne'} is missing: download data_odometry_velodyne, or "
                        "leave --lidar out")  # fmt: skip
    placed = _calibration(folder / "calib.txt", "Tr", 12).reshape(3, 4)
    camera_from_velo = Pose3(placed[:, 3], placed[:, :3])
    rig_from_velo = geometry.compose(rig_from_camera_0, camera_from_velo)
    return _velodyne(folder / "velodyne", stamps_us, rig_from_velo)


def _raw(drive: Path, options: ClipOptions) -> Clip:
    stamps_us = _stamps(drive / "oxts" / "timestamps.txt")
    files = sorted((drive / "oxts" / "data").glob("*.txt"))
    if len(files) != len(stamps_us):
        raise ClipError(f"{drive}/oxts: {len(files)} files, but {len(stamps_us)} stamps")
    oxts = np.array([_numbers(file, 30)[0] for file in files])
    latitude, longitude, altitude, roll, pitch, yaw = oxts[:, :6].T
    # Mercator about the first latitude, as the data set's own development kit does.
    scale = np.cos(np.deg2rad(latitude[0]))
    east = scale * _EARTH_M * np.deg2rad(longitude)
    north = scale * _EARTH_M * np.log(np.tan(np.deg2rad(90.0 + latitude) / 2.0))
    positions = np.stack([east, north, altitude], axis=1)
    rotations = np.array([geometry.euler_to_rotation(*turn) for turn in zip(roll, pitch, yaw)])
    rig_from_imu = Pose3(np.array(IMU_M), np.eye(3))
    day = drive.parent
    try:
        motion = rig_motion(stamps_us, positions - positions[0], rotations, rig_from_imu)
    except ValueError as error:
        raise ClipError(f"{drive}: {error}") from error
    velo_from_imu = _rigid(day / "calib_imu_to_velo.txt")
    rig_from_velo = geometry.compose(rig_from_imu, geometry.invert(velo_from_imu))
    camera_from_velo = _rigid(day / "calib_velo_to_cam.txt")
    to_rectified = _calibration(day / "calib_cam_to_cam.txt", "R_rect_00", 9).reshape(3, 3)
    rectified_from_velo = geometry.compose(Pose3(np.zeros(3), to_rectified), camera_from_velo)
    rig_from_camera_0 = geometry.compose(rig_from_velo, geometry.invert(rectified_from_velo))
    index = next((k for k in ("02", "00") if (drive / f"image_{k}").is_dir()), None)
    if index is None:
        raise ClipError(f"{drive} has neither image_02 nor image_00")
    projection = _calibration(day / "calib_cam_to_cam.txt", f"P_rect_{index}", 12).reshape(3, 4)
    images = sorted((drive / f"image_{index}" / "data").glob("*.png"))
    image_stamps = _stamps(drive / f"image_{index}" / "timestamps.txt")
    camera = _camera(projection, rig_from_camera_0, images, image_stamps, drive.name)
    if not options.lidar:
        return Clip(drive.name, motion, (camera,))
    velodyne = drive / "velodyne_points"
    lidar = _velodyne(velodyne / "data", _stamps(velodyne / "timestamps.txt"), rig_from_velo)
    return Clip(drive.name, motion, (camera,), lidar)


def _camera(
    projection: Array, rig_from_camera_0: Pose3, images: Sequence[Path], stamps_us: Sequence[int],
    label: str,
) -> ClipCamera:  # fmt: skip
    """The rectified camera of a (3, 4) projection from camera 0's frame."""
    if not images or len(images) != len(stamps_us):
        raise ClipError(f"{label}: {len(images)} images, but {len(stamps_us)} stamps")
    height, width = _image(images[0]).shape[:2]
    k = projection[:, :3]
    camera_from_0 = Pose3(np.linalg.inv(k) @ projection[:, 3], np.eye(3))
    pose = geometry.compose(rig_from_camera_0, geometry.invert(camera_from_0))
    lens = InfoLens(width, height, (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    return ClipCamera("front_wide", lens, pose, _pictures(images, stamps_us))


def _pictures(images: Sequence[Path], stamps_us: Sequence[int]) -> Frames:
    def stream() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for path, stamp_us in zip(images, stamps_us):
            yield int(stamp_us), _image(path)

    return stream


def _image(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ClipError(f"{path} is no image, or damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _velodyne(folder: Path, stamps_us: Sequence[int], rig_from_velo: Pose3) -> Lidar:
    files = sorted(folder.glob("*.bin"))
    if len(files) != len(stamps_us):
        raise ClipError(f"{folder}: {len(files)} files, but {len(stamps_us)} stamps")

    def clouds() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for path, stamp_us in zip(files, stamps_us):
            data = np.fromfile(path, "<f4")
            if len(data) % 4:
                raise ClipError(f"{path} is cut off")
            yield stamp_us, data.reshape(-1, 4)

    return Lidar("velodyne", rig_from_velo, clouds)


def _numbers(path: Path, columns: int) -> Array:
    """(n, columns) of a text file."""
    try:
        table = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise ClipError(f"{path} cannot be read: {error}") from error
    if table.shape[1:] != (columns,) or not np.isfinite(table).all():
        raise ClipError(f"{path} has shape {table.shape}, wanted (n, {columns}) finite numbers")
    return table


def _calibration(path: Path, name: str, count: int) -> Array:
    """The numbers behind `name:` in a calibration file."""
    try:
        lines = path.read_text().splitlines()
        values = next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))
        numbers = np.array([float(word) for word in values.split()])
    except (OSError, ValueError, StopIteration) as error:
        raise ClipError(f"{path}: no {name}: {error}") from error
    if len(numbers) != count:
        raise ClipError(f"{path}: {name} has {len(numbers)} numbers, wanted {count}")
    return numbers


def _rigid(path: Path) -> Pose3:
    return Pose3(_calibration(path, "T", 3), _calibration(path, "R", 9).reshape(3, 3))


def _stamps(path: Path) -> list[int]:
    """Lines such as 2011-09-26 13:02:25.964389445 (UTC) in microseconds since 1970."""
    try:
        stamps = []
        for line in path.read_text().split("\n"):
            if line.strip():
                whole, _, part = line.strip().partition(".")
                seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%d %H:%M:%S"))
                stamps.append(seconds * 1_000_000 + int(part[:6].ljust(6, "0") or 0))
        return stamps
    except (OSError, ValueError) as error:
        raise ClipError(f"{path} cannot be read: {error}") from error
