"""/diagnostics: the node's state, its planning and each input, at 1 Hz and on change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from alpamayo_ros.messages import SourceReport
from alpamayo_ros.ros import topics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STALE_MS = 500.0  # an input silent for five of its frames


class Diagnostics:
    """Collects statuses and publishes them as one array."""

    def __init__(self, node: Node, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", topics.reliable_qos()
        )
        self._levels: tuple[tuple[str, bytes], ...] | None = None

    def publish(self, statuses: Sequence[DiagnosticStatus], only_if_changed: bool) -> None:
        """Publish; with `only_if_changed` only where a level differs from the last time."""
        levels = tuple((status.name, status.level) for status in statuses)
        if only_if_changed and levels == self._levels:
            return
        self._levels = levels
        message = DiagnosticArray(status=list(statuses))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def status(
        self, name: str, level: bytes, text: str, values: Iterable[tuple[str, Any]] = ()
    ) -> DiagnosticStatus:
        """One entry, named "<node>: <name>"."""
        return DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name()[1:]}: {name}",
            message=text,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in values],
        )

    def source(self, report: SourceReport) -> DiagnosticStatus:
        """One input's entry."""
        if not report.received:
            level, text = ERROR, f"nothing received on {report.topic}"
        elif not report.age_ms <= STALE_MS:
            level, text = ERROR, f"silent for {report.age_ms:.0f} ms"
        elif report.rejected:
            level, text = WARN, f"{report.rejected} messages refused: {report.last_error}"
        else:
            level, text = OK, f"{report.rate_hz:.1f} Hz"
        return self.status(
            report.name,
            level,
            text,
            [
                ("topic", report.topic),
                ("age_ms", report.age_ms),
                ("transport_ms", report.transport_ms),
                ("rate_hz", report.rate_hz),
                ("received", report.received),
                ("rejected", report.rejected),
                ("last_error", report.last_error),
            ],
        )


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
