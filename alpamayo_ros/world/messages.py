"""The world's messages, cameras, odometry and transforms, for recordings and for the node."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.messages import Make, header
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


class WorldMessages:
    """Builds messages by a `Make` of any library. Times are nanoseconds since the start."""

    def __init__(self, make: Make, rig: Rig, epoch_ns: int) -> None:
        self._make, self._epoch_ns = make, epoch_ns
        self._cameras = {camera.name: camera for camera in rig}

    def mountings(self) -> Any:
        """Where the cameras sit, for /tf_static."""
        return self._make(_TF, transforms=[self._mounting(c) for c in self._cameras.values()])

    def camera_header(self, camera: str, since_start_ns: int) -> Any:
        """The header of an image and of its CameraInfo."""
        return self.header(since_start_ns, self._cameras[camera].optical_frame)

    def camera_info(self, camera: str, header: Any) -> Any:
        """The calibration of a camera."""
        described = self._cameras[camera]
        k = described.intrinsics
        return self._make(
            _INFO, header=header, height=described.height_px, width=described.width_px,
            distortion_model="plumb_bob", d=np.zeros(5), k=k.ravel(),
            r=np.eye(3).ravel(), p=np.column_stack((k, np.zeros(3))).ravel(),
            binning_x=0, binning_y=0, roi=self._make(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                do_rectify=False,
            ),
        )  # fmt: skip

    def compressed(self, header: Any, data: Any) -> Any:
        """A JPEG."""
        return self._make(_IMAGE, header=header, format="jpeg", data=data)

    def odometry(self, since_start_ns: int, state: EgoState) -> tuple[Any, Any]:
        """Odometry, and the same pose for /tf."""
        make = self._make
        header = self.header(since_start_ns, ODOMETRY_FRAME)
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
        transform = make("geometry_msgs/msg/Transform",
                         translation=self._xyz("Vector3", position), rotation=rotation)  # fmt: skip
        stamped = make("geometry_msgs/msg/TransformStamped", header=header,
                       child_frame_id=RIG_FRAME, transform=transform)  # fmt: skip
        return odometry, make(_TF, transforms=[stamped])

    def header(self, since_start_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        return header(self._make, self._epoch_ns + since_start_ns, frame_id)

    def _mounting(self, camera: PinholeCamera) -> Any:
        transform = self._make(
            "geometry_msgs/msg/Transform",
            translation=self._xyz("Vector3", camera.position_in_rig_m),
            rotation=self._quaternion(camera.rig_from_optical_xyzw),
        )
        return self._make("geometry_msgs/msg/TransformStamped", header=self.header(0, RIG_FRAME),
                          child_frame_id=camera.optical_frame, transform=transform)  # fmt: skip

    def _xyz(self, kind: str, values: Any) -> Any:
        x, y, z = (float(value) for value in values)
        return self._make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, xyzw: Any) -> Any:
        x, y, z, w = (float(value) for value in xyzw)
        return self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


class DriveMessages:
    """Writes a drive's messages to an open bag. Times are nanoseconds; stamps since the start."""

    def __init__(self, bag: BagWriter, rig: Rig, epoch_ns: int) -> None:
        self._bag = bag
        self._messages = WorldMessages(bag.make, rig, epoch_ns)
        self.counts: Counter[str] = Counter()
        for camera in rig:
            image_topic, info_topic = camera_topics(camera.name)
            bag.add_topic(image_topic, _IMAGE)
            bag.add_topic(info_topic, _INFO)
        bag.add_topic("/odom", _ODOMETRY)
        bag.add_topic("/tf", _TF)
        bag.add_topic("/tf_static", _TF, latched=True)
        self._write("/tf_static", epoch_ns, self._messages.mountings())

    def write_camera(self, camera: str, log_ns: int, since_start_ns: int, jpeg: bytes) -> None:
        """An image and its CameraInfo of the same stamp."""
        image_topic, info_topic = camera_topics(camera)
        header = self._messages.camera_header(camera, since_start_ns)
        self._write(info_topic, log_ns, self._messages.camera_info(camera, header))
        self._write(image_topic, log_ns, self._messages.compressed(header, jpeg))

    def write_odometry(self, log_ns: int, since_start_ns: int, state: EgoState) -> None:
        """/odom and the same pose on /tf."""
        odometry, transform = self._messages.odometry(since_start_ns, state)
        self._write("/odom", log_ns, odometry)
        self._write("/tf", log_ns, transform)

    def _write(self, topic: str, log_ns: int, message: Any) -> None:
        self._bag.write(topic, log_ns, message)
        self.counts[topic] += 1
