"""CameraInfo of every camera, held against the model's rig."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from alpamayo_ros import rig_check
from alpamayo_ros.cameras.calibration import info_topic
from alpamayo_ros.diagnosis import Entry, Level
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.rig_check import Lens, Mounting
from alpamayo_ros.ros import compat, topics
from alpamayo_ros.ros.executor import guarded


class CameraInfos:
    """Between configure and cleanup; without a rig in the manifest there is nothing to check."""

    def __init__(
        self,
        node: Node,
        settings: PlannerSettings,
        rig: Mapping[str, Mounting],
        group: CallbackGroup,
    ) -> None:
        self._node, self._settings, self._rig = node, settings, rig
        self._frames: dict[str, str] = {}  # camera -> optical frame
        self._lenses: dict[str, Lens | None] = {}
        self._transforms = RigOffset(settings.rig_frame)
        self._topics = {
            camera.name: camera.info_topic or info_topic(camera.topic)
            for camera in settings.cameras
            if camera.name in rig and settings.camera_info != "ignore"
        }
        self._subscriptions = [
            node.create_subscription(
                CameraInfo, topic, guarded(node, self._listener(name)), topics.sensor_qos(1),
                callback_group=group, qos_overriding_options=topics.overridable(),
            )
            for name, topic in self._topics.items()
        ]  # fmt: skip

    def add_static_transforms(self, message: Any) -> None:
        """One message of /tf_static."""
        self._transforms.add_static_transforms(message, to_pose=compat.to_pose)

    def await_published(self, wait_s: float) -> None:
        """Wait for a first CameraInfo of every topic that somebody publishes."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            silent = [
                topic for name, topic in self._topics.items()
                if name not in self._frames and self._node.count_publishers(topic)
            ]  # fmt: skip
            if not silent:
                return
            time.sleep(0.01)

    def problems(self) -> list[str]:
        """What does not fit the model's rig, a line each."""
        crops = self._settings.resize_policy == "crop"
        found = []
        for name, frame in self._frames.items():
            optical_from_rig = self._transforms.child_from_rig(frame)
            rotation = None if optical_from_rig is None else optical_from_rig.rotation.T
            lens = self._lenses[name]
            found += rig_check.problems(name, lens, rotation, self._rig, crops)
        return found

    def entry(self) -> Entry | None:
        """For /diagnostics; None where nothing is checked."""
        if not self._topics:
            return None
        found = self.problems()
        unknown = [topic for name, topic in self._topics.items() if name not in self._frames]
        level, text = Level.OK, "cameras are as the model's"
        if found:
            level, text = Level.ERROR, "; ".join(found)
        elif unknown:
            level, text = Level.WARN, f"no CameraInfo yet on {', '.join(unknown)}"
        return Entry("camera_info", level, text)

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _listener(self, camera: str) -> Any:
        def on_info(message: Any) -> None:
            self._frames[camera] = message.header.frame_id
            self._lenses[camera] = rig_check.lens_of(message)

        return on_info
