"""A student, a sample and labels small enough for tests; no PyTorch is imported here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from alpamayo_ros.distill.shard import ImageForm, ShardWriter
from alpamayo_ros.distill.store import LabelStore, Origin
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.types import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Decisions,
    Plan,
    PlannerSample,
    Pose3,
    ReasoningSource,
)

CONFIG = StudentConfig(
    name="small",
    crop_rows=((64, 320),),
    input_size=(32, 64),
    backbone="mobilenetv3_small_050",
    stride=16,
    neck_channels=4,
    tokens=2,
    width=32,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
)
FORM = ImageForm.of(CONFIG)
STEP_NS = 100_000_000


def sample(number: int = 0, cameras: tuple[int, ...] = (0, 1, 2, 6), speed: float = 8.0):
    """A moving rig's sample at number x 0.1 s; its pixels are the stamps' own."""
    t0_ns = 10_000_000_000 + number * STEP_NS
    stamps = t0_ns + np.arange(-3, 1) * STEP_NS
    images = np.stack([[_frame(c, int(s)) for s in stamps] for c in cameras])
    times = np.arange(-15, 1) * 0.1
    history = np.stack([speed * times, 0.02 * times**2, 0 * times], axis=1)
    return PlannerSample(
        t0_ns=t0_ns,
        images=images,
        image_stamps_ns=np.tile(stamps, (len(cameras), 1)),
        camera_indices=np.array(cameras),
        history_xyz_in_rig_t0=history,
        history_rot_in_rig_t0=np.tile(np.eye(3), (16, 1, 1)),
        speed_mps=speed,
        acceleration_mps2=0.4,
        yaw_rate_rps=0.05,
        odometry_from_rig_t0=Pose3(np.zeros(3), np.eye(3)),
        navigation="Turn left in 30m",
    )


@lru_cache(maxsize=64)
def _frame(camera: int, stamp_ns: int) -> np.ndarray:
    """Kept: the next samples have all but one of a sample's frames."""
    rng = np.random.default_rng([camera, stamp_ns])
    return rng.integers(0, 255, (IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8)


def plan(number: int = 0) -> Plan:
    """A teacher's answer to `sample(number)`: brakes, bends a little."""
    action = np.stack([np.full(64, -0.3), np.full(64, 0.004 + 0.001 * (number % 3))], axis=1)
    xyz, rot = np.zeros((64, 3)), np.tile(np.eye(3), (64, 1, 1))
    return Plan(
        t0_ns=10_000_000_000 + number * STEP_NS,
        xyz_in_rig_t0=xyz,
        rot_in_rig_t0=rot,
        action=action,
        speed_t0_mps=8.0,
        candidates_xyz_in_rig_t0=xyz[None],
        candidates_rot_in_rig_t0=rot[None],
        reasoning=f"Slow down, number {number}.",
        reasoning_source=ReasoningSource.MODEL,
        decisions=Decisions("speed adaptation", "lane keeping and centring"),
        model="teacher",
    )


def write_labels(
    folder: Path,
    licence: str = "Apache-2.0",
    shards: int = 3,
    extras: bool = False,
    form: ImageForm = FORM,
    every: int = 1,
) -> LabelStore:
    """Finished labels: `shards` of six instants, with random logits and features if asked.

    `every` x 0.1 s lie between two instants.
    """
    store = LabelStore(folder, Origin("teacher", licence, form, {}))
    for number in range(shards):
        writer, rng = ShardWriter(form), np.random.default_rng(number)
        for instant in range(6):
            more = {
                "logits": rng.normal(size=(5, 7)).astype(np.float16),
                "features": rng.normal(size=11).astype(np.float16),
                "attention": rng.random((len(form.cameras), 2, 4)).astype(np.float16),
                "maps": rng.integers(0, 2, (len(form.cameras), 3, 2, 4)).astype(np.uint8),
            }
            index = 10 * number + instant * every
            answer = plan(index)
            writer.add(sample(index), answer, 0.9, answer.action, more if extras else None)
        writer.save(store.path(f"drive-{number}"))
    store.finish()
    return store
