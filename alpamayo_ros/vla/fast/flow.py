"""The expert's Euler loop over a prompt's keys and values, which no step copies, grows or cuts.

Positions, the time's part of the embedding and masks are made once a plan; 64 places behind each
sample's tokens are written anew in every step. Guided and unguided samples go through the layers
together. Nothing in `loop` waits for the device: captured_flow.py makes one CUDA graph of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.action_projection import NORM_EPS, RMSNorm
from alpamayo_ros.vla.fast.attention import additive
from alpamayo_ros.vla.fast.cache import Own
from alpamayo_ros.vla.fast.layers import Norm, TextLayer
from alpamayo_ros.vla.fast.rotary import PositionTable
from alpamayo_ros.vla.flow_matching import time_grid
from alpamayo_ros.vla.model import AlpamayoModel


@dataclass(frozen=True, slots=True)
class View:
    """What N samples' waypoints see of their own places, as it is known behind a reasoning.

    Pads among the first `valid` places, behind a sample's <|im_end|>, stay in sight.
    """

    own: Own
    offset: Tensor  # (N,) the index that a sample's waypoints go on from
    valid: Tensor  # (N,) how many of its first places a sample sees

    @property
    def first_position(self) -> Tensor:
        """(N,) of each sample's first waypoint."""
        delta = self.own.shared.rope_delta
        return self.offset + delta.repeat_interleave(self.own.count // len(delta), 0)[:, 0]

    def seen(self, count: int) -> Tensor:
        """(N, count) bool: which of the first places are seen. Nothing waits for the device."""
        return torch.arange(count, device=self.valid.device) < self.valid[:, None]


@dataclass(frozen=True, slots=True)
class Branch:
    """What N samples' waypoints see, and where they stand."""

    own: Own  # with N_WAYPOINTS places of room behind `end`
    end: int  # where the waypoints' own keys go
    first_position: Tensor  # (N,) of each sample's first waypoint
    mask: Tensor | None  # (N, 1, 1, end + 64) of `additive`; None: all is seen
    shared_visible: Tensor | None  # (B, P) true where seen; None: all is


def branch(version: str, view: View) -> Branch:
    """Waypoints straight behind what is seen. R1 leaves a batch's pads in sight."""
    end = int(view.valid.max())
    seen = view.seen(end)
    mask = None
    if not bool(seen.all()):
        seen = functional.pad(seen, (0, N_WAYPOINTS), value=True)[:, None, None]
        mask = additive(seen, view.own.dtype)
    shared_visible = None if version == "r1" else view.own.shared.visible
    return Branch(view.own, end, view.first_position, mask, shared_visible)


class FastExpert:
    """Velocities and whole flows. Every method runs under `inference_precision`."""

    def __init__(self, model: AlpamayoModel) -> None:
        self._model = model
        self._expert = cast(Any, model.expert)
        self._projection = cast(Any, model.action_in_proj)
        self._layers = [TextLayer(layer) for layer in self._expert.layers]
        self._norm = Norm.of(self._expert.norm)
        self._trunk = [
            Norm(module.weight, NORM_EPS) if isinstance(module, RMSNorm) else module
            for module in self._projection.encoder.trunk[1:]
        ]
        self._frequencies = torch.stack([one.freqs[0] for one in self._projection.sinus])
        self._scale = float(self._expert.layers[0].self_attn.scaling)
        self._table = PositionTable(self._expert.rotary_emb, self._expert.norm.weight.new_zeros(1))

    def denoise(
        self, branches: list[Branch], noise: Tensor, steps: int, weight: float | None = None
    ) -> Tensor:
        """Normalised actions (N, 64, 2) from noise by `steps` Euler steps.

        Two branches are the guided and the unguided one, and `weight` says how they are mixed.
        """
        times = time_grid(steps, noise.device)
        turned = self.positions(branches)
        return self.loop(branches, noise, times, self.time_part(times[:-1]), turned, weight)

    def loop(
        self,
        branches: list[Branch],
        noise: Tensor,
        times: Tensor,
        ahead: Tensor,
        turned: tuple[Tensor, Tensor],
        weight: float | None = None,
    ) -> Tensor:
        """`denoise` with what does not depend on the noise made before: `times` (steps + 1,),
        `ahead` of `time_part`, `turned` of `positions`."""
        x = noise
        for i in range(len(ahead)):
            parts = self.velocities(branches, x, ahead[i], turned)
            velocity = parts[0]
            if weight is not None:
                velocity = (1.0 - weight) * parts[1] + weight * parts[0]
            x = x + (times[i + 1] - times[i]) * velocity
        return x

    def positions(self, branches: list[Branch]) -> tuple[Tensor, Tensor]:
        """cos and sin (branches * N, 64, 1, d)."""
        first = torch.cat([one.first_position for one in branches])
        self._table.reserve(int(first.max()) + N_WAYPOINTS)
        cos, sin = self._table(first[:, None] + torch.arange(N_WAYPOINTS, device=first.device))
        return cos, sin

    def time_part(self, times: Tensor) -> Tensor:
        """(steps, hidden): what the flow's times (steps,) add in the embedding's first layer."""
        projection = self._projection
        features = projection.timestep_fourier_encoder(times.float())
        first = projection.encoder.trunk[0]
        weight = first.weight[:, -features.shape[-1] :]
        return functional.linear(features.to(weight.dtype), weight, first.bias)

    def embed(self, x: Tensor, time_part: Tensor) -> Tensor:
        """Actions (N, 64, 2) at one time to embeddings (N, 64, width)."""
        angles = x.float()[..., None] * self._frequencies * (2.0 * math.pi)
        features = torch.cat((angles.sin(), angles.cos()), dim=-1).mul_(math.sqrt(2.0)).flatten(2)
        weight = self._projection.encoder.trunk[0].weight[:, : features.shape[-1]]
        h = functional.linear(features.to(weight.dtype), weight, time_part)
        for module in self._trunk:
            h = module(h)
        result: Tensor = self._projection.norm(h)
        return result

    def velocities(
        self, branches: list[Branch], x: Tensor, time_part: Tensor, turned: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """The velocity (N, 64, 2) fp32 of each branch at x (N, 64, 2)."""
        embedded = self.embed(x, time_part)
        count = len(x)
        h = embedded if len(branches) == 1 else embedded.repeat(len(branches), 1, 1)
        cos, sin = turned
        for i, layer in enumerate(self._layers):
            q, k, v = layer.project(h, cos, sin)
            seen = []
            for j, one in enumerate(branches):
                part = slice(j * count, (j + 1) * count)
                end = one.own.write(i, k[part], v[part], one.end, None)
                seen.append(
                    one.own.attend(i, q[part], end, self._scale, None, one.mask, one.shared_visible)
                )
            h = layer.finish(h, seen[0] if len(seen) == 1 else torch.cat(seen))
        v = self._model.action_out_proj(self._norm(h)).float()
        return list(v.split(count))
