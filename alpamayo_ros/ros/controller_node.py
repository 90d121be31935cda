"""controller_node: follows the planner's trajectory, and stops when no new one comes.

The stand-in for a vehicle's own controller. Publishes `~/command` (VehicleCommand) from the first
trajectory on, at a steady rate: also when /clock or odometry stand still, to say that it stops.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from alpamayo_ros import geometry
from alpamayo_ros.control.follower import ControlCommand, Follower, FollowerSettings
from alpamayo_ros.control.reference import N_POINTS, Reference
from alpamayo_ros.control.watch import Watch
from alpamayo_ros.errors import UserError
from alpamayo_ros.msg import PlannedTrajectory, VehicleCommand
from alpamayo_ros.odometry import TWIST_SOURCES, ego_pose
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import to_time
from alpamayo_ros.ros.executor import PlannerExecutor, guarded
from alpamayo_ros.ros.numbers import number_parameter
from alpamayo_ros.ros.process import run_node
from alpamayo_ros.types import NS_PER_S, Rejection

# The least and the most of what `FollowerSettings` takes.
RANGES = {
    "lookahead_s": (0.2, 3.0),
    "lookahead_min_m": (1.0, 20.0),
    "speed_gain_1ps": (0.1, 5.0),
    "actuation_delay_s": (0.0, 1.0),
    "stale_s": (0.15, 2.0),
    "stop_braking_mps2": (0.5, 6.0),
    "blind_braking_mps2": (0.5, 6.0),
    "max_acceleration_mps2": (0.1, 5.0),
    "max_braking_mps2": (1.0, 10.0),
    "max_curvature_1pm": (0.01, 0.5),
}
RATE_RANGE_HZ = (10.0, 200.0)
CLOCK_BACKWARD_NS = NS_PER_S


class ControllerNode(Node):
    """One Follower between a trajectory topic and a command topic."""

    def __init__(self) -> None:
        super().__init__("controller")
        self._reads_twist = self._twist_source() == "message"
        self._watch = Watch(Follower(self._settings()), motion_by_poses=not self._reads_twist)
        rate_hz = number_parameter(self, "rate_hz", 50.0, *RATE_RANGE_HZ)
        trajectory = str(self.declare_parameter("trajectory_topic", "/planner/trajectory").value)
        odometry = str(self.declare_parameter("odometry_topic", "/odom").value)
        self._odometry: Any | None = None
        self._engaged = False
        self._last_now_ns = 0
        self._commands = self.create_publisher(
            VehicleCommand, "~/command", topics.reliable_qos(),
            qos_overriding_options=topics.overridable(),
        )  # fmt: skip
        self.create_subscription(
            PlannedTrajectory, topics.resolve(self, "trajectory_topic", trajectory),
            guarded(self, self._on_trajectory), topics.reliable_qos(),
            qos_overriding_options=topics.overridable(),
        )  # fmt: skip
        self.create_subscription(
            Odometry, topics.resolve(self, "odometry_topic", odometry),
            guarded(self, self._on_odometry), topics.sensor_qos(50),
            qos_overriding_options=topics.overridable(),
        )  # fmt: skip
        # Not in simulated time: a clock that stands still must not silence the controller.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / rate_hz, guarded(self, self._on_timer), clock=steady)

    def _settings(self) -> FollowerSettings:
        defaults = FollowerSettings()
        values = {
            name: number_parameter(self, name, getattr(defaults, name), *RANGES[name])
            for name in (entry.name for entry in fields(FollowerSettings))
        }
        return FollowerSettings(**values)

    def _twist_source(self) -> str:
        source = str(self.declare_parameter("odometry_twist", "message").value)
        if source not in TWIST_SOURCES:
            wanted = " or ".join(TWIST_SOURCES)
            raise UserError(f"parameter odometry_twist is {source!r}, wanted {wanted}")
        return source

    def _on_odometry(self, message: Any) -> None:
        pose = ego_pose(message, geometry.identity_pose(), self._reads_twist)
        if isinstance(pose, Rejection):  # what is not heard grows old, and the vehicle is stopped
            self.get_logger().error(f"odometry not used: {pose}", throttle_duration_sec=2)
            return
        self._odometry = message
        self._watch.hear(pose)

    def _on_trajectory(self, message: Any) -> None:
        problem = self._problem_of(message)
        if problem:
            self.get_logger().error(f"trajectory not followed: {problem}", throttle_duration_sec=2)
            return
        if self._watch.follower.follow(_reference(message)):
            if not self._engaged:
                self.get_logger().info(f"following {message.model}")
            self._engaged = True

    def _problem_of(self, message: Any) -> str:
        if len(message.points) != N_POINTS:
            return f"it has {len(message.points)} points, wanted {N_POINTS}"
        odometry = self._odometry
        if odometry is None:
            return "no odometry yet; is odometry_topic right?"
        if message.header.frame_id != odometry.header.frame_id:
            return (
                f"it is in frame {message.header.frame_id!r}, odometry in "
                f"{odometry.header.frame_id!r}; set the planner's path_frame to odometry"
            )
        if message.rig_frame_id != odometry.child_frame_id:
            return (
                f"its poses are of {message.rig_frame_id!r}, odometry's of "
                f"{odometry.child_frame_id!r}; this controller wants both of the rear axle"
            )
        return ""

    def _on_timer(self) -> None:
        now_ns = int(self.get_clock().now().nanoseconds)
        if now_ns < self._last_now_ns - CLOCK_BACKWARD_NS:
            self._watch.forget()
            self._engaged, self._odometry = False, None
            self.get_logger().warning("the clock was set back: waiting for a new trajectory")
        self._last_now_ns = now_ns
        if not self._engaged or not self._watch.hears:
            return
        command, reason = self._watch.command(now_ns)
        if reason:
            self.get_logger().warning(f"stopping: {reason}", throttle_duration_sec=2)
        self._publish(command, reason, now_ns)

    def _publish(self, command: ControlCommand, reason: str, now_ns: int) -> None:
        assert self._odometry is not None
        message = VehicleCommand(
            acceleration_mps2=command.acceleration_mps2,
            curvature_1pm=command.curvature_1pm,
            state=command.state.value,
            reason=reason,
            plan_sequence=command.plan_sequence,
            plan_age_ms=1e3 * command.plan_age_s,
        )
        message.header.stamp = to_time(now_ns)
        message.header.frame_id = self._odometry.child_frame_id
        self._commands.publish(message)


def _reference(message: Any) -> Reference:
    rows = []
    for point in message.points:
        p, q = point.pose.position, point.pose.orientation
        yaw = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z))
        rows.append((p.x, p.y, yaw, point.velocity_mps, point.acceleration_mps2))
    table = np.array(rows)
    return Reference(
        _nanoseconds(message.header.stamp), table[:, :2], table[:, 2], table[:, 3], table[:, 4],
        int(message.sequence),
    )  # fmt: skip


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def main() -> int:
    """Control until SIGINT or SIGTERM."""

    def build(executor: PlannerExecutor) -> ControllerNode:
        try:
            return ControllerNode()
        except ValueError as error:
            raise UserError(str(error)) from error

    return run_node(build)


if __name__ == "__main__":
    raise SystemExit(main())
