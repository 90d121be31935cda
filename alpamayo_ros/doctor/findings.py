"""One thing looked at: how bad it is, what it is, what helps."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Level(str, enum.Enum):
    """How bad a finding is. Only an error makes the exit code 1."""

    OK = "ok"
    NOTE = "note"  # worth knowing; something optional is not there
    WARNING = "warning"  # works, and may fail under load or later
    ERROR = "error"  # does not work

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty where there is nothing to do."""

    level: Level
    area: str
    what: str
    remedy: str = ""


def ok(area: str, what: str) -> Finding:
    """Looked at, and good."""
    return Finding(Level.OK, area, what)


def note(area: str, what: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Level.NOTE, area, what, remedy)


def warning(area: str, what: str, remedy: str) -> Finding:
    """Works, and may fail."""
    return Finding(Level.WARNING, area, what, remedy)


def error(area: str, what: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(Level.ERROR, area, what, remedy)


def is_sound(findings: Sequence[Finding]) -> bool:
    """Whether there is no error among them."""
    return not any(finding.level == Level.ERROR for finding in findings)


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """{"sound": …, "findings": [{"level", "area", "what", "remedy"}, …]}."""
    return {"sound": is_sound(findings), "findings": [asdict(finding) for finding in findings]}


def report(findings: Sequence[Finding]) -> str:
    """For a person: a line a finding, the remedy beneath it; then the count."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value:8} {finding.area}: {finding.what}")
        if finding.remedy:
            lines.append(f"{'':8}   -> {finding.remedy}")
    counts = [sum(f.level == level for f in findings) for level in (Level.ERROR, Level.WARNING)]
    lines.append(f"{counts[0]} errors, {counts[1]} warnings")
    return "\n".join(lines)
