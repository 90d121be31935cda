"""Transformer blocks of the policy: pre-norm, GELU, with exact and static shapes for export."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MLP_RATIO = 4


class Attention(nn.Module):
    """Queries (B, N, D) over keys (B, M, D); `bias` (B, 1, 1, M) is added to the scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        rows, length, width = x.shape
        query = self._split(self.query(x))
        key, value = self.key_value(context).chunk(2, dim=-1)
        mixed = functional.scaled_dot_product_attention(
            query, self._split(key), self._split(value), attn_mask=bias
        )
        return self.out(mixed.transpose(1, 2).reshape(rows, length, width))

    def _split(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        return x.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2)


class Mlp(nn.Sequential):
    """Two layers, four times as wide in between."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )


class EncoderLayer(nn.Module):
    """Self-attention over the context."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attention(normed, normed, bias)
        return x + self.mlp(self.norm_2(x))


class DecoderLayer(nn.Module):
    """Self-attention over the queries, then attention to the context."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_3 = nn.LayerNorm(width)
        self.own, self.cross = Attention(width, heads), Attention(width, heads)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.own(normed, normed)
        x = x + self.cross(self.norm_2(x), context, bias)
        return x + self.mlp(self.norm_3(x))


def embedding(*shape: int) -> nn.Parameter:
    """A learned table, small at first."""
    return nn.Parameter(torch.randn(*shape) * 0.02)
