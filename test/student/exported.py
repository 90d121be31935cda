"""A tiny student with weights that matter, its manifest, and drives made of seeded noise."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from alpamayo_ros import action_space, geometry
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.manifest import Manifest, load_manifest
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.types import (
    CAMERA_NAMES,
    FRAME_STEP_NS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    N_FRAMES,
    N_HISTORY,
    PlannerSample,
)

LICENCE = "NVIDIA OneWay, non-commercial"  # a teacher's, as it reaches a student
CAMERAS = ("cross_left", "front_wide", "cross_right", "front_tele")
START_NS = 1_700_000_000_000_000_000


def tiny_config(head: str = "regression", **changes: Any) -> StudentConfig:
    """0.2 million parameters, most of them timm's smallest backbone."""
    return replace(
        StudentConfig(
            input_size=(64, 112),
            backbone="test_efficientnet",
            width=48,
            heads=3,
            encoder_layers=1,
            decoder_layers=1,
            tokens=2,
            neck_channels=8,
            head=head,
        ),
        **changes,
    )


def write_student(folder: Path, head: str = "regression", name: str = "tiny") -> Path:
    """Random weights and a manifest for PyTorch in `folder`; the manifest."""
    import torch
    from safetensors.torch import save_file

    from alpamayo_ros.student.model import Student

    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(head)
    torch.manual_seed(0)
    student = Student(config)
    with torch.no_grad():
        # The last layer starts at zero, and nothing before it would be seen.
        torch.nn.init.normal_(student.out.weight, std=0.1)
        # Batch norms as after training: their statistics are those of what comes in.
        student.train()
        for _ in range(30):
            student.encode(torch.randn(2, 4, 3, *config.input_size))
    save_file(student.state_dict(), folder / "student.safetensors", {"licence": LICENCE})
    content = {
        "name": name,
        "backend": "student",
        "licence": LICENCE,
        "cameras": {"minimum": 1, "maximum": 4, "allowed": list(CAMERAS)},
        "takes_navigation": True,
        "options": {
            "runtime": "torch",
            "weights": "student.safetensors",
            "sha256": {"student.safetensors": file_sha256(folder / "student.safetensors")},
            "architecture": config.to_dict(),
        },
    }
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def frame(camera: int, stamp_ns: int) -> NDArray[np.uint8]:
    """The picture of a camera at a stamp: blocks of colours, the same whenever it is asked for."""
    rng = np.random.default_rng([camera, stamp_ns // 1_000_000])
    blocks = rng.integers(0, 256, (IMAGE_HEIGHT // 16, IMAGE_WIDTH // 16, 3), np.uint8)
    return np.repeat(np.repeat(blocks, 16, axis=0), 16, axis=1)


def sample(
    newest_ns: int,
    cameras: Sequence[str] = CAMERAS,
    stamps: NDArray[np.int64] | None = None,
    **changes: Any,
) -> PlannerSample:
    """A left-hand bend at 8 m/s with the frames of `stamps` (C, 4); else 10 Hz to `newest_ns`."""
    indices = np.array([CAMERA_NAMES.index(name) for name in cameras])
    if stamps is None:
        row = newest_ns - np.arange(N_FRAMES - 1, -1, -1) * FRAME_STEP_NS
        stamps = np.broadcast_to(row, (len(indices), N_FRAMES))
    images = np.stack([
        np.stack([frame(int(camera), int(stamp)) for stamp in row])
        for camera, row in zip(indices, stamps)
    ])  # fmt: skip
    times = np.arange(1 - N_HISTORY, 1) * 0.1
    values = {
        "t0_ns": newest_ns,
        "images": images,
        "image_stamps_ns": stamps,
        "camera_indices": indices,
        "history_xyz_in_rig_t0": np.stack([8 * times, 0.4 * times**2, 0 * times], axis=1),
        "history_rot_in_rig_t0": geometry.yaw_to_rotation(0.1 * times),
        "speed_mps": 8.0,
        "acceleration_mps2": 0.5,
        "yaw_rate_rps": 0.1,
        "odometry_from_rig_t0": geometry.identity_pose(),
    }
    return PlannerSample(**{**values, **changes})


def drive(count: int, step_ns: int = FRAME_STEP_NS) -> Iterator[PlannerSample]:
    """Samples that follow each other, with other motions each."""
    for index in range(count):
        yield sample(
            START_NS + index * step_ns,
            speed_mps=4.0 + index % 7,
            acceleration_mps2=0.3 * (index % 3 - 1),
            yaw_rate_rps=0.05 * (index % 5 - 2),
            navigation=("turn left", None, "go straight", "turn right in 30 m")[index % 4],
        )


def true_future(given: PlannerSample) -> NDArray[np.float64]:
    """(64, 3) of a vehicle that brakes a little and bends away: metres from any tiny plan."""
    action = np.tile([-0.4, 0.004], (64, 1))
    return action_space.integrate(action, given.speed_mps)[0]


def manifest_of(path: Path, **options: Any) -> Manifest:
    """A manifest with some of its options changed."""
    return load_manifest(str(path)).with_options(options)


def export_onnx(manifest: Path, out: Path) -> Path:
    """The fp32 export of a student; its manifest."""
    from alpamayo_ros.deployment.exporting import ExportRequest, export

    return export(load_manifest(str(manifest)), ExportRequest("onnx", "fp32", out)).manifest


def copy_of(manifest: Path, folder: Path) -> Path:
    """A copy of a manifest's folder, to spoil."""
    return Path(shutil.copytree(manifest.parent, folder, dirs_exist_ok=True))
