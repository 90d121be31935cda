"""Euler sampling of a velocity field, from noise at time 0 to actions at time 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # x (B, 64, 2), t (B,) -> v (B, 64, 2)


def time_grid(steps: int, device: torch.device) -> Tensor:
    """(steps + 1,) from 0 to 1, fp32."""
    return torch.linspace(0.0, 1.0, steps + 1, device=device)


def integrate(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """x at time 1 from x = `noise` (B, 64, 2) at time 0 by `steps` Euler steps."""
    x = noise
    times = time_grid(steps, noise.device)
    for now, after in zip(times[:-1], times[1:]):
        x = x + (after - now) * velocity(x, now.expand(x.shape[0]))
    return x


def guided(with_condition: Velocity, without: Velocity, weight: float) -> Velocity:
    """Classifier-free guidance: (1 - w) v_unguided + w v_guided; w = 1 is the condition alone."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return (1.0 - weight) * without(x, t) + weight * with_condition(x, t)

    return velocity
