"""Tick rates of the real node over DDS, small images; and a camera that ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alpamayo_ros.bench.figures import Bar, or_nan, table
from alpamayo_ros.bench.ingest import dds_profile
from alpamayo_ros.bench.load import Load
from alpamayo_ros.bench.session import Pictures, Session
from alpamayo_ros.bench.ticks import CUT_CAMERA, NAMED_WITHIN_MS, TARGET_HZ, TOLERANCE_HZ
from alpamayo_ros.types import NS_PER_MS, NS_PER_S

SMALL = Pictures("compressed", 576, 320)
SPREAD_MS = (0.0, 7.0, 13.0, 20.0)
LOADS = (
    Load(10.0, jitter_ms=20.0, delay_ms=5.0, seed=1),
    Load(15.0, jitter_ms=10.0, offsets_ms=SPREAD_MS, delay_ms=5.0, seed=2),
    Load(20.0, jitter_ms=5.0, delay_ms=5.0, seed=3),
    Load(30.0, jitter_ms=20.0, offsets_ms=SPREAD_MS, delay_ms=5.0, seed=4),
    Load(36.0, jitter_ms=5.0, offsets_ms=SPREAD_MS, delay_ms=5.0, seed=5),
)
WARM_UP_S = 2.5
CUT_S = 2.0


def measure(
    seconds: float = 8.0,
    loads: Sequence[Load] = LOADS,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """The part of the result for --json that real processes give."""
    entries = []
    for done, load in enumerate(loads):
        entries.append(_measure_load(load, seconds))
        progress(done + 1)
    off = max(abs(or_nan(entry["plans_hz"]) - TARGET_HZ) for entry in entries)
    slowest = max(
        or_nan(entry["after_due_ms"]) if entry["all_name_it"] else float("nan") for entry in entries
    )
    bars = [
        Bar("over DDS: plans off 10 Hz by at most", off, TOLERANCE_HZ),
        Bar("over DDS: a lost camera is named, after due, ms", slowest, NAMED_WITHIN_MS),
    ]
    return {"seconds": seconds, "loads": entries, "bars": [bar.to_json() for bar in bars]}


def _measure_load(load: Load, seconds: float) -> dict[str, Any]:
    with Session(load, SMALL, dds_profile()) as session:
        session.await_planning()
        session.run_for(WARM_UP_S)
        first = len(session.statuses)
        session.run_for(seconds)
        statuses = session.statuses[first:]
        session.cut(CUT_CAMERA)
        session.statuses.clear()
        session.run_for(CUT_S)
        after = list(session.statuses)
        last_stamp_ns = session.published()[CUT_CAMERA][-1][0]
    return {
        "rate_hz": load.rate_hz,
        "jitter_ms": load.jitter_ms,
        "spread_ms": max(load.offsets_ms, default=0.0),
        **rate_of(statuses),
        **cut_of(after, last_stamp_ns),
    }


def rate_of(statuses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plans a second, between the first and the last status."""
    plans = [status["stamp_ns"] for status in statuses if status["planned"]]
    refused = [status for status in statuses if not status["planned"]]
    gaps = np.diff(plans) / NS_PER_MS
    span_s = (statuses[-1]["stamp_ns"] - statuses[0]["stamp_ns"]) / NS_PER_S if statuses else 0.0
    planned_after_first = sum(status["planned"] for status in statuses[1:])
    return {
        "plans_hz": round(planned_after_first / span_s, 3) if span_s else None,
        "longest_gap_ms": round(float(gaps.max()), 1) if len(gaps) else None,
        "rejections": len(refused),
        "reasons": sorted({status["reason"] for status in refused}),
    }


def cut_of(statuses: Sequence[Mapping[str, Any]], last_stamp_ns: int) -> dict[str, Any]:
    """How soon the lost camera was named, and whether every status after that names it."""
    named = [status for status in statuses if status["source"] == CUT_CAMERA]
    if not named:
        return {"after_due_ms": None, "after_last_frame_ms": None, "all_name_it": False}
    first = named[0]
    later = [status for status in statuses if status["stamp_ns"] >= first["stamp_ns"]]
    return {
        "after_due_ms": round((first["stamp_ns"] - first["due_ns"]) / NS_PER_MS, 1),
        "after_last_frame_ms": round((first["stamp_ns"] - last_stamp_ns) / NS_PER_MS, 1),
        "all_name_it": all(
            not status["planned"] and status["source"] == CUT_CAMERA for status in later
        ),
    }


def report(result: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    rows = [
        [
            f"{entry['rate_hz']:g} Hz, jitter {entry['jitter_ms']:g} ms, "
            f"cameras {entry['spread_ms']:g} ms apart",
            f"{or_nan(entry['plans_hz']):.2f}",
            f"{or_nan(entry['longest_gap_ms']):.0f}",
            entry["rejections"],
            f"{or_nan(entry['after_due_ms']):.0f}",
            f"{or_nan(entry['after_last_frame_ms']):.0f}",
            "yes" if entry["all_name_it"] else "NO",
        ]
        for entry in result["loads"]
    ]
    header = [
        "over DDS", "plans, Hz", "longest gap, ms", "refused", "cut named: after due, ms",
        "after last frame, ms", "all later ticks",
    ]  # fmt: skip
    return table(header, rows)
