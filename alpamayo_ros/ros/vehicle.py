"""What the planner hears from and tells the vehicle around it: ~/engaged and ~/availability."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool

from alpamayo_ros.msg import PlannerAvailability
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.executor import guarded
from alpamayo_ros.safety.availability import Availability


class EngagedInput:
    """~/engaged: whether our plans are being driven. Until somebody says otherwise they are."""

    def __init__(self, node: Node, on_change: Callable[[bool], None], group: CallbackGroup) -> None:
        self._node, self._on_change = node, on_change
        self.engaged = True
        # Neither latched nor volatile alone hears everyone; heard twice it changes nothing.
        for latched in (False, True):
            node.create_subscription(
                Bool, "~/engaged", guarded(node, self._on_message), topics.reliable_qos(latched),
                callback_group=group,
            )  # fmt: skip

    def _on_message(self, message: Any) -> None:
        if message.data == self.engaged:
            return
        self.engaged = message.data
        self._node.get_logger().info("engaged" if self.engaged else "somebody else drives")
        self._on_change(self.engaged)


class AvailabilityOutput:
    """~/availability, from the node's start to its end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(
            PlannerAvailability, "~/availability", topics.output_qos()
        )
        self._sequence = 0

    def publish(self, now: Availability, engaged: bool) -> None:
        """One heartbeat."""
        self._sequence += 1
        message = PlannerAvailability(
            sequence=self._sequence,
            state=now.state.value,
            engaged=engaged,
            reason=now.reason,
            missing_cameras=list(now.missing_cameras),
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
