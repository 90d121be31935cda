"""One call from prompt to trajectories: see, read, reason, denoise, integrate; each stage timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla import expert_runtimes, generation
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.expert import (
    ExpertContext,
    after_reasoning,
    expert_context,
    first_after_start,
    pad_after_start,
)
from alpamayo_ros.vla.expert_runtimes import ExpertRuntime, TorchExpert
from alpamayo_ros.vla.generation import Generated, ImageFeatures, Prompt
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.prompt import without_route
from alpamayo_ros.vla.token_sampling import TokenSampling


@dataclass(frozen=True, slots=True)
class PlanningOptions:
    """How a trajectory is sampled; the defaults are the release's."""

    n_samples: int = 1
    tokens: TokenSampling = field(default_factory=TokenSampling)
    max_new_tokens: int = 256
    flow_steps: int | None = None  # None: as the checkpoint says
    flow_temperature: float = 1.0  # scales the noise; 1.5 only
    guidance_weight: float | None = None  # None: no guidance; 1.5 with navigation text only

    def __post_init__(self) -> None:
        if self.n_samples < 1:
            raise ModelError(f"n_samples is {self.n_samples}, wanted 1 or more")
        if self.flow_steps is not None and self.flow_steps < 1:
            raise ModelError(f"flow_steps is {self.flow_steps}, wanted 1 or more")


@dataclass(frozen=True, slots=True)
class Planned:
    """Trajectories of every sample; sample s of row b is at b * n + s."""

    xyz_in_rig_t0: Tensor  # (B * n, 64, 3) fp32
    rot_in_rig_t0: Tensor  # (B * n, 64, 3, 3) fp32
    action: Tensor  # (B * n, 64, 2) fp32, m/s^2 and 1/m
    normalised_action: Tensor  # (B * n, 64, 2), as the flow gave it
    speed_t0_mps: Tensor  # (B * n,) as the history tells it; trajectories start from it
    sequences: Tensor  # (B * n, L + new): pads behind the trajectory's start
    prompt_length: int
    stage_ms: dict[str, float]


class StageClock:
    """Durations of stages; a device is waited for at the end of each, or they would not add up."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        started = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        self.stage_ms[name] = self.stage_ms.get(name, 0.0) + elapsed_ms


@contextmanager
def inference_precision(model: AlpamayoModel) -> Iterator[None]:
    """No gradients, and autocast where the weights are not fp32, as the release runs them."""
    with torch.inference_mode():
        if model.dtype == torch.float32:
            yield
        else:
            with torch.autocast(model.device.type, dtype=model.dtype):
                yield


def plan(
    model: AlpamayoModel,
    prompt: Prompt,
    history_xyz_in_rig_t0: Tensor,
    history_rot_in_rig_t0: Tensor,
    options: PlanningOptions,
    seed: int | None = None,
    noise: Tensor | None = None,
    sequences: Tensor | None = None,
    expert: ExpertRuntime | None = None,
) -> Planned:
    """Plan for every row of a prompt. History is (B, 16, 3) and (B, 16, 3, 3), fp32.

    The same seed gives the same plan. `noise` (B * n, 64, 2) and `sequences` (B * n, L + new) stand
    in for what would be drawn; `expert` runs the flow (None: PyTorch). Raises ModelError.
    """
    check_options(model, prompt, options)
    clock = StageClock(model.device)
    with inference_precision(model):
        with clock.stage("vision"):
            features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        with clock.stage("prefill"):
            prefix = generation.prefill(model, prompt, features)
        with clock.stage("reasoning"):
            if sequences is None:
                generated = generation.reason(
                    model, prompt, prefix, options.n_samples, options.tokens,
                    options.max_new_tokens, seeded(seed, model.device),
                )  # fmt: skip
            else:
                generated = generation.follow(model, prompt, prefix, options.n_samples, sequences)
        if noise is None:
            noise = draw_noise(model, len(generated.sequences), seed)
        with clock.stage("flow"):
            normalised = denoise(
                model, prompt, features, generated, options, noise, expert or TorchExpert(model)
            )
        with clock.stage("unicycle"):
            # Samples share a history: its speed is estimated once.
            speed = model.action_space.estimate_speed_t0(
                history_xyz_in_rig_t0, history_rot_in_rig_t0
            ).repeat_interleave(options.n_samples, 0)
            z = history_xyz_in_rig_t0[:, -1, 2].repeat_interleave(options.n_samples, 0)
            xyz, rot = model.action_space.integrate(normalised, speed, z)
        action = model.action_space.denormalise(normalised)
    return Planned(
        xyz, rot, action, normalised, speed, padded_sequences(model, generated.sequences),
        generated.prompt_length, clock.stage_ms,
    )  # fmt: skip


def padded_sequences(model: AlpamayoModel, sequences: Tensor) -> Tensor:
    """Sequences (B, L) with pads behind the trajectory's start."""
    vocabulary = model.vocabulary
    return pad_after_start(sequences, vocabulary.traj_future_start, vocabulary.pad)


def check_options(model: AlpamayoModel, prompt: Prompt, options: PlanningOptions) -> None:
    """Raises ModelError where this version or prompt cannot do what is asked."""
    if model.config.version == "r1":
        if options.guidance_weight is not None:
            raise ModelError("guidance by navigation text needs Alpamayo 1.5; this is R1")
        if options.flow_temperature != 1.0:
            raise ModelError("flow_temperature other than 1 needs Alpamayo 1.5; this is R1")
    elif options.guidance_weight is not None:
        has_route = (prompt.input_ids == model.vocabulary.id_of("route_start")).any(dim=1)
        if not bool(has_route.all()):
            raise ModelError("guidance_weight is set, and the prompt has no navigation text")


def seeded(seed: int | None, device: torch.device) -> torch.Generator | None:
    """A generator on a device; None, the global one, without a seed."""
    return None if seed is None else torch.Generator(device).manual_seed(seed)


def draw_noise(model: AlpamayoModel, count: int, seed: int | None = None) -> Tensor:
    """Standard normal (count, 64, 2) fp32, drawn on the CPU: a seed means the same anywhere."""
    # Another seed than the tokens', or the two would be drawn from the same numbers.
    generator = seeded(None if seed is None else seed + 1, torch.device("cpu"))
    noise = torch.randn(count, N_WAYPOINTS, ACTION_DIMS, generator=generator)
    return noise.to(model.device)


def denoise(
    model: AlpamayoModel,
    prompt: Prompt,
    features: ImageFeatures,
    generated: Generated,
    options: PlanningOptions,
    noise: Tensor,
    expert: ExpertRuntime,
) -> Tensor:
    """Normalised actions (B * n, 64, 2) from noise. Raises ModelError: the runtime's file."""
    context = after_reasoning(model, generated)
    unguided = None
    if options.guidance_weight is not None:
        unguided = unguided_context(model, prompt, features, generated, options.n_samples)
    steps = options.flow_steps or model.config.flow_steps
    noise = noise * options.flow_temperature
    return expert_runtimes.denoise(expert, context, noise, steps, unguided, options.guidance_weight)


def unguided_context(
    model: AlpamayoModel,
    prompt: Prompt,
    features: ImageFeatures,
    generated: Generated,
    n_samples: int,
) -> ExpertContext:
    """The same reasoning behind the prompt without its navigation text.

    The pictures are the same and lie before the route, so that their features serve again.
    """
    vocabulary = model.vocabulary
    ids, attention = unguided_ids(model, prompt)
    bare = replace(prompt, input_ids=ids, attention_mask=attention)
    prefix = generation.repeat(generation.prefill(model, bare, features), n_samples)
    tokens = generated.sequences[:, generated.prompt_length :]
    offset = prefix.length + first_after_start(tokens, vocabulary.traj_future_start)
    tokens = padded_sequences(model, tokens)
    seen = (tokens != vocabulary.pad).to(attention.dtype)
    generation.extend(model, prefix, tokens, seen)
    return expert_context(model, prefix, offset, ids.shape[1])


def unguided_ids(model: AlpamayoModel, prompt: Prompt) -> tuple[Tensor, Tensor]:
    """The prompt's ids and attention without the route span of each row, padded on the left."""
    return without_route(prompt.input_ids, prompt.attention_mask, model.vocabulary)
