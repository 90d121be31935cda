"""How long the node itself takes: from the last message that a plan needed to its path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpamayo_ros.bench.figures import Bar, or_nan, percentiles, table
from alpamayo_ros.bench.ingest import dds_profile
from alpamayo_ros.bench.load import Load
from alpamayo_ros.bench.session import Pictures, Session
from alpamayo_ros.types import NS_PER_MS

WARM_UP_S = 3.0
# Cameras of one trigger are not read out at the same moment.
CAMERA_OFFSETS_MS = (0.0, 2.0, 4.0, 6.0)
CAMERA_DELAY_MS = 8.0
COUNTED_APART = ("decode", "model")


@dataclass(frozen=True, slots=True)
class LatencyOptions:
    """What to send, and how long to measure."""

    seconds: float = 20.0
    width: int = 1920
    height: int = 1080
    rate_hz: float = 10.0


def measure(
    options: LatencyOptions, progress: Callable[[float], None] = lambda done: None
) -> dict[str, Any]:
    """The result for --json. All times in milliseconds."""
    load = Load(
        options.rate_hz,
        odometry_hz=100.0,
        offsets_ms=CAMERA_OFFSETS_MS,
        jitter_ms=1.0,
        delay_ms=CAMERA_DELAY_MS,
    )
    pictures = Pictures("compressed", options.width, options.height)
    with Session(load, pictures, dds_profile()) as session:
        session.await_planning()
        session.pause()
        session.resume()
        session.run_for(WARM_UP_S)
        usage, first = session.planner.usage(), len(session.statuses)
        for second in range(max(1, round(options.seconds))):
            session.run_for(options.seconds / max(1, round(options.seconds)))
            progress(WARM_UP_S + second + 1)
        cores = session.planner.usage().cores_since(usage)
        statuses = session.statuses[first:]
        published = session.published()
        paths = {path["t0_ns"]: path["steady_ns"] for path in session.paths}
    plans = [status for status in statuses if status["planned"]]
    own = [_without(status["latency_ms"], status) for status in plans]
    outside = _outside(plans, paths, published)
    apart = {name: percentiles([s["stages"].get(name, 0.0) for s in plans]) for name in
             COUNTED_APART}  # fmt: skip
    figures = percentiles(own)
    bars = [
        Bar("latency without decoding and model, p50, ms", or_nan(figures["p50"]), 5.0),
        Bar("latency without decoding and model, p99, ms", or_nan(figures["p99"]), 15.0),
    ]
    return {
        "cameras": len(load.cameras),
        "size": f"{options.width}x{options.height}",
        "encoding": "jpeg",
        "rate_hz": options.rate_hz,
        "seconds": options.seconds,
        "ticks": len(statuses),
        "plans": len(plans),
        "planner_cores": round(cores, 3),
        "node_ms": percentiles([status["latency_ms"] for status in plans]),
        "node_without_decode_and_model_ms": figures,
        "stages_ms": apart,
        "outside_ms": percentiles([total for total, _ in outside]),
        "outside_without_decode_and_model_ms": percentiles([net for _, net in outside]),
        "bars": [bar.to_json() for bar in bars],
    }


def _without(latency_ms: float, status: Mapping[str, Any]) -> float:
    return latency_ms - sum(status["stages"].get(name, 0.0) for name in COUNTED_APART)


def _outside(
    plans: Sequence[Mapping[str, Any]],
    paths: Mapping[int, int],
    published: Mapping[str, Sequence[Sequence[int]]],
) -> list[tuple[float, float]]:
    """(total, without the stages counted apart) in ms, from publication to the path's arrival."""
    result = []
    for status in plans:
        arrived_ns = paths.get(status["t0_ns"])
        needed_ns = last_needed_ns(status["t0_ns"], published)
        if arrived_ns is not None and needed_ns is not None:
            total = (arrived_ns - needed_ns) / NS_PER_MS
            result.append((total, _without(total, status)))
    return result


def last_needed_ns(t0_ns: int, published: Mapping[str, Sequence[Sequence[int]]]) -> int | None:
    """When the last message that a plan at t0 had to wait for was published, in steady time.

    A plan waits until every source has reached t0: for the first message of each at or after it.
    None where a source never did. `published` holds rising [stamp_ns, steady_ns] pairs.
    """
    needed = []
    for pairs in published.values():
        index = bisect_left(pairs, t0_ns, key=lambda pair: pair[0])
        if index == len(pairs):
            return None
        needed.append(pairs[index][1])
    return max(needed) if needed else None


def report(result: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    head = (
        f"{result['cameras']} cameras, {result['size']} {result['encoding']}, "
        f"{result['rate_hz']:g} Hz, {result['seconds']:g} s: {result['plans']} plans in "
        f"{result['ticks']} ticks, {result['planner_cores']:.2f} cores"
    )
    rows = [
        ("in the node: arrival to path", result["node_ms"]),
        ("  decoding, stacking (apart)", result["stages_ms"]["decode"]),
        ("  model (apart)", result["stages_ms"]["model"]),
        ("  the rest: the bar", result["node_without_decode_and_model_ms"]),
        ("outside: publication to path", result["outside_ms"]),
        ("  without decoding and model", result["outside_without_decode_and_model_ms"]),
    ]
    cells = [
        [name, *(f"{or_nan(figures[key]):.2f}" for key in ("p50", "p99", "max"))]
        for name, figures in rows
    ]
    return f"{head}\n{table(['milliseconds', 'p50', 'p99', 'max'], cells)}"
