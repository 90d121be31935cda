"""Rotary positions as two tables: what the layers need is a product and a rolled product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def signed(sin: Tensor) -> Tensor:
    """Sines (..., d) with the first half negated: what the rotation's other half is taken times."""
    half = sin.shape[-1] // 2
    return torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., d) turned by its position; `sin` is `signed`."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


def tables(module: Any, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """cos and signed sin (B, T, 1, d) of positions (3, B, T), from a Qwen3-VL rotary module."""
    cos, sin = module(like, positions)
    return cos.unsqueeze(2), signed(sin).unsqueeze(2)


class PositionTable:
    """cos and sin of positions that are the same on all three axes, made ahead and looked up."""

    def __init__(self, module: Any, like: Tensor) -> None:
        self._module, self._like = module, like
        self._cos = self._sin = like.new_zeros(0)

    def __call__(self, positions: Tensor) -> Sequence[Tensor]:
        """(B, T, 1, d) each, of positions (B, T) that `reserve` has made room for."""
        return self._cos[positions].unsqueeze(2), self._sin[positions].unsqueeze(2)

    def reserve(self, count: int) -> None:
        """Room for positions below `count`: grown by doubling, so that no plan grows it twice."""
        if count > len(self._cos):
            count = max(count, 2 * len(self._cos), 1024)
            places = torch.arange(count, device=self._like.device)[None, None].expand(3, 1, -1)
            cos, sin = self._module(self._like, places)
            self._cos, self._sin = cos[0], signed(sin[0])
