"""What became of the ticks so far: counts, rates, latencies, the last refusal. For /diagnostics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from alpamayo_ros.diagnosis import NEVER, Entry, Level, Occurrence
from alpamayo_ros.types import NS_PER_S, Rejection

WINDOW = 100  # plans that rates and latencies are taken over


class PlanningRecord:
    """One planner's, between configure and cleanup. One thread at a time."""

    def __init__(self) -> None:
        self.plans = 0
        self.dropped = 0
        self.reasons: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=WINDOW)
        self._ages_ms: deque[float] = deque(maxlen=WINDOW)
        self._t0_ns: deque[int] = deque(maxlen=WINDOW)
        self._in_a_row = 0  # refused ticks since the last plan
        self._refusal: Rejection | None = None  # the last one, where no plan has come since
        self._last = NEVER
        self.left_out: tuple[Rejection, ...] = ()  # cameras that the last plan was made without

    def start(self) -> None:
        """Planning begins anew: no refusal of before is the last word any more."""
        self._refusal, self._in_a_row, self.left_out = None, 0, ()
        self._t0_ns.clear()

    def planned(
        self, t0_ns: int, now_ns: int, latency_ms: float, left_out: Sequence[Rejection] = ()
    ) -> None:
        """A plan went out at ROS time `now_ns`."""
        self.plans += 1
        self._refusal, self._in_a_row, self.left_out = None, 0, tuple(left_out)
        self._latencies_ms.append(latency_ms)
        self._ages_ms.append((now_ns - t0_ns) / 1e6)
        if self._t0_ns and t0_ns < self._t0_ns[-1]:
            self._t0_ns.clear()  # the clock was set back
        self._t0_ns.append(t0_ns)

    def refused(self, rejection: Rejection, now_ns: int) -> None:
        """A tick came to nothing."""
        self.reasons[rejection.reason.value] += 1
        self._in_a_row += 1
        self._refusal = rejection
        self._last = Occurrence(str(rejection), now_ns)

    @property
    def rejected(self) -> int:
        """Refused ticks."""
        return sum(self.reasons.values())

    def entry(self, silent_s: float) -> Entry:
        """The ticks' entry; `silent_s` of steady time have passed since the last plan."""
        level, text = Level.OK, "planning"
        if self._refusal is not None:
            level, text = Level.ERROR, str(self._refusal)
        elif silent_s > 1.0:
            # Nothing refused and nothing planned: time stands still, or nothing was due yet.
            level, text = Level.WARN, "no tick due; is /clock paused?"
        elif self.left_out:
            level = Level.WARN
            text = "planning without " + "; ".join(map(str, self.left_out))
        span_s = (self._t0_ns[-1] - self._t0_ns[0]) / NS_PER_S if len(self._t0_ns) > 1 else 0.0
        rate_hz = (len(self._t0_ns) - 1) / span_s if span_s else float("nan")
        return Entry(
            "planning",
            level,
            text,
            (
                ("plans_published", self.plans),
                ("ticks_rejected", self.rejected),
                ("samples_dropped", self.dropped),
                ("rejected_in_a_row", self._in_a_row),
                ("seconds_since_plan", silent_s),
                ("plan_rate_hz", rate_hz),
                *_percentiles("latency_ms", self._latencies_ms),
                *_percentiles("data_age_ms", self._ages_ms),
                *((f"rejected_{reason}", count) for reason, count in sorted(self.reasons.items())),
                *self._last.values("last_refusal"),
            ),
        )


def _percentiles(name: str, values: Sequence[float]) -> list[tuple[str, float]]:
    p50, p99 = np.percentile(values, (50, 99)).tolist() if values else (float("nan"),) * 2
    return [(f"{name}_p50", p50), (f"{name}_p99", p99)]
