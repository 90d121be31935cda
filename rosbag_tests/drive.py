"""A made-up drive, published as a vehicle's drivers would: cameras, odometry, clock, static TF."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from alpamayo_ros.msg import PlannerStatus
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from alpamayo_ros.ros import topics
from alpamayo_ros.types import DEFAULT_CAMERAS

STEP_NS = 20_000_000  # odometry at 50 Hz
STEPS_A_FRAME = 5  # cameras at 10 Hz
N_PICTURES = 4
AHEAD_NS = 400_000_000
SILENT_NS = 3_000_000_000  # of the machine's time
HISTORY_NS = 1_800_000_000  # published at once at the start, so that nothing has to warm up


def jpeg(height: int = 80, width: int = 144, moved: int = 0) -> bytes:
    """A small picture with something in it, another one for every `moved`."""
    ramp = np.roll(np.linspace(0, 255, width, dtype=np.uint8), 8 * moved)
    return cv2.imencode(".jpg", np.repeat(np.tile(ramp, (height, 1))[..., None], 3, axis=2))[
        1
    ].tobytes()


def raw_image(height: int = 80, width: int = 144, moved: int = 0) -> Image:
    """A grey picture, uncompressed, another one for every `moved`."""
    data = bytes([100 + moved]) * (height * width * 3)
    return Image(height=height, width=width, encoding="rgb8", step=width * 3, data=data)


def camera_topics(raw: bool) -> list[str]:
    """Where the pictures are published, in the order of DEFAULT_CAMERAS."""
    return [f"/camera/{name}/image" + ("" if raw else "/compressed") for name in DEFAULT_CAMERAS]


@dataclass(frozen=True)
class Motion:
    """A circle (a straight line at yaw rate 0) from the odometry's origin along x.

    `lever_m` is how far ahead of the rig the frame lies whose motion this is.
    """

    speed_mps: float = 10.0
    yaw_rate_rps: float = 0.0
    lever_m: float = 0.0
    origin_ns: int = 0

    def pose_at(self, stamp_ns: int) -> tuple[float, float, float]:
        """x, y, yaw in odom."""
        elapsed_s = (stamp_ns - self.origin_ns) * 1e-9
        yaw = self.yaw_rate_rps * elapsed_s
        x, y = self.speed_mps * elapsed_s, 0.0
        if self.yaw_rate_rps:
            radius = self.speed_mps / self.yaw_rate_rps
            x, y = radius * math.sin(yaw), radius * (1.0 - math.cos(yaw))
        return x + self.lever_m * math.cos(yaw), y + self.lever_m * math.sin(yaw), yaw


class Drive:
    """Publishes a motion and pictures of it, of which no two in a row are the same.

    With `sim_time` it carries the clock too and begins at 1000 s, and time waits where bench or
    planner are late: however busy the machine is, they are not. Otherwise stamps are of the
    machine's clock, and what is late is caught up with. `step` is called by a timer of `node`'s
    executor.
    """

    def __init__(
        self,
        node: Node,
        *,
        sim_time: bool = False,
        speed_mps: float = 10.0,
        yaw_rate_rps: float = 0.0,
        child_frame: str = "base_link",
        lever_m: float = 0.0,
        raw: bool = False,
        cameras: Sequence[str] = DEFAULT_CAMERAS,
    ) -> None:
        self.motion = Motion(speed_mps, yaw_rate_rps, lever_m)
        self.cut: set[str] = set()  # cameras that are dead; "odometry" too
        self.paused = False
        self.mutate: Callable[[str, Any], Any] = lambda camera, image: image
        self._node, self._child_frame = node, child_frame
        self._sim_time = sim_time
        qos = topics.reliable_qos()
        self._pictures: list[Any] = [
            raw_image(moved=k) if raw else CompressedImage(format="jpeg", data=jpeg(moved=k))
            for k in range(N_PICTURES)
        ]
        self._images = {
            name: node.create_publisher(type(self._pictures[0]), topic, qos)
            for name, topic in zip(DEFAULT_CAMERAS, camera_topics(raw))
            if name in cameras
        }
        self._odometry = node.create_publisher(Odometry, "/odom", topics.reliable_qos())
        self._static = node.create_publisher(TFMessage, "/tf_static", topics.reliable_qos(True))
        self._clock: Any | None = node.create_publisher(Clock, "/clock", qos) if sim_time else None
        if sim_time:
            node.create_subscription(PlannerStatus, "/planner/status", self._on_status, 100)
        self._told_ns = self._told_steady_ns = 0  # when the planner last spoke, by both clocks
        self._timer: Any | None = None
        self.stamp_ns = 0  # the next step's
        self._due_steady_ns = 0

    @property
    def connected(self) -> bool:
        """Whether the planner listens to everything that is published."""
        publishers = [*self._images.values(), self._odometry]
        return all(publisher.get_subscription_count() for publisher in publishers)

    def start(self, at_ns: int | None = None) -> None:
        """Publish a history at once and go on from there; again: start anew at another time."""
        if at_ns is None:
            at_ns = 1_000_000_000_000 if self._sim_time else time.time_ns() // STEP_NS * STEP_NS
        self.motion = replace(self.motion, origin_ns=at_ns)
        self.stamp_ns = at_ns - HISTORY_NS
        while self.stamp_ns < at_ns:
            self.step()
        self._due_steady_ns = time.monotonic_ns()
        if self._timer is None:
            self._timer = self._node.create_timer(STEP_NS * 1e-9, self._tick)

    def stop(self) -> None:
        """Publish nothing more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def static_transform(self, parent: str, child: str, x_m: float) -> None:
        """Say on /tf_static that `child` lies x metres ahead in `parent`."""
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        transform.transform.translation.x = x_m
        self._static.publish(TFMessage(transforms=[transform]))

    def step(self) -> None:
        """One odometry message, and a frame of every camera where one is due."""
        stamp_ns, self.stamp_ns = self.stamp_ns, self.stamp_ns + STEP_NS
        stamp = Time(nanoseconds=stamp_ns).to_msg()
        if self._clock is not None:
            self._clock.publish(Clock(clock=stamp))
        if (stamp_ns // STEP_NS) % STEPS_A_FRAME == 0:
            picture = self._pictures[stamp_ns // STEP_NS // STEPS_A_FRAME % N_PICTURES]
            for name, publisher in self._images.items():
                if name not in self.cut:
                    image = self.mutate(name, copy.copy(picture))
                    image.header = Header(stamp=stamp)
                    publisher.publish(image)
        if "odometry" not in self.cut:
            self._odometry.publish(self._odometry_message(stamp_ns, stamp))

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        if self.paused:
            self._due_steady_ns = now_ns
            return
        if self._sim_time:
            self._due_steady_ns = max(self._due_steady_ns, now_ns - STEP_NS)
            if self._is_ahead(now_ns):
                return
        while self._due_steady_ns <= now_ns:
            self.step()
            self._due_steady_ns += STEP_NS

    def _on_status(self, status: PlannerStatus) -> None:
        self._told_ns, self._told_steady_ns = nanoseconds(status.header.stamp), time.monotonic_ns()

    def _is_ahead(self, now_ns: int) -> bool:
        """Whether the planner is still at what was published: while it is active it speaks up at
        every tick, 150 ms late at most. One that says nothing is not waited for."""
        is_behind = self.stamp_ns - self._told_ns > AHEAD_NS
        return is_behind and now_ns - self._told_steady_ns < SILENT_NS

    def _odometry_message(self, stamp_ns: int, stamp: Any) -> Odometry:
        motion = self.motion
        x, y, yaw = motion.pose_at(stamp_ns)
        message = Odometry(child_frame_id=self._child_frame)
        message.header.stamp, message.header.frame_id = stamp, "odom"
        pose = message.pose.pose
        pose.position.x, pose.position.y = x, y
        pose.orientation.z, pose.orientation.w = float(np.sin(yaw / 2)), float(np.cos(yaw / 2))
        twist = message.twist.twist
        twist.linear.x, twist.angular.z = motion.speed_mps, motion.yaw_rate_rps
        twist.linear.y = motion.yaw_rate_rps * motion.lever_m
        return message


def nanoseconds(stamp: Any) -> int:
    """builtin_interfaces/Time to integer nanoseconds."""
    return int(Duration(seconds=stamp.sec, nanoseconds=stamp.nanosec).nanoseconds)
