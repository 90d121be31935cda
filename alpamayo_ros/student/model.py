"""Student A: cameras one by one, the ego's history, and a transformer that corrects the prior.

The action is the kinematic baseline's plus a residual whose last layer starts at zero, so that an
untrained student is the baseline. Split in two, so that a vehicle encodes only the newest frame of
each camera and keeps the features of the three before:

    features_of_newest = student.encode(images)   # (B, C, 3, H, W) -> (B, C, T, D)
    action = student.policy(features, ...)        # (B, C, 4, T, D), … -> (B, 64, 2)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alpamayo_ros.student.backbone import ImageEncoder
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.student.inputs import N_COMMANDS
from alpamayo_ros.student.layers import DecoderLayer, EncoderLayer, embedding
from alpamayo_ros.types import N_HISTORY, N_WAYPOINTS

_MASKED = -1e4  # added to the score of a missing camera's token; finite, also in float16
_METRES, _MPS = 10.0, 10.0  # what positions and speeds are divided by
_TIME_WAVES = 8
# One optimiser's step must not swing the path's end by metres: 0.01 1/m are 25 m after 6.4 s.
_OUT_GAIN = 0.2


class Context(NamedTuple):
    """What an action is decoded from."""

    tokens: Tensor  # (B, M, D): images, ego, command
    bias: Tensor  # (B, 1, 1, M) that hides missing cameras
    start: Tensor  # (B, Q, D) that the queries start from, or zeros (1, 1, D)


class Summary(nn.Module):
    """All tokens at once, as a start for each query."""

    def __init__(self, config: StudentConfig, tokens: int, queries: int) -> None:
        super().__init__()
        width, channels = config.width, config.summary_channels
        self.squeeze = nn.Linear(width, channels)
        self.mix = nn.Sequential(
            nn.Linear(tokens * channels, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, queries * width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, M, D) -> (B, Q, D)."""
        mixed: Tensor = self.mix(self.squeeze(tokens).flatten(1))
        return mixed.reshape(len(tokens), -1, tokens.shape[-1])


class Student(nn.Module):
    """`encode` and `policy`; `forward` is both over all four frames."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        width, cameras = config.width, len(config.cameras)
        self.encoder = ImageEncoder(config)
        self.of_camera = embedding(cameras, width)
        self.of_frame = embedding(len(config.frames), width)
        ego = N_HISTORY * 4 + 1
        self.ego = nn.Sequential(
            nn.Linear(ego, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, config.history_tokens * width),
        )
        self.of_command = embedding(N_COMMANDS, width)
        queries = N_WAYPOINTS // config.waypoints_a_query
        tokens = cameras * len(config.frames) * config.image_tokens + config.history_tokens + 1
        self.summary = Summary(config, tokens, queries) if config.summary_channels else None
        self.context_layers = nn.ModuleList(
            EncoderLayer(width, config.heads) for _ in range(config.encoder_layers)
        )
        self.context_norm = nn.LayerNorm(width)
        self.action_in = nn.Linear(config.waypoints_a_query * 2, width)
        self.of_query = embedding(queries, width)
        self.time = nn.Linear(2 * _TIME_WAVES, width)
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(width, config.heads) for _ in range(config.decoder_layers)
        )
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.waypoints_a_query * 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    # ---- the two halves ----------------------------------------------------------------------

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, 3, H, W) of one instant -> features (B, C, T, D)."""
        rows, cameras = images.shape[:2]
        return self.encoder(images.flatten(0, 1)).unflatten(0, (rows, cameras))

    def policy(
        self,
        features: Tensor,
        history: Tensor,
        history_yaw: Tensor,
        speed: Tensor,
        prior_action: Tensor,
        command: Tensor,
        camera_mask: Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Actions (B, 64, 2), normalised, from four frames' features, oldest first.

        features (B, C, 4, T, D); history (B, 16, 3) m and history_yaw (B, 16) rad in the rig frame
        at t0; speed (B,) m/s; prior_action (B, 64, 2) normalised like the result; command (B,)
        int64, see inputs.COMMANDS; camera_mask (B, C) 1 where there is the camera, else 0. noise
        (B, 64, 2), standard normal, is where a flow starts from; None: zeros, the prior itself.
        """
        context = self.context(features, history, history_yaw, speed, command, camera_mask)
        if self.config.head == "regression":
            start = torch.zeros_like(speed)
            return prior_action + self.decode(context, prior_action, start)[0]
        steps, x = self.config.flow_steps, prior_action
        if noise is not None:
            x = x + self.config.flow_start_std * noise
        for step in range(steps):
            time = torch.full_like(speed, step / steps)
            x = x + self.decode(context, x, time)[0] / steps
        return x

    def forward(
        self,
        images: Tensor,
        history: Tensor,
        history_yaw: Tensor,
        speed: Tensor,
        prior_action: Tensor,
        command: Tensor,
        camera_mask: Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The same from images (B, C, 4, 3, H, W), oldest first."""
        rows, cameras, frames = images.shape[:3]
        tokens = self.encoder(images.flatten(0, 2)).unflatten(0, (rows, cameras, frames))
        return self.policy(
            tokens, history, history_yaw, speed, prior_action, command, camera_mask, noise
        )

    # ---- parts, for training -----------------------------------------------------------------

    def context(
        self,
        features: Tensor,
        history: Tensor,
        history_yaw: Tensor,
        speed: Tensor,
        command: Tensor,
        camera_mask: Tensor,
    ) -> Context:
        """What the decoder looks at."""
        # Slices, where an index would do: each is static for an export.
        features = torch.cat([features[:, :, k : k + 1] for k in self.config.frames], dim=2)
        rows, cameras, frames, tokens, width = features.shape
        seen = features + self.of_camera[:, None, None] + self.of_frame[:, None]
        seen = seen * camera_mask[:, :, None, None, None]
        images = seen.reshape(rows, cameras * frames * tokens, width)
        moved = torch.cat(
            (
                (history / _METRES).flatten(1),
                history_yaw,
                (speed / _MPS).unsqueeze(1),
            ),
            dim=1,
        )
        ego = self.ego(moved).reshape(rows, self.config.history_tokens, width)
        told = self.of_command[command].unsqueeze(1)
        x = torch.cat((images, ego, told), dim=1)
        hidden = (1.0 - camera_mask) * _MASKED
        bias = torch.cat(
            (
                hidden.repeat_interleave(frames * tokens, dim=1),
                torch.zeros_like(x[:, cameras * frames * tokens :, 0]),
            ),
            dim=1,
        )[:, None, None, :]
        start = torch.zeros_like(x[:1, :1]) if self.summary is None else self.summary(x)
        for layer in self.context_layers:
            x = layer(x, bias)
        return Context(self.context_norm(x), bias, start)

    def decode(self, context: Context, action: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Residual or velocity (B, 64, 2), and queries (B, Q, D), at an action and a time (B,)."""
        rows = len(action)
        chunks = action.reshape(rows, -1, self.config.waypoints_a_query * 2)
        x = self.action_in(chunks) + self.of_query + self.time(_waves(time)).unsqueeze(1)
        x = x + context.start
        for layer in self.decoder_layers:
            x = layer(x, context.tokens, context.bias)
        queries = self.out_norm(x)
        return _OUT_GAIN * self.out(queries).reshape(rows, N_WAYPOINTS, 2), queries


def _waves(time: Tensor) -> Tensor:
    """Times (B,) in 0 … 1 as sines and cosines (B, 16)."""
    rates = torch.arange(_TIME_WAVES, device=time.device, dtype=time.dtype) * math.pi
    angles = time.unsqueeze(1) * (rates + math.pi / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=1)
