"""What a process of its own costs a plan: the same sample planned here and there by turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.backends.standstill import standstill
from alpamayo_ros.bench.figures import Bar, percentiles, table
from alpamayo_ros.isolation.backend import isolated
from alpamayo_ros.isolation.frames import PLAN_SLOT, SharedFrames
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.types import DEFAULT_CAMERAS, PlannerSample

BAR_MS = 3.0  # of the medians' difference
WARM_UP = 10  # plans: the first touch of the shared memory is paid for at warm-up in a node too
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class IsolationOptions:
    """How much to measure."""

    repeats: int = 500


def measure(
    options: IsolationOptions, progress: Callable[[float], None] = lambda done: None
) -> dict[str, Any]:
    """Milliseconds of a kinematic plan of 4 x 4 x 320 x 576 pixels, which it does not look at."""
    manifest = load_manifest("kinematic")
    here = KinematicBackend(manifest)
    there = isolated(KinematicBackend(manifest), "process", TIMEOUT_S, TIMEOUT_S)
    rng = np.random.default_rng(0)
    grey = standstill(DEFAULT_CAMERAS)
    samples = [
        replace(grey, images=rng.integers(0, 256, grey.images.shape, np.uint8)) for _ in range(2)
    ]
    memory = SharedFrames.create(manifest.cameras.maximum)
    times: dict[str, list[float]] = {"thread": [], "process": [], "copy": []}
    try:
        here.load()
        there.load()
        for k in range(WARM_UP + options.repeats):
            sample = samples[k % 2]
            took = {
                "thread": _plan_ms(here, sample),
                "process": _plan_ms(there, sample),
                "copy": _ms(lambda sample=sample: memory.write(PLAN_SLOT, sample.images)),  # type: ignore[misc]
            }
            if k >= WARM_UP:
                for name, value in took.items():
                    times[name].append(value)
                progress(len(times["copy"]) / options.repeats)
    finally:
        there.close()
        memory.close()
    figures = {name: percentiles(values) for name, values in times.items()}
    cost_ms = figures["process"]["p50"] - figures["thread"]["p50"]
    bar = Bar("process - thread, medians, ms", cost_ms, BAR_MS)
    return {
        "image_shape": list(grey.images.shape),
        "repeats": options.repeats,
        "ms": figures,
        "cost_ms": round(cost_ms, 3),
        "bars": [bar.to_json()],
    }


def _plan_ms(backend: PlannerBackend, sample: PlannerSample) -> float:
    return _ms(lambda: backend.plan(sample))


def _ms(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def report(result: dict[str, Any]) -> str:
    """The table."""
    names = {
        "thread": "plan in a thread",
        "process": "plan in a process",
        "copy": "  of which copying pixels",
    }
    rows = [
        [text, *(f"{result['ms'][name][key]:.2f}" for key in ("p50", "p99", "max"))]
        for name, text in names.items()
    ]
    shape = " x ".join(map(str, result["image_shape"]))
    title = f"kinematic, images {shape}, {result['repeats']} plans of each by turns"
    return f"{title}\n" + table(["ms", "p50", "p99", "max"], rows)
