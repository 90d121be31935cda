"""Attention whose keys lie in two places: a prompt that samples share, and what each has behind it.

Softmax over both is put together from the two by their log-sum-exp, so that the prompt's keys and
values are neither repeated for the samples nor copied behind each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ALIGNED = 16  # places; of two bytes each they are more than a kernel asks for


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

    `shared_mask` (B, 1, 1, P) and `own_mask` (N, 1, t, E) are true where seen; an `own_mask` of one
    row, (N or 1, 1, 1, E), may be of `additive`. (N, H, t, d).
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
    mine, lse = with_lse(grouped.flatten(0, 1), *own, own_mask, scale)
    merged = torch.lerp(parts, mine, (lse.unsqueeze(-1) - sums).sigmoid().to(mine.dtype))
    return merged.reshape(count, heads, length, width)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `mask` (..., E) is true, -inf elsewhere, of that dtype.

    Rows begin at multiples of 16 bytes: CUDA's kernel takes no others.
    """
    padded = -mask.shape[-1] % ALIGNED
    seen = functional.pad(mask, (0, padded)) if padded else mask
    bias = torch.zeros(seen.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill_(seen.logical_not(), float("-inf"))
    return bias[..., : mask.shape[-1]]


def with_lse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, H, t, d) and its log-sum-exp (B, H, t) fp32, heads as many as k has.

    `mask` (B or 1, 1, t or 1, E) is true where seen or made by `additive` of q's dtype. The CUDA
    branches were run on shapes alone: there was no GPU at hand when they were written.
    """
    bias = mask
    if mask is not None:
        bias = additive(mask, q.dtype) if mask.dtype == torch.bool else mask
        bias = bias.expand(len(q), q.shape[1], q.shape[2], -1)
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=bias, scale=scale
        )
        return out, lse
    if bias is None and q.dtype in (torch.float16, torch.bfloat16):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
        return out, lse
    out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, bias, True, scale=scale
    )[:2]
    return out, lse[:, :, : q.shape[2]]  # it fills up rows
