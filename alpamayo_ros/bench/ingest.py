"""Do large raw images arrive, and what does it cost? With our DDS profile and without."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros.bench.figures import Bar, or_nan, percentiles, table
from alpamayo_ros.bench.load import ODOMETRY, Load
from alpamayo_ros.bench.processes import Usage
from alpamayo_ros.bench.session import Pictures, Session
from alpamayo_ros.resources import resource

WARM_UP_S = 3.0  # buffers fill, allocators reach their size
SAMPLE_S = 0.5
CASES = ("profile", "default")


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What to send, and how long to measure."""

    seconds: float = 20.0
    width: int = 1920
    height: int = 1080
    rate_hz: float = 30.0


def dds_profile() -> Path:
    """The Fast DDS profile of the package."""
    return resource("config", "fastdds_shm.xml")


def measure(
    options: IngestOptions,
    cases: Sequence[str] = CASES,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """The result for --json: one entry a case, and the bars (of the profile)."""
    results = {}
    for index, case in enumerate(cases):
        before_s = index * (options.seconds + WARM_UP_S)
        profile = dds_profile() if case == "profile" else None
        results[case] = _measure_case(options, profile, before_s, progress)
    measured = results.get("profile", {})
    bars = [
        Bar("share of frames, profile", or_nan(measured.get("share")), 0.995, at_least=True),
        Bar("cores of the planner, profile", or_nan(measured.get("planner_cores")), 1.0),
        Bar("growth of memory, MB", or_nan(measured.get("memory_growth_mb")), 16.0),
    ]
    if "profile" not in results:
        bars = []
    return {
        "cameras": 4,
        "size": f"{options.width}x{options.height}",
        "encoding": "rgb8",
        "rate_hz": options.rate_hz,
        "seconds": options.seconds,
        "cases": results,
        "bars": [bar.to_json() for bar in bars],
    }


def _measure_case(
    options: IngestOptions,
    profile: Path | None,
    before_s: float,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    load = Load(options.rate_hz, odometry_hz=100.0)
    pictures = Pictures("raw", options.width, options.height)
    with Session(load, pictures, profile) as session:
        session.await_planning()
        before = session.pause()
        session.resume()
        session.run_for(WARM_UP_S)
        usages = [(session.planner.usage(), session.generator.usage())]
        first_status = len(session.statuses)
        started = time.monotonic()
        while time.monotonic() - started < options.seconds:
            session.run_for(SAMPLE_S)
            usages.append((session.planner.usage(), session.generator.usage()))
            progress(before_s + WARM_UP_S + time.monotonic() - started)
        steady = session.statuses[first_status:]
        refused = [status for status in steady if not status["planned"]]
        after = session.pause()
        published = session.published()
    return {
        **_arrivals(published, before, after),
        **_usage(usages),
        "plans_hz": round(sum(s["planned"] for s in steady) / options.seconds, 2),
        "rejections": dict(Counter(f"{s['reason']} [{s['source']}]" for s in refused)),
        "node_latency_ms": percentiles([s["latency_ms"] for s in steady if s["planned"]]),
        "planner_errors": after["errors"],
    }


def _arrivals(
    published: dict[str, list[list[int]]], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """Frames sent, and those that reached the planner's buffers, by camera and in all."""
    cameras: dict[str, Any] = {}
    for name, pairs in published.items():
        taken = {
            key: after[key].get(name, 0) - before[key].get(name, 0)
            for key in ("received", "rejected")
        }
        buffered = taken["received"] - taken["rejected"]
        seconds = (pairs[-1][1] - pairs[0][1]) * 1e-9 if len(pairs) > 1 else float("nan")
        cameras[name] = {
            "sent": len(pairs),
            **taken,
            "share": round(buffered / len(pairs), 5) if pairs else None,
            "sent_hz": round((len(pairs) - 1) / seconds, 2) if len(pairs) > 1 else None,
        }
    odometry = cameras.pop(ODOMETRY)
    sent = sum(entry["sent"] for entry in cameras.values())
    buffered = sum(entry["received"] - entry["rejected"] for entry in cameras.values())
    rates = [or_nan(entry["sent_hz"]) for entry in cameras.values()]
    return {
        "cameras": cameras,
        "odometry": odometry,
        "sent": sent,
        "buffered": buffered,
        "share": round(buffered / sent, 5) if sent else None,
        "sent_hz": round(float(np.mean(rates)), 2),
    }


def _usage(usages: Sequence[tuple[Usage, Usage]]) -> dict[str, Any]:
    """CPU over the steady part; memory as the medians of its first and last fifth."""
    (planner_before, generator_before), (planner_after, generator_after) = usages[0], usages[-1]
    private = np.array([planner.private_bytes for planner, _ in usages]) / 1e6
    fifth = max(1, len(private) // 5)
    start, end = np.median(private[:fifth]), np.median(private[-fifth:])
    return {
        "planner_cores": round(planner_after.cores_since(planner_before), 3),
        "publisher_cores": round(generator_after.cores_since(generator_before), 3),
        "memory_start_mb": round(float(start), 1),
        "memory_end_mb": round(float(end), 1),
        "memory_peak_mb": round(float(private.max()), 1),
        "memory_growth_mb": round(float(end - start), 1),
        "shared_memory_mb": round(planner_after.shared_bytes / 1e6, 1),
    }


def report(result: dict[str, Any]) -> str:
    """The table for a terminal."""
    cases = result["cases"]
    titles = {"profile": "config/fastdds_shm.xml", "default": "default transports"}
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("frames sent after discovery", lambda c: str(c["sent"])),
        ("reached the planner's buffers", lambda c: str(c["buffered"])),
        ("share", lambda c: f"{or_nan(c['share']):.2%}"),
        ("worst camera", lambda c: f"{min(or_nan(e['share']) for e in c['cameras'].values()):.2%}"),
        ("sent, Hz a camera", lambda c: f"{c['sent_hz']:.1f}"),
        ("plans, Hz", lambda c: f"{c['plans_hz']:.2f}"),
        ("ticks refused", lambda c: str(sum(c["rejections"].values()))),
        ("planner, CPU cores", lambda c: f"{c['planner_cores']:.2f}"),
        ("publisher, CPU cores", lambda c: f"{c['publisher_cores']:.2f}"),
        ("planner's memory, start, MB", lambda c: f"{c['memory_start_mb']:.0f}"),
        ("planner's memory, end, MB", lambda c: f"{c['memory_end_mb']:.0f}"),
        ("and mapped shared memory, MB", lambda c: f"{c['shared_memory_mb']:.0f}"),
    ]
    rows = [[name, *(value(case) for case in cases.values())] for name, value in lines]
    head = (
        f"4 cameras, {result['size']} {result['encoding']}, {result['rate_hz']:g} Hz, "
        f"{result['seconds']:g} s"
    )
    return table([head, *(titles[name] for name in cases)], rows)
