"""Navigation text, latched or not, forgotten when it grows old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import String

from alpamayo_ros.ros import topics
from alpamayo_ros.ros.executor import guarded


class NavigationInput:
    """Two subscriptions to one topic, since neither alone hears everyone.

    A transient-local subscription does not match a volatile publisher; a volatile one misses what
    a latched publisher said before. A message heard twice changes nothing.
    """

    def __init__(
        self, node: Node, timeout_s: float, now_ns: Callable[[], int], group: CallbackGroup
    ) -> None:
        self._node, self._now_ns = node, now_ns
        self._timeout_ns = round(timeout_s * 1e9)
        self._text, self._heard_ns = "", 0
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
        age_ns = self._now_ns() - self._heard_ns
        # A negative age: the clock was set back, and the text belongs to the time before.
        if not self._text or not 0 <= age_ns <= self._timeout_ns:
            return None
        return self._text

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_text(self, message: Any) -> None:
        self._text, self._heard_ns = message.data.strip(), self._now_ns()
