"""What cameras and odometry send in a benchmark, and when: a seeded schedule, no ROS.

The same schedule drives the simulated pipeline and the process that publishes over DDS.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alpamayo_ros.types import DEFAULT_CAMERAS, NS_PER_MS, NS_PER_S

ODOMETRY = "odometry"
SPEED_MPS = 10.0  # of the simulated vehicle, straight ahead


def topic_of(camera: str, kind: str) -> str:
    """Where a camera publishes; `kind` is raw or compressed."""
    return f"/camera/{camera}/image" + ("/compressed" if kind == "compressed" else "")


@dataclass(frozen=True, slots=True)
class Load:
    """Periodic sources with disturbed stamps."""

    rate_hz: float
    cameras: tuple[str, ...] = DEFAULT_CAMERAS
    odometry_hz: float = 100.0
    phase_ms: float = 0.0  # of all cameras, against the start
    offsets_ms: tuple[float, ...] = ()  # of each camera, against the others
    jitter_ms: float = 0.0  # every stamp late by 0 to this, uniform, each camera by itself
    delay_ms: float = 0.0  # a frame's stamp to its publication: exposure, transfer, encoding
    odometry_delay_ms: float = 1.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """For the publishing process."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Load:
        """The inverse of `to_json`, lists for tuples."""
        plain = dict(values)
        for name in ("cameras", "offsets_ms"):
            plain[name] = tuple(plain[name])
        return Load(**plain)


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One message; times are nanoseconds since the start of the load."""

    publish_ns: int
    stamp_ns: int
    source: str  # a camera's name, or ODOMETRY


def events(load: Load) -> Iterator[Event]:
    """Every message in the order of publication, without end."""
    offsets = load.offsets_ms or (0.0,) * len(load.cameras)
    streams = [
        _camera(load, name, offset, np.random.default_rng((load.seed, index)))
        for index, (name, offset) in enumerate(zip(load.cameras, offsets))
    ]
    return heapq.merge(_odometry(load), *streams)


def _camera(
    load: Load, name: str, offset_ms: float, random: np.random.Generator
) -> Iterator[Event]:
    period_ns = NS_PER_S / load.rate_hz
    start_ns = (load.phase_ms + offset_ms) * NS_PER_MS
    frame, published_ns = 0, 0
    while True:
        late_ns = random.uniform(0.0, load.jitter_ms) * NS_PER_MS
        stamp_ns = round(start_ns + frame * period_ns + late_ns)
        # A driver hands frames over in order, whatever their stamps say.
        published_ns = max(published_ns, stamp_ns + round(load.delay_ms * NS_PER_MS))
        yield Event(published_ns, stamp_ns, name)
        frame += 1


def _odometry(load: Load) -> Iterator[Event]:
    count = 0
    while True:
        stamp_ns = round(count * NS_PER_S / load.odometry_hz)
        yield Event(stamp_ns + round(load.odometry_delay_ms * NS_PER_MS), stamp_ns, ODOMETRY)
        count += 1
