"""Percentiles, tables and verdicts of the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise and what was measured."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """False too where nothing could be measured (NaN)."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """NaN as null."""
        value = self.value if np.isfinite(self.value) else None
        kind = "at_least" if self.at_least else "at_most"
        return {"name": self.name, "value": value, kind: self.limit, "met": bool(self.met)}


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """{"count", "p50", "p99", "max"}; null where there are no values."""
    if not len(values):
        return {"count": 0, "p50": None, "p99": None, "max": None}
    array = np.asarray(values, dtype=np.float64)
    p50, p99 = np.percentile(array, [50, 99])
    return {
        "count": len(array),
        "p50": round(float(p50), 3),
        "p99": round(float(p99), 3),
        "max": round(float(array.max()), 3),
    }


def or_nan(value: Any) -> float:
    """A figure that may be null."""
    return float("nan") if value is None else float(value)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)
