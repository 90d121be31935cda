"""Ten plans a second whatever the cameras' rate, jitter and phase: the pipeline in simulated time.

Exact and without ROS: messages, deadlines and the node's check timer come at their own times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from alpamayo_ros.bench.figures import Bar, or_nan, table
from alpamayo_ros.bench.load import ODOMETRY, SPEED_MPS, Load, events
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.pipeline import Pipeline, PipelineSettings
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, EgoPose, Rejection

RATES_HZ = (10.0, 15.0, 20.0, 30.0, 36.0)
JITTERS_MS = (0.0, 5.0, 10.0, 20.0)
PHASES_MS = (0.0, 33.0, 71.0)
# All at once; spread over 20 ms as free-running cameras are.
OFFSETS_MS = ((0.0, 0.0, 0.0, 0.0), (0.0, 7.0, 13.0, 20.0))
START_NS = 1_700_000_000 * NS_PER_S
CHECK_NS = 20 * NS_PER_MS  # the node's check timer
WARM_UP_NS = 3 * NS_PER_S
TARGET_HZ, TOLERANCE_HZ = 10.0, 0.2
NAMED_WITHIN_MS = 200.0
CUT_CAMERA = "cross_left"
NO_IMAGE = LazyImage(lambda: np.zeros((1, 1, 3), np.uint8))
UNIT_QUATERNION = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class Cut:
    """One camera that ends."""

    camera: str
    at_ns: int  # since the start


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of a tick, and when; times since the start of the load."""

    at_ns: int
    planned: bool
    t0_ns: int
    due_ns: int
    reason: str
    source: str


def simulate(load: Load, seconds: float, cut: Cut | None = None) -> list[Tick]:
    """Every tick of `seconds` of a load."""
    pipeline = Pipeline(PipelineSettings(cameras=load.cameras))
    pipeline.start(START_NS)
    ticks: list[Tick] = []
    end_ns, check_ns = round(seconds * NS_PER_S), CHECK_NS

    def poll(at_ns: int) -> None:
        for tick in pipeline.poll(START_NS + at_ns):
            ticks.append(_tick(tick, at_ns))

    for event in events(load):
        while check_ns < min(event.publish_ns, end_ns):
            poll(check_ns)
            check_ns += CHECK_NS
        if event.publish_ns >= end_ns:
            return ticks
        if cut is not None and event.source == cut.camera and event.stamp_ns >= cut.at_ns:
            continue
        now_ns, stamp_ns = START_NS + event.publish_ns, START_NS + event.stamp_ns
        if event.source == ODOMETRY:
            position = np.array([SPEED_MPS * event.stamp_ns * 1e-9, 0.0, 0.0])
            pose = EgoPose(stamp_ns, position, UNIT_QUATERNION, SPEED_MPS, 0.0)
            pipeline.add_pose(pose, now_ns)
        else:
            slot = FrameSlot(event.source, stamp_ns, event.publish_ns, NO_IMAGE)
            pipeline.add_frame(slot, now_ns)
        poll(event.publish_ns)
    raise AssertionError("a load has no end")


def _tick(tick: Selection | Rejection, at_ns: int) -> Tick:
    due_ns = tick.due_ns - START_NS
    if isinstance(tick, Rejection):
        return Tick(at_ns, False, 0, due_ns, tick.reason.value, tick.source)
    return Tick(at_ns, True, tick.t0_ns - START_NS, due_ns, "", "")


def rate_of(ticks: Sequence[Tick], seconds: float) -> dict[str, Any]:
    """Plans a second after the warm-up, the longest wait between two, and what was refused."""
    counted = [tick for tick in ticks if tick.at_ns >= WARM_UP_NS]
    planned = [tick for tick in counted if tick.planned]
    refused = [tick for tick in counted if not tick.planned]
    gaps = np.diff([tick.at_ns for tick in planned]) / NS_PER_MS
    return {
        "plans_hz": round(len(planned) / (seconds - WARM_UP_NS / NS_PER_S), 3),
        "longest_gap_ms": round(float(gaps.max()), 1) if len(gaps) else None,
        "rejections": len(refused),
        "reasons": sorted({tick.reason for tick in refused}),
    }


def cut_of(ticks: Sequence[Tick], load: Load, cut: Cut) -> dict[str, Any]:
    """How soon the lost camera is named, and whether every later tick names it.

    The first tick missed is the first one due at or after the first frame that did not come; a
    tick due before that can be served by the last frame that did.
    """
    stamps = []
    for event in events(load):
        if event.source == cut.camera:
            stamps.append(event.stamp_ns)
            if event.stamp_ns >= cut.at_ns:
                break
    after = [tick for tick in ticks if tick.at_ns >= cut.at_ns and not tick.planned]
    named = [tick for tick in after if tick.source == cut.camera]
    first = named[0] if named else None
    later = [tick for tick in after if first is not None and tick.at_ns >= first.at_ns]
    periods = np.diff([tick.at_ns for tick in later]) / NS_PER_MS
    return {
        "rate_hz": load.rate_hz,
        "jitter_ms": load.jitter_ms,
        "after_last_frame_ms": _since(first, stamps[-2]),
        "after_due_ms": _since(first, None if first is None else first.due_ns),
        "after_first_missing_frame_ms": _since(first, stamps[-1]),
        "ticks_after": len(later),
        "all_name_it": bool(later) and all(tick.source == cut.camera for tick in later),
        "longest_gap_ms": round(float(periods.max()), 1) if len(periods) else None,
        "reason": None if first is None else first.reason,
    }


def _since(first: Tick | None, since_ns: int | None) -> float | None:
    if first is None or since_ns is None:
        return None
    return round((first.at_ns - since_ns) / NS_PER_MS, 1)


def loads(rates_hz: Sequence[float] = RATES_HZ) -> list[Load]:
    """Every combination of rate, jitter, phase and offsets."""
    return [
        Load(rate, jitter_ms=jitter, phase_ms=phase, offsets_ms=offsets, delay_ms=5.0, seed=index)
        for index, (rate, jitter, phase, offsets) in enumerate(
            product(rates_hz, JITTERS_MS, PHASES_MS, OFFSETS_MS)
        )
    ]


def measure(
    seconds: float = 13.0,
    rates_hz: Sequence[float] = RATES_HZ,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Any]:
    """The simulated part of the result for --json."""
    entries, cuts = [], []
    cut = Cut(CUT_CAMERA, 5 * NS_PER_S + 12 * NS_PER_MS)
    for done, load in enumerate(loads(rates_hz)):
        entries.append({
            "rate_hz": load.rate_hz, "jitter_ms": load.jitter_ms, "phase_ms": load.phase_ms,
            "spread_ms": max(load.offsets_ms), **rate_of(simulate(load, seconds), seconds),
        })  # fmt: skip
        if load.phase_ms == PHASES_MS[0]:
            cuts.append(cut_of(simulate(load, 8.0, cut), load, cut))
        progress(done + 1)
    off = max(abs(entry["plans_hz"] - TARGET_HZ) for entry in entries)
    slowest = max(
        or_nan(entry["after_due_ms"]) if entry["all_name_it"] else float("nan") for entry in cuts
    )
    bars = [
        Bar("simulated: plans off 10 Hz by at most", off, TOLERANCE_HZ),
        Bar("simulated: a lost camera is named, after due, ms", slowest, NAMED_WITHIN_MS),
    ]
    return {
        "seconds": seconds,
        "rates": entries,
        "cuts": cuts,
        "bars": [bar.to_json() for bar in bars],
    }


def report(result: dict[str, Any]) -> str:
    """Rates by camera rate and jitter, worst over phases and offsets; then the cuts."""
    rows = []
    for rate in sorted({entry["rate_hz"] for entry in result["rates"]}):
        row = [f"{rate:g} Hz"]
        for jitter in JITTERS_MS:
            cell = [e for e in result["rates"] if (e["rate_hz"], e["jitter_ms"]) == (rate, jitter)]
            hz = [entry["plans_hz"] for entry in cell]
            row.append(f"{min(hz):.2f} - {max(hz):.2f}" if cell else "")
        cuts = [entry for entry in result["cuts"] if entry["rate_hz"] == rate]
        row.append(_span(cuts, "after_due_ms"))
        row.append(_span(cuts, "after_last_frame_ms"))
        row.append("yes" if all(entry["all_name_it"] for entry in cuts) else "NO")
        rows.append(row)
    header = ["simulated; plans, Hz", *(f"jitter {jitter:g} ms" for jitter in JITTERS_MS)]
    header += ["cut named: after due, ms", "after last frame, ms", "all later ticks"]
    return table(header, rows)


def _span(entries: Sequence[dict[str, Any]], key: str) -> str:
    values = [or_nan(entry[key]) for entry in entries]
    return f"{min(values):.0f} - {max(values):.0f}" if values else ""
