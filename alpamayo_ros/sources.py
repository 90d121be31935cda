"""What is known of each input: counts, rates, ages, the last thing wrong with it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from alpamayo_ros.types import NS_PER_MS, NS_PER_S, Rejection

RATE_STAMPS = 30  # stamps that a rate is taken over


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One input's figures; see msg/SourceStatus.msg."""

    name: str
    topic: str
    age_ms: float
    transport_ms: float
    rate_hz: float
    received: int
    rejected: int
    last_error: str = ""
    view_coverage: float = float("nan")


class Source:
    """One camera or the odometry, as its messages arrive. Thread-safe."""

    def __init__(self, name: str, topic: str) -> None:
        self.name, self.topic = name, topic
        self._lock = threading.Lock()
        self._received = self._rejected = 0
        self._last_error = ""
        self._stamps: deque[int] = deque(maxlen=RATE_STAMPS)
        self._transport_ns: int | None = None
        self.view_coverage = float("nan")  # of the model's view, where images are reprojected

    def arrived(self, stamp_ns: int, now_ns: int) -> None:
        """A message came; `now_ns` is ROS time."""
        with self._lock:
            self._received += 1
            if self._stamps and stamp_ns < self._stamps[-1] - NS_PER_S:
                self._stamps.clear()  # time was set back: a rate across the jump means nothing
            self._stamps.append(stamp_ns)
            self._transport_ns = now_ns - stamp_ns

    def refused(self, why: Rejection | str) -> None:
        """A message came to nothing."""
        with self._lock:
            self._rejected += 1
            self._last_error = str(why)

    def report(self, now_ns: int) -> SourceReport:
        """Its figures at ROS time `now_ns`."""
        with self._lock:
            stamps = list(self._stamps)
            nan = float("nan")
            span_ns = max(stamps) - min(stamps) if stamps else 0
            return SourceReport(
                name=self.name,
                topic=self.topic,
                age_ms=(now_ns - stamps[-1]) / NS_PER_MS if stamps else nan,
                transport_ms=nan if self._transport_ns is None else self._transport_ns / NS_PER_MS,
                rate_hz=(len(stamps) - 1) * NS_PER_S / span_ns if span_ns else nan,
                received=self._received,
                rejected=self._rejected,
                last_error=self._last_error,
                view_coverage=self.view_coverage,
            )
