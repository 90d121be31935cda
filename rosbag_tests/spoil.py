"""One good recording in memory, ways to spoil it, and what the planner made of it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import Replay
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.diagnosis import Level
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.types import NS_PER_MS, NS_PER_S

ODOMETRY = "/odom"
CAMERA = "/camera/front_tele/image/compressed"  # the one that most faults are of
SMALL = (144, 80)  # width, height: decoded at once, and as good to the baseline planner


def ms(milliseconds: float) -> int:
    """Milliseconds as integer nanoseconds."""
    return round(milliseconds * NS_PER_MS)


@dataclass
class Entry:
    """One message of a recording."""

    topic: str
    log_ns: int
    message: Any

    @property
    def stamp_ns(self) -> int:
        """Of its header."""
        return stamp_ns(self.message.header.stamp)

    def stamped(self, stamp: int) -> Entry:
        """The same message with another stamp."""
        changed = copy.deepcopy(self.message)
        changed.header.stamp.sec, changed.header.stamp.nanosec = divmod(stamp, NS_PER_S)
        return Entry(self.topic, self.log_ns, changed)


class Recording:
    """Cameras and odometry of a good drive, in the order of arrival."""

    def __init__(self, path: Path, until_s: float) -> None:
        with BagReader(path) as bag:
            self.start_ns = bag.start_ns
            self.types = {
                topic: info.type
                for topic, info in bag.topics.items()
                if topic == ODOMETRY or topic.endswith("/compressed")
            }
            stop_ns = bag.start_ns + round(until_s * NS_PER_S)
            self.entries = [
                Entry(topic, log_ns, _small(message) if topic != ODOMETRY else message)
                for topic, log_ns, message in bag.messages(self.types, stop_ns=stop_ns)
            ]

    def at(self, seconds: float) -> int:
        """A stamp of the drive."""
        return self.start_ns + round(seconds * NS_PER_S)

    def last_good_ns(self, topic: str, before_ns: int) -> int:
        """The newest stamp of a topic before a fault."""
        return max(e.stamp_ns for e in self.entries if e.topic == topic and e.stamp_ns < before_ns)


def _small(message: Any) -> Any:
    image = cv2.resize(cv2.imdecode(message.data, cv2.IMREAD_COLOR), SMALL)
    changed = copy.deepcopy(message)
    changed.data = cv2.imencode(".jpg", image)[1].ravel()
    return changed


Spoil = Callable[[Entry], Iterable[Entry]]


def spoilt(
    recording: Recording, topics: set[str], first_ns: int, last_ns: int, spoil: Spoil
) -> list[Entry]:
    """The recording with what `spoil` makes of these topics' messages stamped in [first, last)."""
    made: list[Entry] = []
    for entry in recording.entries:
        hit = entry.topic in topics and first_ns <= entry.stamp_ns < last_ns
        made.extend(spoil(entry) if hit else [entry])
    return sorted(made, key=lambda entry: entry.log_ns)


@dataclass
class Told:
    """What the planner made of a recording, each list by the bag's time in nanoseconds."""

    statuses: list[tuple[int, Any]]
    trajectories: list[tuple[int, Any]]
    diagnostics: list[tuple[int, Any]]

    def refusals(self, since_ns: int) -> list[tuple[int, Any]]:
        """Refused ticks from a time on, but for good plans that a stop held back."""
        return [
            (at, s) for at, s in self.statuses
            if at >= since_ns and s.outcome == 1 and s.reason != "recovering"
        ]  # fmt: skip

    def sources(self, since_ns: int, until_ns: int = 2**62) -> list[str]:
        """Who made the trajectories of a time."""
        return [t.source for at, t in self.trajectories if since_ns <= at < until_ns]

    def says(self, entry: str, level: Level, text: str, since_ns: int) -> list[int]:
        """When /diagnostics had this."""
        return [
            at
            for at, array in self.diagnostics
            for status in array.status
            if at >= since_ns and status.name == f"planner: {entry}"
            and status.level == level.value and text in status.message
        ]  # fmt: skip


def planned(
    recording: Recording,
    entries: Iterable[Entry],
    folder: Path,
    backend: PlannerBackend | None = None,
    reader: Callable[[Path], BagReader] = BagReader,
    **parameters: Any,
) -> Told:
    """Plan on these messages, through files, as `alpamayo replay` does."""
    with BagWriter(folder / "spoilt.mcap") as writer:
        for topic, msgtype in recording.types.items():
            writer.add_topic(topic, msgtype)
        for entry in entries:
            writer.write(entry.topic, entry.log_ns, entry.message)
    if backend is None:
        backend = create_backend("kinematic")
    backend.load()
    with reader(folder / "spoilt.mcap") as bag, Listener(folder / "plans.mcap") as writer:
        Replay(bag, settings_from(parameters), backend, writer).run()
    heard = writer.heard
    return Told(heard["/planner/status"], heard["/planner/trajectory"], heard["/diagnostics"])


class Listener(BagWriter):
    """Keeps what is written, in the order of writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.heard: dict[str, list[tuple[int, Any]]] = defaultdict(list)

    def write(self, topic: str, log_time_ns: int, message: Any) -> None:
        self.heard[topic].append((log_time_ns, message))
        super().write(topic, log_time_ns, message)


def grey(value: int) -> np.ndarray:
    """A JPEG of one grey."""
    image = np.full((SMALL[1], SMALL[0], 3), value, np.uint8)
    return cv2.imencode(".jpg", image)[1].ravel()
