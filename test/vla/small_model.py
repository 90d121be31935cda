"""Random tiny models, prompts of made-up pictures, and a sample as the pipeline gives it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from alpamayo_ros.types import CAMERA_NAMES, PlannerSample, Pose3
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.prompt import left_padded

IMAGE_TOKENS = 6  # 64 x 96 pixels: the model does not care, and a test is ten times as fast
T0_NS = 1_700_000_000_000_000_000


@lru_cache(maxsize=2)
def model(version: str) -> AlpamayoModel:
    """One model a version for all tests; none may change it."""
    return random_model("tiny", version, torch.device("cpu"), torch.float32, seed=3)


def row(version: str, images: int, route: int = 0, seed: int = 0) -> list[int]:
    """Ids of a prompt with that many pictures and route tokens; its text is made up."""
    vocabulary = model(version).vocabulary
    rng = np.random.default_rng(seed)

    def words(count: int) -> list[int]:
        return rng.integers(0, 1024, count).tolist()

    image = [vocabulary.vision_start, *[vocabulary.image_pad] * IMAGE_TOKENS, vocabulary.vision_end]
    ids = [*words(9)]
    for _ in range(images):
        ids += [*words(2), *image]
    history = rng.integers(vocabulary.history_token_start, vocabulary.traj_token_end, 48)
    ids += [vocabulary.traj_history_start, *history.tolist(), vocabulary.traj_history_end]
    if route:
        route_ids = vocabulary.id_of("route_start"), vocabulary.id_of("route_end")
        ids += [route_ids[0], *words(route), route_ids[1]]
    return [*ids, *words(7), vocabulary.id_of("cot_start")]


def pictures(images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and grid of made-up pictures."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.tensor([[1, 4, 6]]).expand(images, 3).contiguous()
    return torch.rand(images * 24, 1536, generator=generator) * 2 - 1, grid


def prompt(version: str, rows: list[list[int]], images: list[int]) -> Prompt:
    """A batch; row b has `images[b]` pictures of its own, the same whatever stands beside it."""
    ids, attention = left_padded(rows, model(version).vocabulary.pad)
    parts = [pictures(count, seed=count) for count in images]
    return Prompt(
        ids, attention, torch.cat([p for p, _ in parts]), torch.cat([g for _, g in parts])
    )


def history(rows: int = 1, speed_mps: float = 8.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight on at a constant speed, (rows, 16, 3) and (rows, 16, 3, 3)."""
    xyz = torch.zeros(rows, 16, 3)
    xyz[..., 0] = torch.arange(-15, 1) * 0.1 * speed_mps
    return xyz, torch.eye(3).expand(rows, 16, 3, 3).clone()


def sample(cameras: tuple[str, ...], **changed: Any) -> PlannerSample:
    """A sample at the model's picture size, of noise."""
    indices = sorted(CAMERA_NAMES.index(name) for name in cameras)
    rng = np.random.default_rng(len(cameras))
    xyz, rot = (tensor[0].numpy() for tensor in history())
    fields: dict[str, Any] = {
        "t0_ns": T0_NS,
        "images": rng.integers(0, 256, (len(indices), 4, 320, 576, 3), np.uint8),
        "image_stamps_ns": np.tile(T0_NS + np.arange(-3, 1) * 100_000_000, (len(indices), 1)),
        "camera_indices": np.array(indices),
        "history_xyz_in_rig_t0": xyz,
        "history_rot_in_rig_t0": rot,
        "speed_mps": 8.0,
        "acceleration_mps2": 0.0,
        "yaw_rate_rps": 0.0,
        "odometry_from_rig_t0": Pose3(np.zeros(3), np.eye(3)),
    }
    return PlannerSample(**{**fields, **changed})
