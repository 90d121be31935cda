"""L = alpha Huber(truth) + beta MSE(teacher) + gamma features + delta T^2 KL(tokens) + sight
+ attention.

The first two look at normalised actions and, in a share of their own, at the positions that follow
from them: a small error of the first curvatures is a large one of the last waypoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.distill.shard import UNKNOWN
from alpamayo_ros.distill.train_config import LossWeights
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.student.model import Context
from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S

_MOST = 50.0  # times as much counts a cell of a class that is hardly ever there


def positions(action: Tensor, speed: Tensor, scale: Tensor) -> Tensor:
    """Normalised actions (B, 64, 2) from speeds (B,) m/s -> (B, 64, 2) m in the rig frame at t0."""
    return poses(action, speed, scale)[0]


def poses(action: Tensor, speed: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, 64, 2) m and headings (B, 64) rad: `action_space.integrate`, differentiable."""
    dt = WAYPOINT_STEP_S
    acceleration, curvature = (action * scale).unbind(dim=-1)
    start = speed.unsqueeze(-1)
    speeds = torch.cat((start, start + dt * acceleration.cumsum(dim=-1)), dim=-1)
    distances = speeds[:, :-1] * dt + 0.5 * dt * dt * acceleration
    turned = (curvature * distances).cumsum(dim=-1)
    heading = torch.cat((torch.zeros_like(start), turned), dim=-1)
    ahead, left = speeds * heading.cos(), speeds * heading.sin()
    x = (ahead[:, :-1] + ahead[:, 1:]).cumsum(dim=-1) * (dt / 2)
    y = (left[:, :-1] + left[:, 1:]).cumsum(dim=-1) * (dt / 2)
    return torch.stack((x, y), dim=-1), heading[:, 1:]


def waypoint_errors(path: Tensor, target: Tensor, heading: Tensor, weights: LossWeights) -> Tensor:
    """How far paths (B, 64, 2) m lie along and across their targets, in units that grow with time.

    A controller steers by the next seconds, and what is across leaves the lane: both weigh more.
    A wrong curvature moves waypoints by the square of time; so do the units grow.
    """
    growth = torch.linspace(0.0, 1.0, path.shape[1], device=path.device).square()
    unit = weights.near_unit + (weights.metres_unit - weights.near_unit) * growth
    x, y = (path - target).unbind(dim=-1)
    cos, sin = heading.cos(), heading.sin()
    along, across = cos * x + sin * y, cos * y - sin * x
    return torch.stack((along, weights.across * across), dim=-1) / unit[:, None]


def huber_rows(error: Tensor, delta: float) -> Tensor:
    """Mean Huber of each row (B, …) -> (B,)."""
    zeros = torch.zeros_like(error)
    return functional.huber_loss(error, zeros, reduction="none", delta=delta).flatten(1).mean(1)


def square_rows(error: Tensor) -> Tensor:
    """Mean square of each row (B, …) -> (B,)."""
    return error.square().flatten(1).mean(1)


def weighted_mean(rows: Tensor, weight: Tensor) -> Tensor:
    """Sum of rows by weight, over the weights; 0 where nothing weighs."""
    return (rows * weight).sum() / weight.sum().clamp_min(1e-6)


def known(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, …) with zeros for the rows that have a NaN, and (B,) whether a row has none."""
    told = torch.isfinite(rows).flatten(1).all(dim=1)
    return torch.where(
        told.reshape(-1, *[1] * (rows.dim() - 1)), rows, torch.zeros_like(rows)
    ), told


def attention_off(features: Tensor, attention: Tensor) -> Tensor:
    """How far what feature maps (N, channels, rows, columns) are busy with lies from a teacher's
    attention (N, …): squared distance of the two maps, each of unit length -> (N,)."""
    energy = features.float().square().mean(dim=1)
    rows, columns = energy.shape[-2:]
    wanted = functional.adaptive_avg_pool2d(attention, (rows, columns))
    one, other = (functional.normalize(maps.flatten(1), dim=1) for maps in (energy, wanted))
    return (one - other).square().sum(dim=1)


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits (B, N, V) softened by T, mean over tokens -> (B,)."""
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)
    return temperature**2 * divergence.mean(dim=-1)


class DistillHeads(nn.Module):
    """What training adds to a student and no vehicle sees: projections to the teacher's outputs."""

    mean: Tensor  # (F,) of the teacher's features …
    spread: Tensor  # (F,) … and their standard deviations

    def __init__(
        self,
        config: StudentConfig,
        channels: int,
        features: tuple[int, ...] = (),
        logits: tuple[int, ...] = (),
        maps: tuple[int, ...] = (),
    ) -> None:
        """`channels` of the student's feature map, and the shapes of what the labels tell of an
        instant: features (F,), logits (N, V), maps (C, K, rows, columns); () where they do not."""
        super().__init__()
        width, queries = config.width, N_WAYPOINTS // config.waypoints_a_query
        # The summary is the short way to the images: what it lacks attention will not find.
        self.has_summary = bool(config.summary_channels)
        seen = width + (queries * width if self.has_summary else 0)
        self.features = nn.Linear(seen, features[0]) if features else None
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        # One linear map a cell: what it finds the neck finds too.
        self.sight = nn.Conv2d(channels, maps[1], 1) if maps else None
        self.tokens, self.vocabulary = logits or (0, 0)
        self.a_query = -(-self.tokens // queries)
        self.logits = nn.Linear(width, self.a_query * self.vocabulary) if logits else None

    def features_off(self, context: Context, features: Tensor) -> Tensor:
        """By how many of their standard deviations the teacher's features (B, F) are missed: rare
        ones and small ones count like all others."""
        assert self.features is not None
        seen = context.tokens.mean(dim=1)
        if self.has_summary:
            seen = torch.cat((seen, context.start.flatten(1)), dim=1)
        return self.features(seen).float() - (features - self.mean) / self.spread

    def sight_off(self, features: Tensor, maps: Tensor) -> Tensor:
        """Cross entropy of feature maps (N, channels, rows, columns) by maps (N, K, …) of 0, 1 and
        UNKNOWN, a cell and class. Where a class is counts as much as where it is not: a light fills
        one cell of hundreds."""
        assert self.sight is not None
        rows, columns = maps.shape[-2:]
        logits = functional.adaptive_avg_pool2d(self.sight(features).float(), (rows, columns))
        told, there = maps != UNKNOWN, (maps == 1).float()
        losses = functional.binary_cross_entropy_with_logits(logits, there, reduction="none")
        holds = (told * there).sum(dim=(0, 2, 3))
        more = (told.sum(dim=(0, 2, 3)) / holds.clamp_min(1.0) - 1.0).clamp(1.0, _MOST)
        weight = told * (1.0 + (more[:, None, None] - 1.0) * there)
        return (losses * weight).sum() / told.sum().clamp_min(1)

    def token_logits(self, queries: Tensor) -> Tensor:
        """Queries (B, Q, D) -> (B, N, V): every query speaks for its share of the tokens."""
        assert self.logits is not None
        logits: Tensor = self.logits(queries)
        return logits.reshape(len(queries), -1, self.vocabulary)[:, : self.tokens]


def trajectory_terms(
    action: Tensor,
    truth: Tensor,
    teacher: Tensor,
    speed: Tensor,
    confidence: Tensor,
    scale: Tensor,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """`truth` and `teacher`, unweighted; a row of truth (B, 64, 2) with a NaN counts nothing."""
    truth, told = known(truth)
    path, share = positions(action, speed, scale), weights.waypoints
    off_truth = waypoint_errors(path, *poses(truth, speed, scale), weights)
    off_teacher = waypoint_errors(path, *poses(teacher, speed, scale), weights)
    huber = (1.0 - share) * huber_rows(action - truth, weights.huber_delta)
    huber = huber + share * huber_rows(off_truth, weights.huber_delta)
    square = (1.0 - share) * square_rows(action - teacher) + share * square_rows(
        # Far ahead everybody is metres off: a square would hear nothing else.
        off_teacher.clamp(-3.0, 3.0)
    )
    return {
        "truth": weighted_mean(huber, told * confidence),
        "teacher": weighted_mean(square, confidence),
    }


def total(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of the terms that there are."""
    by_name = {
        "truth": weights.alpha, "teacher": weights.beta, "features": weights.gamma,
        "tokens": weights.delta, "sight": weights.sight, "attention": weights.attention,
    }  # fmt: skip
    return torch.stack([by_name[name] * term for name, term in terms.items()]).sum()
