"""Attention whose keys lie in two places: a prompt that samples share, and what each has behind it.

Softmax over both is put together from the two by their log-sum-exp, so that the prompt's keys and
values are neither repeated for the samples nor copied behind each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """A prompt to itself: q (B, H, T, d), k and v (B, kv heads, T, d) to (B, H, T, d).

    `mask` (B, 1, T, T), true where seen, where a batch has pads; None is causal without one.
    """
    group = q.shape[1] // k.shape[1]
    if q.device.type == "cpu" and group > 1:  # its kernel knows no groups
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        group = 1
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=group > 1
    )


def last_to_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Queries that may all see all: q (B, H, t, d) over k, v (B, kv heads, S, d) to (B, H, t, d).

    The heads of a group stand behind each other as queries of one: no key is repeated.
    """
    batch, heads, count, width = q.shape
    folded = q.reshape(batch, k.shape[1], -1, width)
    if mask is not None:
        mask = mask.expand(batch, 1, count, -1).repeat(1, 1, heads // k.shape[1], 1)
    seen = functional.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=scale)
    return seen.reshape(batch, heads, count, width)


def shared_and_own(
    q: Tensor,
    shared: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    shared_mask: Tensor | None,
    own_mask: Tensor | None,
    scale: float,
) -> Tensor:
    """q (N, H, t, d) over `shared` (B, kv heads, P, d), N a multiple of B, and `own` (N, kv, E, d).

    Masks are true where seen: (B, 1, 1, P), and (N, 1, t, E) or (N, 1, 1, E). (N, H, t, d).
    """
    count, heads, length, width = q.shape
    keys, values = shared
    batch, kv_heads = keys.shape[:2]
    samples, group = count // batch, heads // kv_heads
    grouped = q.reshape(batch, samples, kv_heads, group * length, width)
    folded = grouped.transpose(1, 2).reshape(batch, kv_heads, -1, width)
    out, lse = with_lse(folded, keys, values, shared_mask, scale)
    parts = out.view(batch, kv_heads, samples, -1, width).transpose(1, 2)
    sums = lse.reshape(batch, kv_heads, samples, -1).transpose(1, 2)
    parts = parts.reshape(count, kv_heads, -1, width)
    sums = sums.reshape(count, kv_heads, -1, 1)
    if own_mask is not None and own_mask.shape[2] > 1:
        own_mask = own_mask.repeat(1, 1, group, 1)
    mine, lse = with_lse(q.reshape(count, kv_heads, -1, width), *own, own_mask, scale)
    merged = torch.lerp(parts, mine, (lse.unsqueeze(-1) - sums).sigmoid().to(mine.dtype))
    return merged.reshape(count, heads, length, width)


def with_lse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, H, t, d) and its log-sum-exp (B, H, t) fp32, heads as many as k has.

    The CUDA branches were not executed: there was no GPU at hand when they were written.
    """
    if q.device.type == "cpu":
        additive = None
        if mask is not None:
            additive = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
            additive = additive.expand(len(q), -1, q.shape[2], -1)
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=additive, scale=scale
        )
        return out, lse
    if mask is None and q.dtype in (torch.float16, torch.bfloat16):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
        return out, lse
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    lse = scores.logsumexp(dim=-1)
    return (scores - lse.unsqueeze(-1)).exp().to(v.dtype) @ v, lse
