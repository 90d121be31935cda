"""/diagnostics of a replay: what the node would have said, at 1 Hz of the bag and on change."""

from __future__ import annotations

from alpamayo_ros import diagnosis
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.feed import Feed
from alpamayo_ros.planning_record import PlanningRecord
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.types import NS_PER_S

TOPIC = "/diagnostics"
HARDWARE_ID = "replay"


class DiagnosisWriter:
    """Asked after every message; writes where there is something new to say."""

    def __init__(
        self,
        writer: BagWriter,
        planner: str,
        backend: PlannerBackend,
        feed: Feed,
        record: PlanningRecord,
        stage: SafetyStage,
    ) -> None:
        self._writer, self._planner = writer, planner.lstrip("/")
        self._backend, self._feed, self._record, self._stage = backend, feed, record, stage
        self._levels: list[tuple[str, int]] | None = None
        self._next_ns = 0
        self._planned_ns: int | None = None
        self._plans = 0
        writer.add_topic(TOPIC, "diagnostic_msgs/msg/DiagnosticArray")

    def poll(self, now_ns: int) -> None:
        """At the bag's time `now_ns`."""
        if self._planned_ns is None or self._record.plans > self._plans:
            self._planned_ns, self._plans = now_ns, self._record.plans
        entries = [
            self._record.entry((now_ns - self._planned_ns) / NS_PER_S),
            diagnosis.safety(str(self._stage.verdict), self._stage.reason, self._stage.counts()),
            diagnosis.model(self._backend.manifest, self._backend.health()),
            *(diagnosis.source(source.report(now_ns)) for source in self._feed.sources.values()),
        ]
        levels = [(entry.name, entry.level.value) for entry in entries]
        # A clock that was set back makes what was due due again.
        if levels == self._levels and self._next_ns - NS_PER_S <= now_ns < self._next_ns:
            return
        self._levels, self._next_ns = levels, now_ns + NS_PER_S
        message = diagnosis.array(self._writer.make, entries, self._planner, HARDWARE_ID, now_ns)
        self._writer.write(TOPIC, now_ns, message)
