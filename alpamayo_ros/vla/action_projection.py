"""Noisy actions and the flow's time to the action expert's embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from alpamayo_ros.vla.config import ACTION_DIMS, ActionProjectionConfig

NORM_EPS = 1e-5


class FourierFeatures(nn.Module):
    """A scalar to sines and cosines of log-spaced frequencies, scaled to unit variance."""

    freqs: Tensor

    def __init__(self, features: int, max_freq: float, persistent: bool) -> None:
        super().__init__()
        freqs = torch.logspace(0.0, math.log10(max_freq), features // 2)
        self.register_buffer("freqs", freqs[None], persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        """(...,) to (..., features)."""
        angle = x[..., None] * self.freqs[0] * (2.0 * math.pi)
        return torch.cat((angle.sin(), angle.cos()), dim=-1) * math.sqrt(2.0)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 whatever the input's type."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) to the same."""
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + NORM_EPS)
        return self.weight * (wide * scale).to(x.dtype)


class _Encoder(nn.Module):
    """The trunk: Linear, SiLU, then RMSNorm, Linear, SiLU a layer, and RMSNorm, Linear."""

    def __init__(self, width_in: int, config: ActionProjectionConfig, width_out: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        layers: list[nn.Module] = [nn.Linear(width_in, hidden), nn.SiLU()]
        for _ in range(config.num_enc_layers - 1):
            layers += [RMSNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU()]
        layers += [RMSNorm(hidden), nn.Linear(hidden, width_out)]
        self.trunk = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.trunk(x)
        return result


class ActionProjection(nn.Module):
    """Each waypoint's (acceleration, curvature) and the time to one embedding a waypoint.

    Parameter names are the checkpoint's: sinus, timestep_fourier_encoder, encoder.trunk, norm.
    """

    def __init__(
        self, config: ActionProjectionConfig, width_out: int, persistent_buffers: bool
    ) -> None:
        super().__init__()

        def fourier() -> FourierFeatures:
            return FourierFeatures(config.num_fourier_feats, config.max_freq, persistent_buffers)

        self.sinus = nn.ModuleList([fourier() for _ in range(ACTION_DIMS)])
        self.timestep_fourier_encoder = fourier()
        width_in = (ACTION_DIMS + 1) * config.num_fourier_feats
        self.encoder = _Encoder(width_in, config, width_out)
        self.norm = nn.LayerNorm(width_out, eps=NORM_EPS)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Actions (B, 64, 2) at flow times (B,) to (B, 64, width); features are made in fp32."""
        x, t = x.float(), t.float()
        parts = [encode(x[..., i]) for i, encode in enumerate(self.sinus)]
        time_features = self.timestep_fourier_encoder(t)[:, None].expand(-1, x.shape[1], -1)
        features = torch.cat((*parts, time_features), dim=-1)
        result: Tensor = self.norm(self.encoder(features.to(self.norm.weight.dtype)))
        return result
