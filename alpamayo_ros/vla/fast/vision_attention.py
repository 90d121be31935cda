"""A vision block's attention among the patches of each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.vla.fast.rotary import rotate, signed

# Heads of fewer columns take a CPU longer than heads of so many that end in zeros.
NARROW = 16


class Attention:
    """On the block's own weights."""

    def __init__(self, attention: Any) -> None:
        self._attention, self._heads = attention, int(attention.num_heads)

    def tables(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, the first half negated, as `__call__` takes them, of angles (P, d)."""
        cos, sin = angles.cos(), signed(angles.sin())
        return cos[:, None], sin[:, None]

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (N, P, hidden) of N images to the same."""
        count, length, _ = x.shape
        qkv = self._attention.qkv(x).view(count, length, 3 * self._heads, -1)
        # Turned in fp32, as the reference does.
        turned = rotate(qkv[:, :, : 2 * self._heads].float(), cos, sin).to(qkv.dtype)
        parts = (*turned.chunk(2, dim=2), qkv[:, :, 2 * self._heads :])
        q, k, v = (part.transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v, scale=self._attention.scaling)
        result: Tensor = self._attention.proj(seen.transpose(1, 2).reshape(count, length, -1))
        return result


class NarrowAttention(Attention):
    """On weights whose heads end in zeros. Queries and keys come out of the projection a second
    time with their halves swapped: a CPU swaps pieces of a few numbers more slowly."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        heads, qkv, proj = self._heads, attention.qkv, attention.proj
        width = qkv.out_features // (3 * heads)
        more = NARROW - width
        with torch.inference_mode(False), torch.no_grad():
            rows = torch.cat((qkv.weight, qkv.bias[:, None]), dim=1).view(3, heads, width, -1)
            rows = torch.cat((rows[:2], rows[:2].roll(width // 2, 2), rows[2:]))
            rows = functional.pad(rows, (0, 0, 0, more)).flatten(0, 2)
            self._weight, self._bias = rows[:, :-1].contiguous(), rows[:, -1].contiguous()
            columns = proj.weight.unflatten(1, (heads, width))
            self._out = functional.pad(columns, (0, more)).flatten(1)

    def tables(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """A column of zeros' angle is of no account."""
        padded = functional.pad(angles, (0, NARROW - angles.shape[1]))
        sin = functional.pad(signed(angles.sin()), (0, NARROW - angles.shape[1]))
        return padded.cos().repeat(1, 2 * self._heads), sin.repeat(1, 2 * self._heads)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (N, P, hidden) of N images to the same."""
        count, length, _ = x.shape
        made = functional.linear(x, self._weight, self._bias)
        straight, swapped, v = made.split((cos.shape[1], cos.shape[1], cos.shape[1] // 2), dim=2)
        turned = (straight * cos).addcmul_(swapped, sin)
        parts = (*turned.chunk(2, dim=2), v)
        q, k, v = (part.unflatten(2, (self._heads, NARROW)).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v, scale=self._attention.scaling)
        seen = seen.transpose(1, 2).reshape(count, length, -1)
        return functional.linear(seen, self._out, self._attention.proj.bias)


def attention_of(attention: Any) -> Attention:
    """What suits the block's heads and device; quantised layers keep their codes."""
    layers = attention.qkv, attention.proj
    plain = all(type(one) is nn.Linear and one.weight.dtype == torch.float32 for one in layers)
    narrow = attention.qkv.out_features // (3 * int(attention.num_heads)) < NARROW
    if plain and narrow and attention.qkv.weight.device.type == "cpu":
        return NarrowAttention(attention)
    return Attention(attention)
