"""The action expert over a prompt's keys and values: 64 waypoints that see it and each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.generation import Generated, Prefix
from alpamayo_ros.vla.model import AlpamayoModel


@dataclass(frozen=True, slots=True)
class ExpertContext:
    """What every step of the flow shares."""

    prefix: Prefix  # the cache is extended by 64 and cut back in every step
    positions: Tensor  # (3, B * n, 64) int64, the same on all axes
    mask: Tensor  # (B * n, 1, 64, KV + 64) additive


def first_after_start(tokens: Tensor, stop_id: int) -> Tensor:
    """(B,) index just behind the first `stop_id` of (B, L) tokens; L where there is none."""
    found = tokens == stop_id
    first = found.int().argmax(dim=1)
    return torch.where(found.any(dim=1), first + 1, tokens.shape[1])


def pad_after_start(tokens: Tensor, stop_id: int, pad_id: int) -> Tensor:
    """Tokens (B, L) with everything behind the first `stop_id` replaced by pads."""
    index = torch.arange(tokens.shape[1], device=tokens.device)
    behind = index[None] >= first_after_start(tokens, stop_id)[:, None]
    return tokens.masked_fill(behind, pad_id)


def expert_context(
    model: AlpamayoModel, prefix: Prefix, offset: Tensor, prompt_length: int
) -> ExpertContext:
    """Positions and mask of the waypoints.

    `offset` (B * n,) is the index behind the start of each sample's trajectory: waypoints follow
    it in position, and what lies between it and the cache's end is hidden. R1 leaves the pads on
    the left of a batch in sight, as its release does; 1.5 hides them. Pads among what was
    generated, behind a sample's <|im_end|>, stay in sight in both.
    """
    device = prefix.attention_mask.device
    waypoints = torch.arange(N_WAYPOINTS, device=device)
    positions = prefix.rope_delta + offset[:, None] + waypoints
    keys = torch.arange(prefix.length, device=device)
    hidden = keys[None] >= offset[:, None]
    if model.config.version != "r1":
        hidden = hidden | ((prefix.attention_mask == 0) & (keys < prompt_length))
    dtype = model.expert.norm.weight.dtype
    mask = torch.zeros(len(offset), prefix.length + N_WAYPOINTS, dtype=dtype, device=device)
    mask[:, : prefix.length].masked_fill_(hidden, torch.finfo(dtype).min)
    mask = mask[:, None, None].expand(-1, 1, N_WAYPOINTS, -1)
    return ExpertContext(prefix, positions[None].expand(3, -1, -1), mask)


def after_reasoning(model: AlpamayoModel, generated: Generated) -> ExpertContext:
    """The context behind the reasoning just generated."""
    offset = first_after_start(generated.sequences, model.vocabulary.traj_future_start)
    return expert_context(model, generated.prefix, offset, generated.prompt_length)


def velocity(model: AlpamayoModel, context: ExpertContext, x: Tensor, t: Tensor) -> Tensor:
    """The flow's velocity (B * n, 64, 2) fp32 of actions x (B * n, 64, 2) at times t (B * n,)."""
    cache = context.prefix.cache
    states = model.expert(
        inputs_embeds=model.action_in_proj(x, t),
        attention_mask=context.mask,
        position_ids=context.positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    cache.crop(-N_WAYPOINTS)  # a negative count: the form that transformers 5 takes
    result: Tensor = model.action_out_proj(states).float()
    return result
