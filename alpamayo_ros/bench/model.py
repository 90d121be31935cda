"""Latency of a student as the planner runs it, by stage, and where it goes, by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alpamayo_ros.backends.standstill import standstill
from alpamayo_ros.bench.figures import percentiles, table
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.runtimes import open_runtime
from alpamayo_ros.deployment.spec import GRAPHS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import FRAME_STEP_NS, N_FRAMES, PlannerSample

STAGES = ("encode", "prepare", "policy", "unicycle", "total")
PROFILE_RUNS = 10
LISTED = 25  # layers in the table; all are in the JSON
BAR_CPU_MS = 50.0
BAR_GPU_MS = 5.0


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How often, and how closely."""

    repeats: int = 200
    warm_ups: int = 10
    profile: bool = False


def measure(
    manifest: Manifest, options: ModelOptions, progress: Callable[[float], None] = lambda done: None
) -> dict[str, Any]:
    """Plan a moving drive: four frames of every camera, of which one a camera is new each time.

    Milliseconds by the machine's steady clock, waiting for the GPU where there is one. Raises
    ModelError.
    """
    if manifest.backend != "student":
        raise ModelError(
            f"model {manifest.name} is of backend {manifest.backend}, and students are measured "
            "here; the VLA by `alpamayo bench vla`"
        )
    chosen = StudentOptions.from_manifest(manifest)
    runtime = open_runtime(manifest, chosen)
    try:
        planner = StudentPlanner(runtime, chosen.seed)
        spans: dict[str, list[float]] = {name: [] for name in STAGES}
        inputs: dict[str, Any] = {}
        for index in range(options.warm_ups + options.repeats):
            sample = _sample(runtime.spec.config.cameras, index)
            planned = planner.plan(sample)
            if index >= options.warm_ups:
                for name, value in planned.stage_ms.items():
                    spans[name].append(value)
                spans["total"].append(sum(planned.stage_ms.values()))
                progress((index + 1 - options.warm_ups) / options.repeats)
            inputs = {"encoder": {"images": planner.cache.newest_images(sample)},
                      "policy": planned.inputs}  # fmt: skip
        layers = {}
        if options.profile:
            layers = {
                graph: runtime.layer_times(graph, inputs[graph], PROFILE_RUNS) for graph in GRAPHS
            }
        return {
            "model": manifest.name,
            "licence": manifest.licence,
            "runtime": runtime.describe(),
            "precision": runtime.spec.precision,
            "cameras": len(runtime.spec.config.cameras),
            "frames": N_FRAMES,
            "image_size": list(runtime.spec.config.input_size),
            "repeats": options.repeats,
            "stages_ms": {name: percentiles(values) for name, values in spans.items()},
            "layers": {graph: [{"name": n, "kind": k, "ms": ms} for n, k, ms in rows]
                       for graph, rows in layers.items()},
            "bars": [_bar(spans["total"], on_gpu=_on_gpu(chosen))],
        }  # fmt: skip
    finally:
        runtime.close()


def _sample(cameras: tuple[str, ...], index: int) -> PlannerSample:
    """The standstill's, with noise for pictures, at stamps that move on by one frame."""
    from dataclasses import replace

    still = standstill(cameras)
    rng = np.random.default_rng(index)
    images = np.array(still.images)
    images[:, -1] = rng.integers(0, 256, images[:, -1].shape, np.uint8)
    moved = index * FRAME_STEP_NS
    return replace(
        still,
        t0_ns=still.t0_ns + moved,
        images=images,
        image_stamps_ns=still.image_stamps_ns + moved,
        speed_mps=8.0,
    )


def _on_gpu(options: StudentOptions) -> bool:
    return (
        options.runtime == "tensorrt"
        or options.provider != "cpu"
        or (options.runtime == "torch" and options.device.startswith("cuda"))
    )


def _bar(totals: list[float], on_gpu: bool) -> dict[str, Any]:
    from alpamayo_ros.bench.figures import Bar

    p99 = float(np.percentile(totals, 99))
    return Bar("total, 99th percentile, ms", p99, BAR_GPU_MS if on_gpu else BAR_CPU_MS).to_json()


def report(result: dict[str, Any]) -> str:
    """Stages, then the slowest layers of each graph."""
    height, width = result["image_size"]
    head = (
        f"{result['model']} on {result['runtime']}, {result['precision']}: {result['cameras']} "
        f"cameras x {result['frames']} frames of {width}x{height}, one new frame a camera; ms over "
        f"{result['repeats']} plans"
    )
    rows = [
        [name, *(f"{result['stages_ms'][name][key]:.2f}" for key in ("p50", "p99", "max"))]
        for name in STAGES
    ]
    parts = [head, table(["stage", "p50", "p99", "max"], rows)]
    for graph, layers in result["layers"].items():
        parts.append(_layer_table(graph, layers))
    return "\n".join(parts)


def _layer_table(graph: str, layers: list[dict[str, Any]]) -> str:
    whole = sum(layer["ms"] for layer in layers)
    slowest = sorted(layers, key=lambda layer: -layer["ms"])
    rows = [
        [layer["name"], layer["kind"], f"{layer['ms']:.3f}",
         f"{layer['ms'] / max(whole, 1e-9):.1%}"]
        for layer in slowest[:LISTED]
    ]  # fmt: skip
    rest = slowest[LISTED:]
    if rest:
        spent = sum(layer["ms"] for layer in rest)
        rows.append([f"{len(rest)} more", "", f"{spent:.3f}", f"{spent / max(whole, 1e-9):.1%}"])
    rows.append(["all", "", f"{whole:.3f}", "100.0%"])
    return f"\n{graph}, by layer\n" + table(["layer", "kind", "ms", "share"], rows)
