"""Stage times and memory of the Alpamayo model on random or real weights, without ROS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from alpamayo_ros.bench import vla_reference
from alpamayo_ros.bench.figures import percentiles, table
from alpamayo_ros.geometry import identity_pose
from alpamayo_ros.types import FRAME_STEP_NS, N_FRAMES, N_HISTORY, PlannerSample
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast.runtime import FastRuntime, without_reasoning
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.load import find_device, find_dtype
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.prepare import R1_CAMERAS, history_tensors
from alpamayo_ros.vla.prompt import (
    PromptConfig,
    expand_image_ids,
    planning_text,
    tokens_per_image,
)
from alpamayo_ros.vla.token_sampling import TokenSampling
from alpamayo_ros.vla.trajectory_tokens import fuse_history
from alpamayo_ros.vla.vision_input import VisionConfig, vision_input
from alpamayo_ros.vla.vocabulary import QWEN_ADDED, Vocabulary

STAGES = ("prepare", "vision", "prefill", "reasoning", "flow", "unicycle", "plan")
_PIECE = re.compile(r"<\|[^|<>]*\|>|\w+|[^\w\s]")
RUNTIMES = ("reference", "eager", "fast")
GIB = 1024**3
MINIMUM = 3  # repeats of a row, however long they take
HEAD = ["runtime", "samples", "tokens", *STAGES, "p99", "peak GiB", "reference / this",
        "eager / this"]  # fmt: skip
RATIOS = ("reference_over_this", "eager_over_this")


@dataclass(frozen=True, slots=True)
class VlaOptions:
    """What to measure. Each of `samples` and `tokens` makes a row of the table with each other."""

    size: str = "tiny"
    version: str = "r1"
    device: str = "cpu"
    dtype: str = "float32"
    samples: tuple[int, ...] = (1,)
    tokens: tuple[int, ...] = (16,)
    flow_steps: int = 10
    repeats: int = 10
    cameras: tuple[int, ...] = R1_CAMERAS
    image_height: int = 320
    image_width: int = 576
    seed: int = 0
    runtimes: tuple[str, ...] = RUNTIMES
    new_window: bool = False  # every tick's frames are all new
    deadline_s: float | None = None  # of a row: fewer repeats where they would take longer


def measure(
    options: VlaOptions, progress: Callable[[float], None] = lambda done: None
) -> dict[str, Any]:
    """Make the model on its device and plan `repeats` times a row; milliseconds and GiB."""
    device, dtype = find_device(options.device), find_dtype(options.dtype)
    model = random_model(options.size, options.version, device, dtype, options.seed)
    weights_gib = sum(p.numel() * p.element_size() for p in model.parameters()) / GIB
    combinations = [(n, t) for n in options.samples for t in options.tokens]
    rows = []
    for done, (n, tokens) in enumerate(combinations):
        planning = PlanningOptions(n, TokenSampling(), tokens, options.flow_steps)
        rows += rows_of(model, options, planning)
        progress((done + 1) / len(combinations))
    return {
        "size": options.size,
        "version": options.version,
        "device": _device_name(device),
        "dtype": options.dtype,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "images": len(options.cameras) * N_FRAMES,
        "image_size": [options.image_width, options.image_height],
        "flow_steps": options.flow_steps,
        "repeats": options.repeats,
        "weights_gib": weights_gib,
        "weights": "random",
        "rows": rows,
        "bars": bars(rows) if device.type == "cpu" else [],
    }


def rows_of(
    model: AlpamayoModel, options: VlaOptions, planning: PlanningOptions
) -> list[dict[str, Any]]:
    """One combination, a row a runtime: a warm-up, then ticks that each runtime plans in turn.

    The window moves by a frame a tick: 12 of its 16 frames are those of the tick before.
    """
    on_gpu = model.device.type == "cuda"
    peaks = Peaks(model.device)
    fast = FastRuntime(model) if "fast" in options.runtimes else None
    reasoning = "before" if planning.max_new_tokens else "off"
    # The plain algorithm knows no plan without reasoning.
    names = [name for name in options.runtimes if reasoning == "before" or name != "reference"]
    planning = replace(planning, max_new_tokens=max(planning.max_new_tokens, 1))
    started, count = time.monotonic(), 0
    stages: dict[str, dict[str, list[float]]] = {
        name: {stage: [] for stage in STAGES} for name in names
    }
    length = 0
    for tick in range(options.repeats + 1):
        late = options.deadline_s and time.monotonic() - started > options.deadline_s
        if late and tick > MINIMUM:
            break
        count = tick
        sample = made_up_sample(options, tick * N_FRAMES if options.new_window else tick)
        if fast is not None:
            fast.captures.open = on_gpu and not tick
        for name in names:
            clock = inference.StageClock(model.device)
            with peaks.of(name), clock.stage("plan"):
                with clock.stage("prepare"):
                    uses = fast if name == "fast" else None
                    prompt, xyz, rot = made_up_input(model, options, sample, uses)
                if uses is not None:
                    planned = uses.plan(
                        prompt, xyz, rot, planning, tick, window=sample, reasoning=reasoning
                    )
                elif name == "reference":
                    planned = vla_reference.plan(model, prompt, xyz, rot, planning, tick)
                else:
                    given = without_reasoning(model, prompt, planning.n_samples)
                    planned = inference.plan(
                        model, prompt, xyz, rot, planning, seed=tick,
                        sequences=given if reasoning == "off" else None,
                    )  # fmt: skip
                del prompt  # 70 MB of patches: each pays for giving back its own
            length = planned.prompt_length
            if tick:
                for stage, value in added(clock.stage_ms, planned.stage_ms).items():
                    stages[name][stage].append(value)
    rows = []
    for name in names:
        medians = {stage: percentiles(values) for stage, values in stages[name].items()}
        rows.append({
            "runtime": name,
            "samples": planning.n_samples,
            "reasoning_tokens": planning.max_new_tokens if reasoning == "before" else 0,
            "flow_steps": planning.flow_steps,
            "repeats": count,
            "prompt_tokens": length,
            "stages_ms": medians,
            "eager_over_this": _ratios(stages.get("eager"), medians),
            "reference_over_this": _ratios(stages.get("reference"), medians),
            "peak_gib": peaks.gib(name),
        })  # fmt: skip
    return rows


class Peaks:
    """The most device memory that was in use while each runtime planned: weights and what all
    runtimes hold between plans are in it. A CPU's process has one peak for life, and so none here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bytes: dict[str, int] = {}

    @contextmanager
    def of(self, runtime: str) -> Iterator[None]:
        """Around a call of that runtime's own."""
        if self._device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        peak = torch.cuda.max_memory_allocated(self._device)
        self._bytes[runtime] = max(peak, self._bytes.get(runtime, 0))

    def gib(self, runtime: str) -> float | None:
        """None where it was not measured."""
        return self._bytes[runtime] / GIB if runtime in self._bytes else None


def _ratios(
    other: Mapping[str, Sequence[float]] | None, medians: Mapping[str, Mapping[str, float]]
) -> dict[str, float] | None:
    """Another runtime's medians over these, by stage; None where it did not run."""
    if other is None:
        return None
    return {
        stage: percentiles(other[stage])["p50"] / max(medians[stage]["p50"], 1e-6)
        for stage in STAGES
    }


def added(*parts: Mapping[str, float]) -> dict[str, float]:
    """Stage by stage: what is prepared here and there is one stage."""
    return {
        name: sum(part.get(name, 0.0) for part in parts)
        for name in dict.fromkeys(name for part in parts for name in part)
    }


def bars(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `fast` is to reach on a CPU beside plain generation, and `eager` beside it.

    Plain is `reference`. `eager` encodes pictures and reads a prompt once for all samples, as the
    release does not, and at six is itself four times as fast.
    """
    found = {(row["runtime"], row["samples"]): row for row in rows}
    made = []
    for name, runtime, n, stage, limits in (
        ("eager / reference", "reference", 1, "plan", {"at_most": 1.1}),
        *(
            (f"{over} / fast, {what}", "fast", n, stage, {"at_least": limit})
            for n, stage, what, limit in (
                (1, "plan", "1 sample", 3.0),
                (6, "plan", "6 samples", 6.0),
                (1, "flow", "flow of 1 sample", 2.0),
                (6, "flow", "flow of 6 samples", 2.0),
            )
            for over in ("reference", "eager")
        ),
    ):
        over = "reference" if name.startswith("reference") else "eager"
        row = found.get((runtime, n))
        if row is None or (over, n) not in found:
            continue
        value = row[f"{over}_over_this"][stage]
        met = value <= limits["at_most"] if "at_most" in limits else value >= limits["at_least"]
        made.append({"name": name, "value": value, "met": met, **limits})
    return made


def made_up_sample(options: VlaOptions, tick: int) -> PlannerSample:
    """Noise as pictures, each its camera's and stamp's own, and a straight drive as history."""
    shape = (options.image_height, options.image_width, 3)
    images = np.array([
        [np.random.default_rng((options.seed, camera, tick + i)).integers(0, 256, shape, np.uint8)
         for i in range(N_FRAMES)] for camera in options.cameras
    ])  # fmt: skip
    stamps = (tick + np.arange(N_FRAMES)) * FRAME_STEP_NS
    xyz = np.zeros((N_HISTORY, 3))
    xyz[:, 0] = np.arange(1 - N_HISTORY, 1) * 0.8
    return PlannerSample(
        t0_ns=int(stamps[-1]),
        images=images,
        image_stamps_ns=np.tile(stamps, (len(options.cameras), 1)),
        camera_indices=np.array(options.cameras),
        history_xyz_in_rig_t0=xyz,
        history_rot_in_rig_t0=np.broadcast_to(np.eye(3), (N_HISTORY, 3, 3)),
        speed_mps=8.0,
        acceleration_mps2=0.0,
        yaw_rate_rps=0.0,
        odometry_from_rig_t0=identity_pose(),
    )


def made_up_input(
    model: AlpamayoModel, options: VlaOptions, sample: PlannerSample, fast: FastRuntime | None
) -> tuple[Prompt, torch.Tensor, torch.Tensor]:
    """A prompt of the released length; its patches, unless `fast` makes them itself."""
    if fast is None:
        pictures = vision_input(sample.images, VisionConfig(), model.device)
    else:
        pictures = fast.pictures(sample.images)
    text = planning_text(PromptConfig.released(options.version), options.cameras)
    ids = expand_image_ids(
        stand_in_ids(text, model.vocabulary),
        model.vocabulary.image_pad,
        tokens_per_image(pictures.image_grid_thw),
    )
    input_ids = torch.tensor([ids], device=model.device)
    xyz, rot = history_tensors(model, sample)
    history = model.history_tokenizer.encode(xyz, rot) + model.vocabulary.history_token_start
    fused = fuse_history(input_ids, model.vocabulary.traj_history, history)
    prompt = Prompt(fused, torch.ones_like(fused), pictures.pixel_values, pictures.image_grid_thw)
    return prompt, xyz, rot


def stand_in_ids(text: str, vocabulary: Vocabulary) -> list[int]:
    """Special tokens as they are, any id for each word: a benchmark needs the length alone."""
    first = vocabulary.base_size - len(QWEN_ADDED)
    special = {text: first + k for k, (text, _) in enumerate(QWEN_ADDED)}
    special |= {f"<|{name}|>": token for name, token in vocabulary.special_ids.items()}
    pieces = _PIECE.findall(text)
    return [special.get(piece, sum(piece.encode()) % first) for piece in pieces]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu, {torch.get_num_threads()} threads"


def report(result: dict[str, Any]) -> str:
    """The rows for a terminal: medians, and the 99th percentile of the whole."""
    head = (
        f"Alpamayo {result['version']} {result['size']}, {result['weights']} weights, "
        f"{result['dtype']}, {result['device']}, torch {result['torch']}: "
        f"{result['weights_gib']:.2f} GiB of weights, {result['images']} images of "
        f"{result['image_size'][0]}x{result['image_size'][1]}, {result['flow_steps']} flow steps; "
        f"ms, medians of {result['repeats']}"
    )
    rows = [
        [
            row["runtime"],
            row["samples"],
            row["reasoning_tokens"],
            *(f"{row['stages_ms'][name]['p50']:.1f}" for name in STAGES),
            f"{row['stages_ms']['plan']['p99']:.1f}",
            "-" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}",
            *(f"{row[key]['plan']:.2f}" if row[key] else "" for key in RATIOS),
        ]
        for row in result["rows"]
    ]
    return f"{head}\n{table(HEAD, rows)}"
