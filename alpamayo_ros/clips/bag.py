"""A clip of any kind as a rosbag2: cameras, their calibration, odometry, transforms, lidar."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry, messages
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.clips.clip import Clip, ClipCamera, FThetaLens, Lens, Lidar
from alpamayo_ros.clips.layout import ClipError
from alpamayo_ros.clips.motion import Motion
from alpamayo_ros.types import Pose3

ODOMETRY_FRAME, RIG_FRAME = "odom", "base_link"
_INFO, _STRING = "sensor_msgs/msg/CameraInfo", "std_msgs/msg/String"
_ODOMETRY, _TF = "nav_msgs/msg/Odometry", "tf2_msgs/msg/TFMessage"
_IMAGES = {"jpeg": "sensor_msgs/msg/CompressedImage", "raw": "sensor_msgs/msg/Image"}
_CLOUD = "sensor_msgs/msg/PointCloud2"
_JPEG_QUALITY = 90
_NS_PER_US = 1000
_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """What a bag is to hold."""

    images: str = "jpeg"  # or raw
    cameras: tuple[str, ...] = ()  # names; empty: all that are there
    width_px: int = 0  # of the images; 0: as recorded
    lidar: bool = False


def write_clip(
    clip: Clip,
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
    stamps_us = clip.motion.stamps_us
    counts = dict.fromkeys((camera.name for camera in clip.cameras), 0)
    before_zero = clouds = 0
    start_us, end_us = max(int(stamps_us[0]), 0), max(int(stamps_us[-1]), 1)
    lenses = {camera.name: _at_width(camera.lens, options.width_px) for camera in clip.cameras}
    # A clip can be converted again, so what a killed conversion left is of no use to anyone.
    with BagWriter(path, overwrite=overwrite, remove_stale=True) as bag:
        writer = _Writer(bag, clip, lenses, options)
        streams: list[Iterator[tuple[int, int, Any]]] = [
            _ranked(camera.frames(), rank) for rank, camera in enumerate(clip.cameras, 1)
        ]
        streams.append((int(stamp), 0, k) for k, stamp in enumerate(stamps_us))
        if clip.lidar is not None:
            streams.append(_ranked(clip.lidar.clouds(), -1))
        for stamp_us, rank, content in heapq.merge(*streams, key=lambda item: item[:2]):
            if stamp_us < 0:
                before_zero += 1
            elif rank == 0:
                writer.odometry(stamp_us, clip.motion, content)
            elif rank < 0:
                assert clip.lidar is not None
                writer.cloud(stamp_us, clip.lidar, content)
                clouds += 1
            else:
                writer.image(stamp_us, clip.cameras[rank - 1], content)
                counts[clip.cameras[rank - 1].name] += 1
            progress(min(max(stamp_us - start_us, 0) / (end_us - start_us), 1.0))
    result: dict[str, Any] = {
        "clip": clip.name,
        "bag": str(path),
        "frames": counts,
        "poses": int((stamps_us >= 0).sum()),
        "clouds": clouds,
        "before_zero": before_zero,
        "notes": list(clip.notes),
    }
    exact = {name: lens.f_theta for name, lens in lenses.items() if isinstance(lens, FThetaLens)}
    if exact:
        result["equidistant_error_px"] = {
            name: round(lens.equidistant()[2], 3) for name, lens in exact.items()
        }
    return result


def _at_width(lens: Lens, width_px: int) -> Lens:
    width = width_px or lens.width
    return lens.resized(width, round(lens.height * width / lens.width))


def _ranked(stream: Iterator[tuple[int, Any]], rank: int) -> Iterator[tuple[int, int, Any]]:
    last = None
    for stamp_us, content in stream:
        if last is not None and stamp_us <= last:
            raise ClipError(f"stamps do not rise: {last} us, then {stamp_us} us")
        last = stamp_us
        yield stamp_us, rank, content


class _Writer:
    """The messages of one clip."""

    def __init__(
        self, bag: BagWriter, clip: Clip, lenses: dict[str, Lens], options: ClipOptions
    ) -> None:
        self._bag, self._raw, self._lenses = bag, options.images == "raw", lenses
        self._image_type = _IMAGES[options.images]
        self._infos = {name: lens.camera_info() for name, lens in lenses.items()}
        mounted = {camera_frame(c.name): c.rig_from_optical for c in clip.cameras}
        if clip.lidar is not None:
            mounted[clip.lidar.name] = clip.lidar.rig_from_lidar
            bag.add_topic(f"/lidar/{clip.lidar.name}/points", _CLOUD)
        bag.add_topic("/odom", _ODOMETRY)
        bag.add_topic("/tf", _TF)
        bag.add_topic("/tf_static", _TF, latched=True)
        start_ns = max(int(clip.motion.stamps_us[0]), 0) * _NS_PER_US
        transforms = [self._mounted(frame, pose, start_ns) for frame, pose in mounted.items()]
        bag.write("/tf_static", start_ns, bag.make(_TF, transforms=transforms))
        for name, lens in lenses.items():
            bag.add_topic(self._image_topic(name), self._image_type)
            bag.add_topic(f"/camera/{name}/camera_info", _INFO)
            if isinstance(lens, FThetaLens):
                topic = f"/camera/{name}/f_theta"
                bag.add_topic(topic, _STRING, latched=True)
                bag.write(topic, start_ns, bag.make(_STRING, data=lens.f_theta.as_json()))

    def odometry(self, stamp_us: int, motion: Motion, index: int) -> None:
        """The pose at one stamp, with its twist; and the same pose as a transform, for RViz."""
        make = self._bag.make
        position, xyzw = motion.positions_m[index], motion.quaternions_xyzw[index]
        pose = make(
            "geometry_msgs/msg/Pose",
            position=self._xyz("Point", position),
            orientation=self._quaternion(xyzw),
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
        moved = self._transform(ODOMETRY_FRAME, RIG_FRAME, position, xyzw, stamp_ns)
        self._bag.write("/tf", stamp_ns, make(_TF, transforms=[moved]))

    def image(self, stamp_us: int, camera: ClipCamera, rgb: NDArray[np.uint8]) -> None:
        """One frame and its CameraInfo. Raises ClipError for another size than the lens has."""
        recorded, lens = camera.lens, self._lenses[camera.name]
        if rgb.shape[:2] != (recorded.height, recorded.width):
            raise ClipError(
                f"{camera.name} is {rgb.shape[1]}x{rgb.shape[0]}, its calibration is of "
                f"{recorded.width}x{recorded.height}"
            )
        make, stamp_ns = self._bag.make, stamp_us * _NS_PER_US
        header = messages.header(make, stamp_ns, camera_frame(camera.name))
        size = lens.width, lens.height
        if size != (recorded.width, recorded.height):
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self._raw:
            fields: dict[str, Any] = {
                "height": size[1], "width": size[0], "encoding": "rgb8", "step": 3 * size[0],
                "data": rgb.reshape(-1),
            }  # fmt: skip
        else:
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            good, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            if not good:
                raise RuntimeError(f"OpenCV could not encode a {rgb.shape} image")
            fields = {"format": "jpeg", "data": data.reshape(-1)}
        image = make(self._image_type, header=header, **fields)
        self._bag.write(self._image_topic(camera.name), stamp_ns, image)
        info = make(_INFO, header=header, **self._infos[camera.name])
        self._bag.write(f"/camera/{camera.name}/camera_info", stamp_ns, info)

    def cloud(self, stamp_us: int, lidar: Lidar, points: NDArray[np.float32]) -> None:
        """(n, 4) x, y, z, intensity as sensor_msgs_py lays out four float32 fields."""
        make, stamp_ns = self._bag.make, stamp_us * _NS_PER_US
        data = np.ascontiguousarray(points, "<f4")
        fields = [
            make("sensor_msgs/msg/PointField", name=name, offset=4 * k, datatype=_FLOAT32, count=1)
            for k, name in enumerate(("x", "y", "z", "intensity"))
        ]
        message = make(
            _CLOUD, header=messages.header(make, stamp_ns, lidar.name), height=1, width=len(data),
            fields=fields, is_bigendian=False, point_step=16, row_step=16 * len(data),
            data=data.view(np.uint8).reshape(-1), is_dense=bool(np.isfinite(data).all()),
        )  # fmt: skip
        self._bag.write(f"/lidar/{lidar.name}/points", stamp_ns, message)

    def _image_topic(self, camera: str) -> str:
        return f"/camera/{camera}/image" + ("" if self._raw else "/compressed")

    def _mounted(self, frame: str, rig_from_sensor: Pose3, stamp_ns: int) -> Any:
        xyzw = geometry.rotation_to_quaternion(rig_from_sensor.rotation)
        return self._transform(RIG_FRAME, frame, rig_from_sensor.translation_m, xyzw, stamp_ns)

    def _transform(
        self, parent: str, child: str, translation_m: Any, xyzw: Any, stamp_ns: int
    ) -> Any:
        make = self._bag.make
        return make(
            "geometry_msgs/msg/TransformStamped",
            header=messages.header(make, stamp_ns, parent),
            child_frame_id=child,
            transform=make(
                "geometry_msgs/msg/Transform",
                translation=self._xyz("Vector3", translation_m),
                rotation=self._quaternion(xyzw),
            ),
        )

    def _xyz(self, kind: str, values: Any) -> Any:
        x, y, z = (float(value) for value in values)
        return self._bag.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, xyzw: Any) -> Any:
        x, y, z, w = (float(value) for value in xyzw)
        return self._bag.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def camera_frame(name: str) -> str:
    """The optical frame of a camera."""
    return f"{name}_optical"
