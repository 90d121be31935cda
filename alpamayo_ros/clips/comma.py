"""A segment of comma2k19: one road camera, poses by GNSS and vision.

SEGMENT/video.hevc, and SEGMENT/global_pose/ with frame_times (s), frame_positions and
frame_velocities (earth-centred, m and m/s) and frame_orientations (earth-centred from the device:
x ahead, y right, z down; w first), each a numpy array of a row a frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.clips.clip import Clip, ClipCamera, InfoLens
from alpamayo_ros.clips.layout import ClipError
from alpamayo_ros.clips.motion import rig_motion
from alpamayo_ros.clips.video import frames, need_av
from alpamayo_ros.types import Pose3

Array = NDArray[np.float64]

# The data set's camera: 1164 x 874 pixels, focal length 910 pixels, no distortion to speak of.
WIDTH, HEIGHT, FOCAL = 1164, 874, 910.0
# Nominal, since the data set does not say: behind the windscreen of a car, in the rig frame.
MOUNT_M = (1.7, 0.0, 1.22)
_DEVICE_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_BODY_FROM_DEVICE = np.diag([1.0, -1.0, -1.0])  # x ahead, y left, z up
_MOVES_MPS = 5.0  # slower, the direction of travel says little of the mounting
_ARRAYS = {"frame_times": (), "frame_positions": (3,), "frame_velocities": (3,),
           "frame_orientations": (4,)}  # fmt: skip


def comma_clip(segment: Path, mount_m: tuple[float, float, float] = MOUNT_M) -> Clip:
    """One segment, its video not yet opened. Raises ClipError.

    The device is mounted at any angle: how it is turned on the vehicle comes from the mean
    direction of travel, level in roll.
    """
    need_av()
    times, positions, velocities, orientations = (
        _array(segment, name, shape) for name, shape in _ARRAYS.items()
    )
    if len({len(times), len(positions), len(velocities), len(orientations)}) != 1:
        raise ClipError(f"{segment}/global_pose: arrays of different lengths")
    stamps_us = np.round(times * 1e6).astype(np.int64)
    to_local = _local_from_earth(positions[0])
    rotations = to_local @ geometry.quaternion_to_rotation(orientations[:, [1, 2, 3, 0]])
    travel = np.einsum("nji,nj->ni", rotations, velocities @ to_local.T)  # in the device frame
    rig_from_device = _rig_from_device(travel, segment)
    rig_from_optical = Pose3(np.array(mount_m), rig_from_device @ _DEVICE_FROM_OPTICAL)
    try:
        motion = rig_motion(
            stamps_us,
            (positions - positions[0]) @ to_local.T,
            rotations @ _DEVICE_FROM_OPTICAL,
            rig_from_optical,
        )
    except ValueError as error:
        raise ClipError(f"{segment}/global_pose: {error}") from error
    lens = InfoLens(WIDTH, HEIGHT, (FOCAL, FOCAL, 0.5 * (WIDTH - 1), 0.5 * (HEIGHT - 1)))
    video = segment / "video.hevc"
    if not video.is_file():
        raise ClipError(f"{video} is missing")
    camera = ClipCamera("front_wide", lens, rig_from_optical,
                        lambda: frames(video, stamps_us.tolist(), str(video)))  # fmt: skip
    return Clip(segment.name, motion, (camera,))


def _array(segment: Path, name: str, shape: tuple[int, ...]) -> Array:
    """global_pose/<name>, as the data set has it or with the suffix .npy."""
    paths = [segment / "global_pose" / file for file in (name, f"{name}.npy")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ClipError(f"{paths[0]} is missing: is {segment} a segment of comma2k19?")
    try:
        array = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ClipError(f"{path} cannot be read: {error}") from error
    if array.shape[1:] != shape or not np.isfinite(array).all() or len(array) < 2:
        raise ClipError(f"{path} has shape {array.shape}, wanted (n, {shape}) finite numbers")
    return array


def _rig_from_device(travel_in_device: Array, segment: Path) -> Array:
    moving = travel_in_device[np.linalg.norm(travel_in_device, axis=1) > _MOVES_MPS]
    if not len(moving):
        return _BODY_FROM_DEVICE  # it stands: as if it were mounted straight
    ahead = moving.mean(axis=0) @ _BODY_FROM_DEVICE.T
    ahead /= np.linalg.norm(ahead)
    if ahead[0] < 0.7:
        raise ClipError(f"{segment}: it drives more than 45 degrees off where the camera looks")
    left = np.cross([0.0, 0.0, 1.0], ahead)
    left /= np.linalg.norm(left)
    return np.stack([ahead, left, np.cross(ahead, left)]) @ _BODY_FROM_DEVICE


def _local_from_earth(position_m: Array) -> Array:
    """(3, 3) to east, north, up of WGS 84 at an earth-centred position."""
    x, y, z = position_m
    a, e2 = 6378137.0, 6.69437999014e-3
    across = float(np.hypot(x, y))
    latitude = np.arctan2(z, across * (1 - e2))
    for _ in range(5):  # converges to 1e-12 rad near the ground
        normal = a / np.sqrt(1 - e2 * np.sin(latitude) ** 2)
        latitude = np.arctan2(z + e2 * normal * np.sin(latitude), across)
    longitude = np.arctan2(y, x)
    (sa, so), (ca, co) = np.sin([latitude, longitude]), np.cos([latitude, longitude])
    return np.array([[-so, co, 0.0], [-sa * co, -sa * so, ca], [ca * co, ca * so, sa]])
