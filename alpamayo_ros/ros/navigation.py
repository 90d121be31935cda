"""Navigation text from its topic, latched or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import String

from alpamayo_ros.navigation import NavigationState, NavigationText
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.executor import guarded


class NavigationInput:
    """Two subscriptions to one topic, since neither alone hears everyone.

    A transient-local subscription does not match a volatile publisher; a volatile one misses what
    a latched publisher said before. A message heard twice changes nothing.
    """

    def __init__(
        self, node: Node, text: NavigationText, now_ns: Callable[[], int], group: CallbackGroup
    ) -> None:
        self._node, self._text, self._now_ns = node, text, now_ns
        self._subscriptions = [
            node.create_subscription(
                String,
                "~/navigation",
                guarded(node, self._on_text),
                topics.reliable_qos(latched),
                callback_group=group,
            )
            for latched in (False, True)
        ]

    def current(self) -> str | None:
        """The text in force, or None."""
        return self.state().text or None

    def state(self) -> NavigationState:
        """The text in force, or why there is none."""
        return self._text.state(self._now_ns())

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_text(self, message: Any) -> None:
        refusal = self._text.hear(message.data, self._now_ns())
        if refusal:
            self._node.get_logger().warning(
                f"no navigation is in force: {refusal}", throttle_duration_sec=1.0
            )
