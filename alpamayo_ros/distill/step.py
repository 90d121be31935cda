"""One batch through a student: pixels, features shared by instants, losses, errors in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alpamayo_ros.distill import losses
from alpamayo_ros.distill.data import Batch
from alpamayo_ros.distill.foreign import make_foreign
from alpamayo_ros.distill.losses import DistillHeads
from alpamayo_ros.distill.shard import UNKNOWN
from alpamayo_ros.distill.train_config import Augmentation, LossWeights
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.student.model import Student

_NOISE_FIELDS = 16  # of a batch; every frame gets one: drawing takes longer than using
HORIZONS = {"1": 10, "2": 20, "4": 40, "6.4": 64}


@dataclass(frozen=True)
class Tensors:
    """A batch on the device; actions normalised."""

    images: Tensor  # (N, 3, H, W)
    frame_index: Tensor
    camera_mask: Tensor
    history: Tensor
    history_yaw: Tensor
    speed: Tensor
    prior: Tensor
    command: Tensor
    truth: Tensor
    teacher: Tensor
    confidence: Tensor
    scale: Tensor  # (2,)
    logits: Tensor | None
    features: Tensor | None
    attention: Tensor | None  # (B, C, rows, columns)
    maps: Tensor | None  # (B, C, K, rows, columns) uint8


def to_tensors(
    batch: Batch,
    config: StudentConfig,
    device: torch.device,
    augmentation: Augmentation | None = None,
    rng: np.random.Generator | None = None,
) -> Tensors:
    """With `rng` the colours of each clip's cameras are changed, and pixels are noisy."""
    scale = torch.tensor(config.action_scale, device=device)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    images = tensor(batch.frames).permute(0, 3, 1, 2).float() / 255.0
    strange = np.zeros(len(batch.speed), bool)
    if augmentation is not None and rng is not None:
        # By the instants: a clip may have no frame.
        shape = (int(batch.clip[-1]) + 1, len(config.cameras))
        reach = augmentation.colour
        gain = 1.0 + rng.uniform(-reach, reach, (*shape, 1)) + rng.normal(0, reach / 8, (*shape, 3))
        offset = rng.uniform(-reach / 2, reach / 2, (*shape, 1))
        of_frame = batch.frame_clip, batch.frame_camera
        gains = tensor(gain[of_frame].astype(np.float32))[:, :, None, None]
        offsets = tensor(offset[of_frame].astype(np.float32))[:, :, None, None]
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        chosen = torch.rand(shape[0], generator=generator) < augmentation.foreign
        strange = chosen.numpy()[batch.clip]
        of_clip = tensor(batch.frame_clip)
        images = make_foreign(images, of_clip, chosen.nonzero()[:, 0], generator)
        fields = torch.randn((_NOISE_FIELDS, *images.shape[1:]), generator=generator).to(device)
        noise = fields[torch.randint(_NOISE_FIELDS, (len(images),), generator=generator)]
        images = (images - 0.5) * gains + 0.5 + offsets + augmentation.noise * noise
        images = images.clamp(0.0, 1.0)
    mean = torch.tensor(config.pixel_mean, device=device)[:, None, None]
    std = torch.tensor(config.pixel_std, device=device)[:, None, None]
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    # What cannot be read is answered by the prior.
    truth, teacher = (
        tensor(np.where(_like(strange, target), batch.prior, target)) / scale
        for target in (batch.truth, batch.teacher)
    )
    logits, features, attention = (
        None if extra is None else tensor(np.where(_like(strange, extra), np.nan, extra)).float()
        for extra in (batch.logits, batch.features, batch.attention)
    )
    maps = batch.maps
    if maps is not None:
        maps = np.where(_like(strange, maps), np.uint8(UNKNOWN), maps)
    return Tensors(
        images, tensor(batch.frame_index), tensor(batch.camera_mask), tensor(batch.history),
        tensor(batch.history_yaw), tensor(batch.speed), tensor(batch.prior) / scale,
        tensor(batch.command), truth, teacher, tensor(batch.confidence), scale, logits, features,
        attention, None if maps is None else tensor(maps),
    )  # fmt: skip


def _like(rows: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Flags (B,) with as many axes as an array (B, …)."""
    return rows.reshape(-1, *[1] * (array.ndim - 1))


def gather_features(student: Student, tensors: Tensors) -> Tensor:
    """(B, C, 4, T, D): every frame encoded once; zeros where there is none."""
    return spread_out(student.encoder(tensors.images), tensors)


def spread_out(encoded: Tensor, tensors: Tensors) -> Tensor:
    """Tokens (N, T, D) of the frames to the instants that share them."""
    nothing = torch.zeros_like(encoded[:1])
    return torch.cat((encoded, nothing))[tensors.frame_index]


def loss_terms(
    student: Student,
    heads: DistillHeads,
    tensors: Tensors,
    weights: LossWeights,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The unweighted terms of one batch."""
    seen = student.encoder.feature_map(tensors.images)
    features = spread_out(student.encoder.neck(seen), tensors)
    context = student.context(
        features, tensors.history, tensors.history_yaw, tensors.speed, tensors.command,
        tensors.camera_mask,
    )  # fmt: skip
    rows, config = len(tensors.speed), student.config
    if config.head == "regression":
        time, x = torch.zeros_like(tensors.speed), tensors.prior
        left = torch.ones_like(time)
    else:
        # Truncated: only the times that the sampler visits, from noise around the prior.
        draw = torch.randint(config.flow_steps, (rows,), generator=generator)
        time = (draw / config.flow_steps).to(tensors.speed)
        noise = torch.randn(tensors.prior.shape, generator=generator).to(tensors.prior)
        start = tensors.prior + config.flow_start_std * noise
        x = start + time[:, None, None] * (_target(tensors) - start)
        left = 1.0 - time
    change, queries = student.decode(context, x, time)
    action = (x + left[:, None, None] * change).float()
    terms = losses.trajectory_terms(
        action, tensors.truth, tensors.teacher, tensors.speed, tensors.confidence, tensors.scale,
        weights,
    )  # fmt: skip
    if heads.features is not None and tensors.features is not None:
        wanted, told = losses.known(tensors.features)
        off = losses.square_rows(heads.features_off(context, wanted))
        terms["features"] = losses.weighted_mean(off, told * tensors.confidence)
    newest = tensors.frame_index[:, :, -1]
    there = newest < len(seen)
    if heads.sight is not None and tensors.maps is not None:
        terms["sight"] = heads.sight_off(seen[newest[there]], tensors.maps[there])
    if weights.attention and tensors.attention is not None:
        wanted, told = losses.known(tensors.attention[there])
        off = losses.attention_off(seen[newest[there]], wanted)
        terms["attention"] = losses.weighted_mean(off, told)
    if heads.logits is not None and tensors.logits is not None:
        wanted, told = losses.known(tensors.logits)
        kl = losses.softened_kl(heads.token_logits(queries), wanted, weights.temperature)
        terms["tokens"] = losses.weighted_mean(kl, told * tensors.confidence)
    return terms


def _target(tensors: Tensors) -> Tensor:
    """(B, 64, 2): the truth, or the teacher where it is not known."""
    truth, told = losses.known(tensors.truth)
    return torch.where(told[:, None, None], truth, tensors.teacher)


@torch.no_grad()
def planned(student: Student, tensors: Tensors) -> Tensor:
    """(B, 64, 2) normalised actions, as the vehicle would have them."""
    return student.policy(
        gather_features(student, tensors), tensors.history, tensors.history_yaw, tensors.speed,
        tensors.prior, tensors.command, tensors.camera_mask,
    )  # fmt: skip


def errors_m(action: Tensor, tensors: Tensors) -> dict[str, Tensor]:
    """ADE (B,) m against the truth, or the teacher where it is not known, by horizon in s."""
    target = _target(tensors)
    path = losses.positions(action.float(), tensors.speed, tensors.scale)
    off = (path - losses.positions(target, tensors.speed, tensors.scale)).norm(dim=-1)
    return {name: off[:, :count].mean(dim=1) for name, count in HORIZONS.items()}
