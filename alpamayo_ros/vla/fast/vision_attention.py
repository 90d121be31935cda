"""A vision block's attention among the patches of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.vla.fast.rotary import rotate, signed

NARROW = 16  # columns of a head, below which a CPU multiplies sooner than it swaps halves


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
        qkv = self._attention.qkv(x).unflatten(2, (3 * self._heads, -1))
        # Turned in fp32, as the reference does.
        turned = rotate(qkv[:, :, : 2 * self._heads].float(), cos, sin).to(qkv.dtype)
        q, k = turned.chunk(2, dim=2)
        return self._seen(q, k, qkv[:, :, 2 * self._heads :])

    def _seen(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of queries, keys and values (N, P, heads, d): (N, P, hidden)."""
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        seen = functional.scaled_dot_product_attention(q, k, v, scale=self._attention.scaling)
        result: Tensor = self._attention.proj(seen.transpose(1, 2).flatten(2))
        return result


class NarrowAttention(Attention):
    """On a projection from which queries and keys come a second time, with their halves swapped."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        qkv = attention.qkv
        with torch.inference_mode(False), torch.no_grad():
            rows = torch.cat((qkv.weight, qkv.bias[:, None]), dim=1)
            rows = rows.view(3, self._heads, -1, rows.shape[1])
            swapped = rows[:2].roll(rows.shape[2] // 2, 2)
            rows = torch.cat((rows[:2], swapped, rows[2:])).flatten(0, 2)
            self._weight, self._bias = rows[:, :-1].contiguous(), rows[:, -1].contiguous()

    def tables(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Once for every head of queries and keys."""
        cos, sin = angles.cos(), signed(angles.sin())
        return cos.repeat(1, 2 * self._heads), sin.repeat(1, 2 * self._heads)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (N, P, hidden) of N images to the same."""
        both = cos.shape[1]
        made = functional.linear(x, self._weight, self._bias)
        straight, swapped, v = made.split((both, both, both // 2), dim=2)
        q, k = (straight * cos).addcmul_(swapped, sin).chunk(2, dim=2)
        q, k, v = (part.unflatten(2, (self._heads, -1)) for part in (q, k, v))
        return self._seen(q, k, v)


def attentions(blocks: Sequence[Any]) -> list[Attention]:
    """Of every block, all of the kind that suits heads, device and layers: they share tables."""
    kind = NarrowAttention if all(_is_narrow(block.attn) for block in blocks) else Attention
    return [kind(block.attn) for block in blocks]


def _is_narrow(attention: Any) -> bool:
    qkv = attention.qkv
    if type(qkv) is not nn.Linear or qkv.weight.dtype != torch.float32:  # a code is no matrix
        return False
    narrow = qkv.out_features // (3 * int(attention.num_heads)) < NARROW
    return narrow and qkv.weight.device.type == "cpu"
