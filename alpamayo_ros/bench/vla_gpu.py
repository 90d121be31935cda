"""The whole table of a GPU in one call: reasoning off, 16 and 40 tokens, 5 and 10 flow steps, 1, 6
and 16 samples, every frame new; `eager` beside it where that is asked; the goals; a profile.

It has been run on a CPU with the tiny model alone: there was no GPU at hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from alpamayo_ros.bench.figures import table
from alpamayo_ros.bench.vla import GIB, VlaOptions, made_up_input, made_up_sample, rows_of
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.load import find_device, find_dtype
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling

TOKENS, STEPS, SAMPLES = (0, 16, 40), (5, 10), (1, 6, 16)
BESIDE_EAGER = {(1, 10, 0), (1, 10, 16), (1, 10, 40), (6, 10, 16)}  # samples, steps, tokens
BUDGET_S = 400.0  # for all rows: the call is to end in under 8 minutes
KERNELS = 15


def measure(
    options: VlaOptions, progress: Callable[[float], None] = lambda done: None,
    budget_s: float = BUDGET_S,
) -> dict[str, Any]:  # fmt: skip
    """Rows as `bench vla`'s, goals as bars, and the kernels that a plan of one sample spends on."""
    device, dtype = find_device(options.device), find_dtype(options.dtype)
    started = time.monotonic()
    model = random_model(options.size, options.version, device, dtype, options.seed)
    made_s = time.monotonic() - started
    cases = [(n, steps, tokens) for n in SAMPLES for steps in STEPS for tokens in TOKENS]
    rows: list[dict[str, Any]] = []
    for done, (n, steps, tokens) in enumerate(cases):
        left_s = max(budget_s - (time.monotonic() - started), 0.0)
        runtimes = ("eager", "fast") if (n, steps, tokens) in BESIDE_EAGER else ("fast",)
        row_options = replace(
            options, runtimes=runtimes, new_window=True, deadline_s=left_s / (len(cases) - done)
        )
        planning = PlanningOptions(n, TokenSampling(), tokens, steps)
        rows += rows_of(model, row_options, planning)
        progress((done + 1) / len(cases))
    return {
        "size": options.size,
        "version": options.version,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": options.dtype,
        "torch": torch.__version__,
        "weights_gib": sum(p.nbytes for p in model.parameters()) / GIB,
        "made_s": made_s,
        "rows": rows,
        "bars": goals(rows),
        "kernels": profile(model, options),
        "seconds": time.monotonic() - started,
    }


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The bars of a GPU, each with its value; those that need another row are left out."""
    found = {
        (row["runtime"], row["samples"], row["flow_steps"], row["reasoning_tokens"]): row
        for row in rows
    }
    first, many = found["fast", 1, 5, 0], found["fast", 16, 5, 0]
    worded, beside = found["fast", 1, 10, 40], found["fast", 1, 10, 16]
    plan = first["stages_ms"]["plan"]
    per_token = worded["stages_ms"]["reasoning"]["p50"] / worded["reasoning_tokens"]
    per_step = worded["stages_ms"]["flow"]["p50"] / worded["flow_steps"]
    made = []
    for name, value, limits in (
        ("reasoning off, 5 steps, 1 sample: p50 in ms", plan["p50"], {"at_most": 100.0}),
        ("the same: p99 / p50", plan["p99"] / plan["p50"], {"at_most": 1.15}),
        ("decode: ms a token", per_token, {"at_most": 4.5}),
        ("expert: ms a step", per_step, {"at_most": 1.5}),
        ("16 samples / 1 sample", many["stages_ms"]["plan"]["p50"] / plan["p50"], {"at_most": 2.0}),
        ("eager / fast, 16 tokens, 10 steps", beside["eager_over_this"]["plan"], {"at_least": 6.0}),
    ):
        met = value <= limits["at_most"] if "at_most" in limits else value >= limits["at_least"]
        made.append({"name": name, "value": value, "met": bool(met), **limits})
    return made


def profile(model: AlpamayoModel, options: VlaOptions) -> list[dict[str, Any]]:
    """The kernels (on a CPU: operators) that one plan spends most on: 16 tokens, 5 steps."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    runtime, on_gpu = FastRuntime(model), model.device.type == "cuda"
    planning = PlanningOptions(1, TokenSampling(), 16, 5)
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    for tick in range(2):  # the first captures
        runtime.captures.open = on_gpu and not tick
        sample = made_up_sample(options, tick * 4)
        prompt, xyz, rot = made_up_input(model, options, sample, runtime)
        with recorded(activities=activities) as trace:
            runtime.plan(prompt, xyz, rot, planning, tick, window=sample)
            if on_gpu:
                torch.cuda.synchronize(model.device)
    kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(trace.key_averages(), key=lambda event: -float(getattr(event, kind)))
    return [
        {"name": event.key[:100], "ms": float(getattr(event, kind)) / 1e3, "calls": event.count}
        for event in events[:KERNELS]
    ]


def report(result: Mapping[str, Any]) -> str:
    """The table, then the profile."""
    stages = ("prepare", "vision", "prefill", "reasoning", "flow")
    head = ["runtime", "samples", "steps", "tokens", "repeats", *stages, "plan p50", "p99",
            "ms/token", "ms/step", "eager / this"]  # fmt: skip
    rows = []
    for row in result["rows"]:
        took = row["stages_ms"]
        tokens = row["reasoning_tokens"]
        rows.append([
            row["runtime"], row["samples"], row["flow_steps"], tokens or "off", row["repeats"],
            *(f"{took[stage]['p50']:.1f}" for stage in stages), f"{took['plan']['p50']:.1f}",
            f"{took['plan']['p99']:.1f}",
            f"{took['reasoning']['p50'] / tokens:.2f}" if tokens else "",
            f"{took['flow']['p50'] / row['flow_steps']:.2f}",
            f"{row['eager_over_this']['plan']:.2f}" if row["eager_over_this"] else "",
        ])  # fmt: skip
    kernels = [[one["name"], f"{one['ms']:.2f}", one["calls"]] for one in result["kernels"]]
    title = (
        f"Alpamayo {result['version']} {result['size']}, random weights, {result['dtype']}, "
        f"{result['device']}, torch {result['torch']}: {result['weights_gib']:.2f} GiB, made in "
        f"{result['made_s']:.0f} s; ms, medians, every frame new; {result['seconds']:.0f} s in all"
    )
    return "\n\n".join((title, table(head, rows), table(["kernel", "ms", "calls"], kernels)))
