"""The recording's messages: cameras, odometry and transforms as rosbags writes them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.world.rig import PinholeCamera, Rig
from alpamayo_ros.world.vehicle import EgoState

ODOMETRY_FRAME, RIG_FRAME = "odom", "base_link"
_IMAGE, _INFO = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_ODOMETRY, _TF = "nav_msgs/msg/Odometry", "tf2_msgs/msg/TFMessage"
# Diagonals of (x, y, z, roll, pitch, yaw): what a good odometry would claim of this exact one.
_POSE_VARIANCE = np.diag([1e-4] * 3 + [1e-6] * 3).ravel()
_TWIST_VARIANCE = np.diag([1e-4] * 3 + [1e-6] * 3).ravel()


def camera_topics(camera: str) -> tuple[str, str]:
    """The topics of a camera's images and of its CameraInfo."""
    return f"/camera/{camera}/image/compressed", f"/camera/{camera}/camera_info"


class DriveMessages:
    """Writes a drive's messages to an open bag. Times are nanoseconds; stamps since the start."""

    def __init__(self, bag: BagWriter, rig: Rig, epoch_ns: int) -> None:
        self._bag, self._epoch_ns = bag, epoch_ns
        self._cameras = {camera.name: camera for camera in rig}
        self.counts: Counter[str] = Counter()
        for name in self._cameras:
            image_topic, info_topic = camera_topics(name)
            bag.add_topic(image_topic, _IMAGE)
            bag.add_topic(info_topic, _INFO)
        bag.add_topic("/odom", _ODOMETRY)
        bag.add_topic("/tf", _TF)
        bag.add_topic("/tf_static", _TF, latched=True)
        mountings = [self._mounting(camera) for camera in rig]
        self._write("/tf_static", epoch_ns, bag.make(_TF, transforms=mountings))

    def write_camera(self, camera: str, log_ns: int, since_start_ns: int, jpeg: bytes) -> None:
        """An image and its CameraInfo of the same stamp."""
        image_topic, info_topic = camera_topics(camera)
        described = self._cameras[camera]
        header = self._header(since_start_ns, described.optical_frame)
        self._write(info_topic, log_ns, self._camera_info(described, header))
        image = self._bag.make(_IMAGE, header=header, format="jpeg", data=jpeg)
        self._write(image_topic, log_ns, image)

    def write_odometry(self, log_ns: int, since_start_ns: int, state: EgoState) -> None:
        """/odom and the same pose on /tf."""
        make = self._bag.make
        header = self._header(since_start_ns, ODOMETRY_FRAME)
        position = (state.x_m, state.y_m, 0.0)
        rotation = self._quaternion(state.quaternion_xyzw)
        pose = make("geometry_msgs/msg/Pose", position=self._xyz("Point", position),
                    orientation=rotation)  # fmt: skip
        twist = make(
            "geometry_msgs/msg/Twist",
            linear=self._xyz("Vector3", (state.speed_mps, 0.0, 0.0)),
            angular=self._xyz("Vector3", (0.0, 0.0, state.yaw_rate_rps)),
        )
        odometry = make(
            _ODOMETRY, header=header, child_frame_id=RIG_FRAME,
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=_POSE_VARIANCE),
            twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist,
                       covariance=_TWIST_VARIANCE),
        )  # fmt: skip
        self._write("/odom", log_ns, odometry)
        transform = make("geometry_msgs/msg/Transform",
                         translation=self._xyz("Vector3", position), rotation=rotation)  # fmt: skip
        stamped = make("geometry_msgs/msg/TransformStamped", header=header,
                       child_frame_id=RIG_FRAME, transform=transform)  # fmt: skip
        self._write("/tf", log_ns, make(_TF, transforms=[stamped]))

    def _mounting(self, camera: PinholeCamera) -> Any:
        make = self._bag.make
        transform = make(
            "geometry_msgs/msg/Transform",
            translation=self._xyz("Vector3", camera.position_in_rig_m),
            rotation=self._quaternion(camera.rig_from_optical_xyzw),
        )
        return make("geometry_msgs/msg/TransformStamped", header=self._header(0, RIG_FRAME),
                    child_frame_id=camera.optical_frame, transform=transform)  # fmt: skip

    def _camera_info(self, camera: PinholeCamera, header: Any) -> Any:
        return self._bag.make(
            _INFO, header=header, height=camera.height_px, width=camera.width_px,
            distortion_model="plumb_bob", d=np.zeros(5), k=camera.intrinsics.ravel(),
            r=np.eye(3).ravel(), p=np.column_stack((camera.intrinsics, np.zeros(3))).ravel(),
        )  # fmt: skip

    def _header(self, since_start_ns: int, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(self._epoch_ns + since_start_ns, 1_000_000_000)
        stamp = self._bag.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._bag.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _xyz(self, kind: str, values: Any) -> Any:
        x, y, z = (float(value) for value in values)
        return self._bag.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, xyzw: Any) -> Any:
        x, y, z, w = (float(value) for value in xyzw)
        return self._bag.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def _write(self, topic: str, log_ns: int, message: Any) -> None:
        self._bag.write(topic, log_ns, message)
        self.counts[topic] += 1
