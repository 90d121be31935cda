"""Trajectories as tokens: the ego history that the prompt holds, and discrete futures.

Bins are computed in float32 as the checkpoints were trained: a value on the edge between two bins
(standing still is one: 499.5) goes to the even one of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_HISTORY

_FIT_WINDOW = 10  # points of a cubic fit that gives a decoded history its heading


def _to_bins(values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """int64 bins of `values`, clamped to [0, bins)."""
    scaled = (values.float() - low) / (high - low) * (bins - 1)
    return scaled.round().clamp(0, bins - 1).long()  # torch rounds half to even


def _from_bins(tokens: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """float32 values in the bins' middles."""
    return tokens.float() / (bins - 1) * (high - low) + low


def rotations_about_z(yaw: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about z by `yaw` rad (...)."""
    cos, sin, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    rows = (cos, -sin, zero, sin, cos, zero, zero, zero, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def check_history(xyz: Tensor, rot: Tensor | None, steps: int = N_HISTORY) -> None:
    """ModelError unless xyz is (B, steps, 3), rot (B, steps, 3, 3) or None, and both finite."""
    for name, array, per_step in (("history_xyz", xyz, (3,)), ("history_rot", rot, (3, 3))):
        if array is None:
            continue
        if array.ndim != 2 + len(per_step) or array.shape[1:] != (steps, *per_step):
            wanted = ", ".join(map(str, ("B", steps, *per_step)))
            raise ModelError(
                f"{name} has shape {tuple(array.shape)}, wanted ({wanted}): {steps} poses 0.1 s "
                "apart, oldest first, the last at t0"
            )
        bad = torch.nonzero(~torch.isfinite(array).flatten(2).all(dim=2))
        if len(bad):
            row, step = bad[0].tolist()
            raise ModelError(
                f"{name} is not finite at {len(bad)} poses, the first in row {row}, pose {step}"
            )


@dataclass(frozen=True)
class DeltaTokenizer:
    """An ego history as binned steps from pose to pose.

    The oldest pose counts as a step from the origin (t0's pose), so that its bins hold where the
    history begins, mostly clamped: it lies further off than a step can reach.
    """

    low_m: tuple[float, float, float] = (-4.0, -4.0, -10.0)
    high_m: tuple[float, float, float] = (4.0, 4.0, 10.0)
    bins: int = 1000
    predict_yaw: bool = False  # a fourth token a pose: the step in heading, of (-pi, pi)
    steps: int = N_HISTORY

    @property
    def tokens(self) -> int:
        """Tokens of one history: 48, or 64 with headings."""
        return self.steps * (4 if self.predict_yaw else 3)

    def encode(self, xyz: Tensor, rot: Tensor | None = None) -> Tensor:
        """(B, 16, 3) m and, with `predict_yaw`, (B, 16, 3, 3) in the rig frame at t0 -> (B, 48)
        int64 bins, pose by pose x, y, z[, yaw]. ModelError: wrong length, or not finite."""
        check_history(xyz, rot, self.steps)
        values = xyz.float().diff(dim=1, prepend=xyz.new_zeros((len(xyz), 1, 3)).float())
        if self.predict_yaw:
            if rot is None:
                raise ModelError("a history tokenizer with headings wants history_rot as well")
            rot = rot.float()
            # R01 over R00: the checkpoints count this heading clockwise.
            yaw = torch.atan2(rot[..., 0, 1], rot[..., 0, 0])
            step = yaw.diff(dim=1, prepend=torch.zeros_like(yaw[:, :1]))
            step = torch.atan2(step.sin(), step.cos())
            values = torch.cat((values, step.unsqueeze(-1)), dim=-1)
        low, high = self._bounds(xyz.device)
        return _to_bins(values, low, high, self.bins).flatten(1)

    def decode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Bins (B, 48) -> xyz (B, 16, 3) m and rotations (B, 16, 3, 3), float32.

        Clamped and rounded steps add up: this shows what the model is told, not where the vehicle
        was. Without headings of their own rotations follow the path's tangent.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.tokens:
            raise ModelError(f"history tokens {tuple(tokens.shape)}, wanted (B, {self.tokens})")
        low, high = self._bounds(tokens.device)
        steps = _from_bins(tokens.unflatten(1, (self.steps, -1)), low, high, self.bins)
        poses = steps.cumsum(dim=1)
        xyz = poses[..., :3]
        if self.predict_yaw:
            return xyz, rotations_about_z(poses[..., 3])
        weights = tangent_weights(self.steps).to(xyz)
        slopes = (weights.unsqueeze(-1) * xyz[:, None, :, :2]).sum(dim=2)
        return xyz, rotations_about_z(torch.atan2(slopes[..., 1], slopes[..., 0]))

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        yaw = (math.pi,) if self.predict_yaw else ()
        low = torch.tensor((*self.low_m, *(-y for y in yaw)), dtype=torch.float32, device=device)
        return low, torch.tensor((*self.high_m, *yaw), dtype=torch.float32, device=device)


def tangent_weights(points: int, window: int = _FIT_WINDOW) -> Tensor:
    """(points, points) float64 matrix from a path's coordinates to its derivative, a step's length.

    Row i: the slope at point i of the cubic through the `window` points about it in the least
    squares' sense; at the ends the window stays whole and i moves off its middle.
    """
    window = min(window, points)
    weights = torch.zeros((points, points), dtype=torch.float64)
    for i in range(points):
        first = min(max(0, i - window // 2), points - window)
        at = torch.arange(first, first + window, dtype=torch.float64) - i
        powers = torch.stack([at**k for k in range(4)], dim=1)
        weights[i, first : first + window] = torch.linalg.pinv(powers)[1]
    return weights


@dataclass(frozen=True)
class FutureTokenizer:
    """Normalised (acceleration, curvature) of each waypoint as two bins. The expert's path does
    not use it; the ids in front of the history's are its."""

    low: tuple[float, float] = (-10.0, -10.0)
    high: tuple[float, float] = (10.0, 10.0)
    bins: int = 3000

    def encode(self, action: Tensor) -> Tensor:
        """Normalised actions (B, 64, 2) -> (B, 128) int64 bins, waypoint by waypoint."""
        if action.ndim != 3 or action.shape[-1] != 2:
            raise ModelError(f"actions have shape {tuple(action.shape)}, wanted (B, waypoints, 2)")
        return _to_bins(action, *self._bounds(action.device), self.bins).flatten(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """(B, 128) bins -> normalised actions (B, 64, 2) float32."""
        if tokens.ndim != 2 or tokens.shape[1] % 2:
            raise ModelError(f"future tokens {tuple(tokens.shape)}, wanted (B, 2 * waypoints)")
        pairs = tokens.unflatten(1, (-1, 2))
        return _from_bins(pairs, *self._bounds(tokens.device), self.bins)

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        low = torch.tensor(self.low, dtype=torch.float32, device=device)
        return low, torch.tensor(self.high, dtype=torch.float32, device=device)


def fuse_history(input_ids: Tensor, placeholder_id: int, history_ids: Tensor) -> Tensor:
    """`input_ids` (B, L) with row b's placeholders replaced by `history_ids` (B, n) in order.

    `history_ids` are ids of the vocabulary: history_token_start + bin. ModelError where a row has
    not n placeholders.
    """
    if input_ids.ndim != 2 or history_ids.ndim != 2 or len(input_ids) != len(history_ids):
        raise ModelError(
            f"prompts {tuple(input_ids.shape)} and history ids {tuple(history_ids.shape)} do not "
            "match: (B, L) and (B, n) are wanted"
        )
    is_placeholder = input_ids == placeholder_id
    found, wanted = is_placeholder.sum(dim=1), history_ids.shape[1]
    for row, count in enumerate(found.tolist()):
        if count != wanted:
            raise ModelError(
                f"prompt row {row} has {count} history placeholders (id {placeholder_id}), its "
                f"history makes {wanted} tokens"
            )
    return input_ids.masked_scatter(is_placeholder, history_ids.to(input_ids.dtype))
