"""A PhysicalAI-AV clip as a rosbag2: cameras, their calibration, odometry, mountings."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import messages
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.clips.ftheta import FTheta
from alpamayo_ros.clips.layout import ClipError, Dataset, read_parquet
from alpamayo_ros.clips.motion import Motion, motion_of
from alpamayo_ros.clips.video import frames, need_av

ODOMETRY_FRAME, RIG_FRAME = "odom", "base_link"
_INFO, _STRING = "sensor_msgs/msg/CameraInfo", "std_msgs/msg/String"
_ODOMETRY, _TF = "nav_msgs/msg/Odometry", "tf2_msgs/msg/TFMessage"
_IMAGES = {"jpeg": "sensor_msgs/msg/CompressedImage", "raw": "sensor_msgs/msg/Image"}
_JPEG_QUALITY = 90
_NS_PER_US = 1000
_POWERS = 5  # coefficients of the lens polynomials


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """What a bag is to hold."""

    images: str = "jpeg"  # or raw
    cameras: tuple[str, ...] = ()  # names; empty: all that are there
    width_px: int = 0  # of the images; 0: as recorded


@dataclass(frozen=True, slots=True)
class _Camera:
    name: str
    feature: str
    recorded: FTheta
    lens: FTheta  # at the size that is written
    rig_from_optical: tuple[list[float], list[float]]  # xyz, xyzw

    @property
    def frame_id(self) -> str:
        return f"{self.name}_optical"


def convert(
    dataset: Dataset,
    clip: str,
    path: Path,
    options: ClipOptions,
    progress: Callable[[float], None] = lambda done: None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the bag of one clip; nothing is left under `path` on failure.

    `progress` hears the share that is done. Stamps are the clip's own; ROS has none below zero,
    so that what was recorded before is left out and counted. Raises ClipError, UserError.
    """
    need_av()
    motion = _motion(dataset, clip)
    cameras = _cameras(dataset, clip, options)
    counts = dict.fromkeys((camera.name for camera in cameras), 0)
    before_zero = 0
    end_us = max(int(motion.stamps_us[-1]), 1)
    with BagWriter(path, overwrite=overwrite) as bag, ExitStack() as files:
        writer = _Writer(bag, cameras, options)
        streams: list[Iterator[tuple[int, int, Any]]] = [
            _frames(dataset, clip, camera, rank, files) for rank, camera in enumerate(cameras, 1)
        ]
        streams.append((int(stamp), 0, k) for k, stamp in enumerate(motion.stamps_us))
        for stamp_us, rank, content in heapq.merge(*streams, key=lambda item: item[:2]):
            if stamp_us < 0:
                before_zero += 1
            elif rank == 0:
                writer.odometry(stamp_us, motion, content)
            else:
                writer.image(stamp_us, cameras[rank - 1], content)
                counts[cameras[rank - 1].name] += 1
            progress(min(max(stamp_us, 0) / end_us, 1.0))
    return {
        "clip": clip,
        "bag": str(path),
        "frames": counts,
        "poses": int((motion.stamps_us >= 0).sum()),
        "before_zero": before_zero,
        "equidistant_error_px": {c.name: round(c.lens.equidistant()[2], 3) for c in cameras},
    }


def _frames(
    dataset: Dataset, clip: str, camera: _Camera, rank: int, files: ExitStack
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """One camera's frames, decoded as they are asked for."""
    feature = camera.feature
    table = read_parquet(files.enter_context(dataset.member(clip, feature, "frame_timestamps")))
    stamps = table.get("timestamp")
    if not stamps or any(b <= a for a, b in zip(stamps, stamps[1:])):
        raise ClipError(f"{clip}: {feature} has no stamps, or they do not rise")
    video = files.enter_context(dataset.member(clip, feature, "video"))
    for stamp_us, rgb in frames(video, stamps, f"{clip}: {feature}"):
        if rgb.shape[:2] != (camera.recorded.height, camera.recorded.width):
            raise ClipError(
                f"{clip}: {feature} is {rgb.shape[1]}x{rgb.shape[0]}, its calibration is of "
                f"{camera.recorded.width}x{camera.recorded.height}"
            )
        yield stamp_us, rank, rgb


def _motion(dataset: Dataset, clip: str) -> Motion:
    with dataset.member(clip, "egomotion", "egomotion") as path:
        table = read_parquet(path)

    def columns(*names: str) -> NDArray[np.float64]:
        return np.stack([np.asarray(table[name], dtype=np.float64) for name in names], axis=1)

    try:
        return motion_of(
            table["timestamp"],
            columns("x", "y", "z"),
            columns("qx", "qy", "qz", "qw"),
            columns("vx", "vy", "vz"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ClipError(f"{clip}: egomotion: {error}") from error


def _cameras(dataset: Dataset, clip: str, options: ClipOptions) -> list[_Camera]:
    here = dataset.cameras(clip)
    wanted = options.cameras or tuple(here)
    missing = [name for name in wanted if name not in here]
    if missing or not here:
        raise ClipError(
            f"{clip}: no video of {', '.join(missing) or 'any camera'} under {dataset.root}; "
            f"there is {', '.join(here) or 'none'}"
        )
    lenses = _by_sensor(dataset.chunk_table(clip, "camera_intrinsics"))
    mountings = _by_sensor(dataset.chunk_table(clip, "sensor_extrinsics"))
    cameras = []
    for name in wanted:
        feature = here[name]
        try:
            lens, mounting = lenses[feature], mountings[feature]
            recorded = FTheta(
                int(lens["width"]), int(lens["height"]), float(lens["cx"]), float(lens["cy"]),
                tuple(float(lens[f"fw_poly_{k}"]) for k in range(_POWERS)),
                tuple(float(lens[f"bw_poly_{k}"]) for k in range(_POWERS)),
            )  # fmt: skip
            placed = (
                [float(mounting[axis]) for axis in "xyz"],
                [float(mounting[f"q{axis}"]) for axis in "xyzw"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ClipError(f"{clip}: calibration of {feature}: {error}") from error
        width = options.width_px or recorded.width
        height = round(recorded.height * width / recorded.width)
        cameras.append(_Camera(name, feature, recorded, recorded.resized(width, height), placed))
    return cameras


def _by_sensor(table: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Sensor -> its row; the second level of the index names it."""
    for name in ("camera_name", "sensor_name", "__index_level_1__"):
        if name in table:
            return {
                str(sensor): {column: values[k] for column, values in table.items()}
                for k, sensor in enumerate(table[name])
            }
    raise ClipError(f"no column of sensor names among {', '.join(table)}")


class _Writer:
    """The messages of one clip."""

    def __init__(self, bag: BagWriter, cameras: list[_Camera], options: ClipOptions) -> None:
        self._bag, self._raw = bag, options.images == "raw"
        self._image_type = _IMAGES[options.images]
        self._lenses = {camera.name: _camera_info(camera.lens) for camera in cameras}
        bag.add_topic("/odom", _ODOMETRY)
        bag.add_topic("/tf_static", _TF, latched=True)
        bag.write("/tf_static", 0, bag.make(_TF, transforms=[self._placed(c) for c in cameras]))
        for camera in cameras:
            bag.add_topic(self._image_topic(camera), self._image_type)
            bag.add_topic(f"/camera/{camera.name}/camera_info", _INFO)
            topic = f"/camera/{camera.name}/f_theta"
            bag.add_topic(topic, _STRING, latched=True)
            bag.write(topic, 0, bag.make(_STRING, data=_as_json(camera.lens)))

    def odometry(self, stamp_us: int, motion: Motion, index: int) -> None:
        """The pose at one stamp, with its twist."""
        make = self._bag.make
        pose = make(
            "geometry_msgs/msg/Pose",
            position=self._xyz("Point", motion.positions_m[index]),
            orientation=self._quaternion(motion.quaternions_xyzw[index]),
        )
        twist = make(
            "geometry_msgs/msg/Twist",
            linear=self._xyz("Vector3", motion.velocities_mps[index]),
            angular=self._xyz("Vector3", motion.turn_rates_rps[index]),
        )
        stamp_ns = stamp_us * _NS_PER_US
        self._bag.write("/odom", stamp_ns, make(
            _ODOMETRY,
            header=messages.header(make, stamp_ns, ODOMETRY_FRAME),
            child_frame_id=RIG_FRAME,
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose),
            twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist),
        ))  # fmt: skip

    def image(self, stamp_us: int, camera: _Camera, rgb: NDArray[np.uint8]) -> None:
        """One frame and its CameraInfo."""
        make, stamp_ns = self._bag.make, stamp_us * _NS_PER_US
        header = messages.header(make, stamp_ns, camera.frame_id)
        if camera.lens != camera.recorded:
            size = camera.lens.width, camera.lens.height
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self._raw:
            height, width = rgb.shape[:2]
            fields: dict[str, Any] = {
                "height": height, "width": width, "encoding": "rgb8", "step": 3 * width,
                "data": rgb.reshape(-1),
            }  # fmt: skip
        else:
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            good, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            if not good:
                raise RuntimeError(f"OpenCV could not encode a {rgb.shape} image")
            fields = {"format": "jpeg", "data": data.reshape(-1)}
        image = make(self._image_type, header=header, **fields)
        self._bag.write(self._image_topic(camera), stamp_ns, image)
        info = make(_INFO, header=header, **self._lenses[camera.name])
        self._bag.write(f"/camera/{camera.name}/camera_info", stamp_ns, info)

    def _image_topic(self, camera: _Camera) -> str:
        return f"/camera/{camera.name}/image" + ("" if self._raw else "/compressed")

    def _placed(self, camera: _Camera) -> Any:
        make = self._bag.make
        xyz, xyzw = camera.rig_from_optical
        transform = make("geometry_msgs/msg/Transform", translation=self._xyz("Vector3", xyz),
                         rotation=self._quaternion(xyzw))  # fmt: skip
        return make(
            "geometry_msgs/msg/TransformStamped", header=messages.header(make, 0, RIG_FRAME),
            child_frame_id=camera.frame_id, transform=transform,
        )  # fmt: skip

    def _xyz(self, kind: str, values: Any) -> Any:
        x, y, z = (float(value) for value in values)
        return self._bag.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, xyzw: Any) -> Any:
        x, y, z, w = (float(value) for value in xyzw)
        return self._bag.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def _camera_info(lens: FTheta) -> dict[str, Any]:
    focal, distortion, _ = lens.equidistant()
    k = np.array([[focal, 0.0, lens.cx], [0.0, focal, lens.cy], [0.0, 0.0, 1.0]])
    return {
        "height": lens.height,
        "width": lens.width,
        "distortion_model": "equidistant",
        "d": distortion,
        "k": k.ravel(),
        "r": np.eye(3).ravel(),
        "p": np.column_stack((k, np.zeros(3))).ravel(),
    }


def _as_json(lens: FTheta) -> str:
    """The lens as it was calibrated, on /camera/<name>/f_theta."""
    return json.dumps({
        "model": "f_theta", "width": lens.width, "height": lens.height,
        "cx": lens.cx, "cy": lens.cy,
        "radius_px_of_angle_rad": lens.radius_of_angle,
        "angle_rad_of_radius_px": lens.angle_of_radius,
    })  # fmt: skip
