"""From logits to the next token: trajectory tokens masked, temperature, top-k, top-p, the draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class TokenSampling:
    """How reasoning is sampled; the defaults are the release's. top_k 1 is exact greedy."""

    temperature: float = 0.6
    top_p: float = 0.98
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ModelError(
                f"temperature is {self.temperature}, wanted > 0; for greedy decoding set top_k 1"
            )
        if not 0 < self.top_p <= 1:
            raise ModelError(f"top_p is {self.top_p}, wanted 0 < top_p <= 1")
        if self.top_k is not None and self.top_k < 1:
            raise ModelError(f"top_k is {self.top_k}, wanted 1 or more")

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.top_k == 1


def mask_tokens(logits: Tensor, start: int, end: int) -> Tensor:
    """Logits (B, V) in which tokens [start, end) cannot be drawn."""
    masked = logits.clone()
    masked[:, start:end] = NEVER
    return masked


def filter_logits(logits: Tensor, sampling: TokenSampling) -> Tensor:
    """Logits (B, V) fp32 over temperature, all but the top k and the nucleus p at -inf."""
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        kth = torch.topk(logits, min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, NEVER)
    if sampling.top_p < 1.0:
        ascending, order = torch.sort(logits)
        cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)
        drop = cumulative <= 1.0 - sampling.top_p
        drop[:, -1] = False  # the likeliest stays whatever p is
        logits = logits.masked_fill(drop.scatter(1, order, drop), NEVER)
    return logits


def draw(
    logits: Tensor, sampling: TokenSampling, generator: torch.Generator | None = None
) -> Tensor:
    """One token a row (B,) from masked logits (B, V)."""
    if sampling.greedy:
        return logits.argmax(dim=-1)
    probabilities = filter_logits(logits, sampling).softmax(dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
