"""After `make fuzz`: how many cases each target had."""

from __future__ import annotations

from typing import Any

from fuzz.budget import CASES, COUNTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line a target."""
    if not CASES or not COUNTS:
        return
    terminalreporter.section("cases")
    for name, count in COUNTS.items():
        terminalreporter.write_line(f"{count:8d}  {name}")
    terminalreporter.write_line(f"{sum(COUNTS.values()):8d}  in all")
