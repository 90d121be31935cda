"""What a planned trajectory is worth to the language model itself: targets for a student.

The flow that plans speaks no tokens. Its plan, read back as the trajectory tokens that the model
was pretrained on, is put behind the reasoning; one more pass tells how likely the model finds
every bin, what it has in mind as the trajectory starts, and where in the pictures it looks then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from alpamayo_ros.types import N_FRAMES
from alpamayo_ros.vla import generation
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import inference_precision
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.trajectory_tokens import FutureTokenizer


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Of one plan."""

    logits: Tensor  # (128, bins) fp32: acceleration and curvature of each waypoint by turns
    features: Tensor  # (hidden,) fp32, of the token that starts the trajectory
    attention: Tensor  # (cameras, rows, columns) fp32: of that token, to the frames at t0


def soft_labels(
    model: AlpamayoModel, prompt: Prompt, reasoning: Tensor, normalised_action: Tensor
) -> SoftLabels:
    """Of a plan for a prompt of one row: its tokens behind the prompt (T,), its action (64, 2)."""
    config = model.config.future_tokens
    low, high = (cast(tuple[float, float], dims) for dims in (config.dims_min, config.dims_max))
    tokenizer = FutureTokenizer(low, high, config.num_bins)
    vocabulary = model.vocabulary
    bins = tokenizer.encode(normalised_action[None].float())[0]
    future = (vocabulary.traj_token_start + bins).to(prompt.input_ids)
    said = _before_start(reasoning, vocabulary.traj_future_start, vocabulary.pad)
    start = said.new_tensor([vocabulary.traj_future_start])
    with inference_precision(model):
        seen = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        prefix = generation.prefill(model, prompt, seen)
        if len(said):
            generation.extend(model, prefix, said[None])
        with _last_attention(model) as weights:
            state = generation.extend(model, prefix, start[None])
        rest = generation.extend(model, prefix, future[None, :-1])
        states = torch.cat((state, rest), dim=1)[0]
        rows = slice(vocabulary.traj_token_start, vocabulary.traj_token_start + tokenizer.bins)
        logits = model.vlm.lm_head(states)[:, rows].float()
    attention = weights[0][0, :, -1].float().mean(dim=0)  # of the heads, over all keys
    return SoftLabels(logits, state[0, 0].float(), _on_frames(model, prompt, attention))


def _before_start(reasoning: Tensor, start: int, pad: int) -> Tensor:
    """What was said before the trajectory's start; all of it where the token limit came first."""
    starts = (reasoning == start).nonzero()
    said = reasoning[: int(starts[0])] if len(starts) else reasoning
    return said[said != pad]


@contextmanager
def _last_attention(model: AlpamayoModel) -> Iterator[list[Tensor]]:
    """Weights (B, heads, T, keys) of the last layer, of each call inside.

    The usual kernel never has them in memory: for these few tokens the plain one is taken.
    """
    language = model.vlm.model.language_model
    found: list[Tensor] = []

    def keep(module: nn.Module, given: Any, made: Any) -> None:
        found.append(made[1])

    usual = language.config._attn_implementation
    handle = language.layers[-1].self_attn.register_forward_hook(keep)
    language.config._attn_implementation = "eager"
    try:
        yield found
    finally:
        language.config._attn_implementation = usual
        handle.remove()


def _on_frames(model: AlpamayoModel, prompt: Prompt, attention: Tensor) -> Tensor:
    """(keys,) to (cameras, rows, columns) of each camera's newest frame."""
    merge = model.vlm.model.visual.spatial_merge_size
    rows, columns = (int(n) // merge for n in prompt.image_grid_thw[0, 1:])
    is_image = prompt.input_ids[0] == model.vocabulary.image_pad
    pictures = attention[: len(is_image)][is_image].reshape(-1, N_FRAMES, rows, columns)
    return pictures[:, -1]
