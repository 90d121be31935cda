"""The figures of a soak."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Report:
    """What came of a soak."""

    ticks: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    unlocked: int = 0  # times that a model was wrong so often that somebody had to take over
    longest_gap_s: float = 0.0
    driven_m: float = 0.0
    judge_ms: list[float] = field(default_factory=list)
    fallback_ms: list[float] = field(default_factory=list)
    growth_mb: float = 0.0
    wall_s: float = 0.0

    def figures(self) -> dict[str, Any]:
        """As JSON takes them."""
        times = {
            name: [round(float(v), 3) for v in np.percentile(values or [math.nan], [50, 99])]
            for name, values in (("judge", self.judge_ms), ("fallback", self.fallback_ms))
        }
        return {
            "ticks": self.ticks,
            "bad_plans": len(self.bad),
            "first_bad": self.bad[:5],
            "sent": dict(self.sent),
            "actions": dict(self.actions),
            "faults": dict(sorted(self.faults.items())),
            "refused": dict(sorted(self.refused.items())),
            "unlocked": self.unlocked,
            "longest_gap_s": round(self.longest_gap_s, 3),
            "driven_km": round(self.driven_m / 1e3, 1),
            "ms_p50_p99": times,
            "memory_growth_mb": round(self.growth_mb, 2),
            "wall_s": round(self.wall_s, 1),
        }
