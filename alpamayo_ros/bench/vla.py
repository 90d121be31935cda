"""Stage times and memory of the Alpamayo model on random or real weights, without ROS."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from alpamayo_ros.bench.figures import percentiles, table
from alpamayo_ros.types import N_FRAMES, N_HISTORY
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.load import find_device, find_dtype
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.prepare import R1_CAMERAS
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
GIB = 1024**3


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
    image_height: int = 320
    image_width: int = 576
    seed: int = 0


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
        planning = PlanningOptions(
            n_samples=n,
            tokens=TokenSampling(),
            max_new_tokens=tokens,
            flow_steps=options.flow_steps,
        )
        rows.append(_row(model, options, planning))
        progress((done + 1) / len(combinations))
    return {
        "size": options.size,
        "version": options.version,
        "device": _device_name(device),
        "dtype": options.dtype,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "images": len(R1_CAMERAS) * N_FRAMES,
        "image_size": [options.image_width, options.image_height],
        "flow_steps": options.flow_steps,
        "repeats": options.repeats,
        "weights_gib": weights_gib,
        "weights": "random",
        "rows": rows,
    }


def _row(model: AlpamayoModel, options: VlaOptions, planning: PlanningOptions) -> dict[str, Any]:
    """One combination: a warm-up, then the repeats on pictures of their own."""
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(model.device)
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    length = 0
    for repeat in range(options.repeats + 1):
        clock = inference.StageClock(model.device)
        with clock.stage("plan"):
            with clock.stage("prepare"):
                prompt, xyz, rot = made_up_input(model, options, seed=repeat)
            planned = inference.plan(model, prompt, xyz, rot, planning, seed=repeat)
        length = planned.prompt_length
        if repeat:
            for name, value in {**clock.stage_ms, **planned.stage_ms}.items():
                stages[name].append(value)
    peak = (
        torch.cuda.max_memory_allocated(model.device) / GIB
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    )
    return {
        "samples": planning.n_samples,
        "reasoning_tokens": planning.max_new_tokens,
        "prompt_tokens": length,
        "stages_ms": {name: percentiles(values) for name, values in stages.items()},
        "peak_gib": peak,
        "peak_of": "device memory" if on_gpu else "process",
    }


def made_up_input(
    model: AlpamayoModel, options: VlaOptions, seed: int
) -> tuple[Prompt, torch.Tensor, torch.Tensor]:
    """Noise as pictures, a straight drive as history, a prompt of the released length."""
    rng = np.random.default_rng(seed)
    shape = (len(R1_CAMERAS), N_FRAMES, options.image_height, options.image_width, 3)
    frames = rng.integers(0, 256, shape, np.uint8)
    pictures = vision_input(frames, VisionConfig(), model.device)
    text = planning_text(PromptConfig.released(options.version), R1_CAMERAS)
    ids = expand_image_ids(
        stand_in_ids(text, model.vocabulary),
        model.vocabulary.image_pad,
        tokens_per_image(pictures.image_grid_thw),
    )
    input_ids = torch.tensor([ids], device=model.device)
    xyz = torch.zeros(1, N_HISTORY, 3, device=model.device)
    xyz[..., 0] = torch.arange(1 - N_HISTORY, 1) * 0.8
    rot = torch.eye(3, device=model.device).expand(1, N_HISTORY, 3, 3).clone()
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
            row["samples"],
            row["reasoning_tokens"],
            *(f"{row['stages_ms'][name]['p50']:.1f}" for name in STAGES),
            f"{row['stages_ms']['plan']['p99']:.1f}",
            f"{row['peak_gib']:.2f}",
        ]
        for row in result["rows"]
    ]
    return f"{head}\n{table(['samples', 'tokens', *STAGES, 'p99', 'peak GiB'], rows)}"
