"""What /diagnostics says: entries with level, text and figures, for the node and for a replay."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alpamayo_ros.backends.base import ModelHealth
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.messages import Make, header
from alpamayo_ros.navigation import NavigationState
from alpamayo_ros.sources import SourceReport

STALE_MS = 500.0  # an input silent for five of its frames
MIN_COVERAGE = 0.9  # of a view that images are reprojected to


class Level(enum.IntEnum):
    """As diagnostic_msgs/DiagnosticStatus has them."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One DiagnosticStatus."""

    name: str
    level: Level
    text: str
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that was wrong, and the ROS time at which it was."""

    text: str
    at_ns: int

    def values(self, name: str) -> tuple[tuple[str, Any], ...]:
        """Two figures of an entry."""
        return ((name, self.text), (f"{name}_stamp", f"{self.at_ns / 1e9:.3f}"))


NEVER = Occurrence("", 0)


def array(
    make: Make,
    entries: Iterable[Entry],
    node: str,
    hardware_id: str,
    now_ns: int,
    byte: Callable[[int], Any] = int,
) -> Any:
    """diagnostic_msgs/DiagnosticArray; entries are named "<node>: <name>".

    `byte` makes what the message library takes for the level.
    """
    return make(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=header(make, now_ns, ""),
        status=[
            make(
                "diagnostic_msgs/msg/DiagnosticStatus",
                level=byte(entry.level.value),
                name=f"{node}: {entry.name}",
                message=entry.text,
                hardware_id=hardware_id,
                values=[
                    make("diagnostic_msgs/msg/KeyValue", key=key, value=_text(value))
                    for key, value in entry.values
                ],
            )
            for entry in entries
        ],
    )


def lifecycle(
    state: str, error: str, last: Occurrence, changed: Iterable[str], origin: Mapping[str, str]
) -> Entry:
    """The node's entry: its state, an unresolved error, parameters that are not in force yet."""
    level, text, waiting = Level.OK, state, ", ".join(changed)
    if waiting:
        level = Level.WARN
        text = f"{state}; changed since configure: {waiting}: configure again to put it in force"
    if error:
        level, text = Level.ERROR, error
    values = (("state", state), *last.values("last_error"), *origin.items())
    return Entry("lifecycle", level, text, values)


def model(manifest: Manifest, health: ModelHealth) -> Entry:
    """The model's entry: what its user should know; an error while its process is lost."""
    lost = f"the model's process is being started anew: {health.last_fault}"
    return Entry(
        "model",
        Level.OK if health.is_ready else Level.ERROR,
        manifest.introduction() if health.is_ready else lost,
        (
            ("name", manifest.name),
            ("licence", manifest.licence),
            ("note", manifest.note),
            ("takes_navigation", manifest.takes_navigation),
            ("takes_questions", manifest.takes_questions),
            *asdict(health).items(),
        ),
    )


def navigation(state: NavigationState, is_taken: bool) -> Entry:
    """The navigation text's entry; `is_taken` says whether the model takes any."""
    level, text = Level.OK, "a text is in force" if state.text else "no text is in force"
    if state.refusal:
        level, text = Level.WARN, state.refusal
    elif state.text and not is_taken:
        level = Level.WARN
        text = "the model takes no navigation: the text in force changes nothing"
    elif state.is_stale and is_taken:
        level = Level.WARN
        text = f"the last text is {state.age_s:.0f} s old and forgotten; publish it again"
    return Entry(
        "navigation",
        level,
        text,
        (("text", state.text), ("age_s", state.age_s), ("last_refusal", state.last_refusal)),
    )


def safety(action: str, stopping_for: str, counts: Mapping[str, int]) -> Entry:
    """The safety stage's entry: an error while it stops the vehicle, a warning on repairs."""
    level, text = Level.OK, "plans are within limits"
    if stopping_for:
        level, text = Level.ERROR, f"stopping the vehicle: {stopping_for}"
    elif action and not action.startswith("accepted"):
        level, text = Level.WARN, f"the last plan was {action}"
    return Entry("safety", level, text, tuple(counts.items()))


def source(report: SourceReport) -> Entry:
    """One input's entry."""
    if not report.received:
        level, text = Level.ERROR, f"nothing received on {report.topic}"
    elif not report.age_ms <= STALE_MS:
        level, text = Level.ERROR, f"silent for {report.age_ms:.0f} ms"
    elif report.rejected:
        level = Level.WARN
        text = f"{report.rejected} messages refused: {report.last_error}"
    elif report.view_coverage < MIN_COVERAGE:
        share = f"{100 * report.view_coverage:.0f} %"
        level, text = Level.WARN, f"covers {share} of the model's view; the rest is black"
    else:
        level, text = Level.OK, f"{report.rate_hz:.1f} Hz"
    return Entry(
        report.name,
        level,
        text,
        (
            ("topic", report.topic),
            ("age_ms", report.age_ms),
            ("transport_ms", report.transport_ms),
            ("rate_hz", report.rate_hz),
            ("received", report.received),
            ("rejected", report.rejected),
            ("last_error", report.last_error),
            ("view_coverage", report.view_coverage),
        ),
    )


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
