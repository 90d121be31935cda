"""/diagnostics: the node's state, its planning and each input, at 1 Hz and on change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from alpamayo_ros.manifest import Manifest
from alpamayo_ros.navigation import NavigationState
from alpamayo_ros.ros import compat, topics
from alpamayo_ros.sources import SourceReport
from alpamayo_ros.types import Rejection

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

    def lifecycle(self, state: str, error: str) -> DiagnosticStatus:
        """The node's entry: its state, and the last error where one is unresolved."""
        return self.status(
            "lifecycle",
            ERROR if error else OK,
            error or state,
            [("state", state), *compat.origin().items()],
        )

    def model(self, manifest: Manifest) -> DiagnosticStatus:
        """The model's entry: what its user should know."""
        return self.status(
            "model",
            OK,
            manifest.introduction(),
            [
                ("name", manifest.name),
                ("licence", manifest.licence),
                ("note", manifest.note),
                ("takes_navigation", manifest.takes_navigation),
                ("takes_questions", manifest.takes_questions),
            ],
        )

    def navigation(self, state: NavigationState, is_taken: bool) -> DiagnosticStatus:
        """The navigation text's entry; `is_taken` says whether the model takes any."""
        level, text = OK, "a text is in force" if state.text else "no text is in force"
        if state.refusal:
            level, text = WARN, state.refusal
        elif state.text and not is_taken:
            level, text = WARN, "the model takes no navigation: the text in force changes nothing"
        return self.status(
            "navigation",
            level,
            text,
            [
                ("text", state.text),
                ("age_s", state.age_s),
                ("last_refusal", state.last_refusal),
            ],
        )

    def planning(
        self, rejection: Rejection | None, silent_s: float, counts: Mapping[str, int]
    ) -> DiagnosticStatus:
        """The ticks' entry: the last rejection where no plan has come since."""
        level, text = OK, "planning"
        if rejection is not None:
            level, text = ERROR, str(rejection)
        elif silent_s > 1.0:
            # Nothing refused and nothing planned: time stands still, or nothing was due yet.
            level, text = WARN, "no tick due; is /clock paused?"
        return self.status(
            "planning", level, text, [*counts.items(), ("seconds_since_plan", silent_s)]
        )

    def safety(self, action: str, stopping_for: str, counts: Mapping[str, int]) -> DiagnosticStatus:
        """The safety stage's entry: an error while it stops the vehicle, a warning on repairs."""
        level, text = OK, "plans are within limits"
        if stopping_for:
            level, text = ERROR, f"stopping the vehicle: {stopping_for}"
        elif action and not action.startswith("accepted"):
            level, text = WARN, f"the last plan was {action}"
        return self.status("safety", level, text, counts.items())

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
