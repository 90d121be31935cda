"""/diagnostics: what `alpamayo_ros.diagnosis` says of the node, at 1 Hz and on change."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from alpamayo_ros import diagnosis
from alpamayo_ros.diagnosis import Entry
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import make


class Diagnostics:
    """Publishes entries as one array."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", topics.reliable_qos()
        )
        self._levels: list[tuple[str, int]] | None = None

    def publish(
        self, entries: Sequence[Entry], hardware_id: str, only_if_changed: bool
    ) -> DiagnosticArray | None:
        """Publish; with `only_if_changed` only where a level differs from the last time.

        Returns what was published, or None.
        """
        levels = [(entry.name, entry.level.value) for entry in entries]
        if only_if_changed and levels == self._levels:
            return None
        self._levels = levels
        name = self._node.get_fully_qualified_name()[1:]
        now_ns = int(self._node.get_clock().now().nanoseconds)
        array: DiagnosticArray = diagnosis.array(
            make, entries, name, hardware_id, now_ns, lambda level: bytes([level])
        )
        self._publisher.publish(array)
        return array
