"""A training's state and a student's weights: safetensors, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.student.config import StudentConfig, student_config
from alpamayo_ros.student.model import Student

WEIGHTS = "student.safetensors"
MANIFEST = "student.yaml"
CONFIG_KEY = "alpamayo_student"  # in the file's metadata: the configuration as JSON


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Under a name beside, then renamed."""
    partial = path.with_suffix(".partial")
    # contiguous(): channels_last tensors are not, and safetensors refuses them.
    save_file(
        {k: t.detach().cpu().contiguous() for k, t in tensors.items()}, partial, dict(metadata)
    )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error


def read_licence(path: Path) -> str:
    """Of a weights file; `unknown` where it does not say. Raises ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get("licence", "unknown"))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 of weights, whatever file they are in: safetensors writes its metadata in any order,
    so that the same weights are not the same bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_student(
    folder: Path, student: Student, state: Mapping[str, Tensor], licence: str, note: str
) -> Path:
    """Weights and the manifest that the backend `student` loads; the manifest's path."""
    config = student.config
    metadata = {CONFIG_KEY: json.dumps(config.to_dict()), "licence": licence}
    write_tensors(folder / WEIGHTS, state, metadata)
    cameras = len(config.cameras)
    content = {
        "name": config.name,
        "backend": "student",
        "licence": licence,
        "cameras": {"minimum": 1, "maximum": cameras, "allowed": list(config.cameras)},
        "takes_navigation": config.takes_navigation,
        "note": note,
        "options": {
            "runtime": "torch",
            "weights": WEIGHTS,
            "sha256": {WEIGHTS: file_sha256(folder / WEIGHTS)},
            "architecture": config.to_dict(),
        },
    }
    path = folder / MANIFEST
    partial = path.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    partial.replace(path)
    return path


def load_student(path: Path) -> tuple[Student, str]:
    """(student in evaluation mode, licence) of a weights file. Raises ModelError."""
    tensors, metadata = read_tensors(path)
    if CONFIG_KEY not in metadata:
        raise ModelError(f"{path} holds no student: it has no configuration in its metadata")
    config: StudentConfig = student_config(json.loads(metadata[CONFIG_KEY]), str(path))
    student = Student(config)
    load_strictly(student, tensors, path)
    return student.eval(), metadata.get("licence", "unknown")


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """All tensors, and no others. Raises ModelError naming the first that does not fit."""
    wanted: Mapping[str, Any] = module.state_dict()
    odd = sorted(set(wanted) ^ set(tensors)) or [
        name for name in wanted if wanted[name].shape != tensors[name].shape
    ]
    if odd:
        raise ModelError(f"{path} does not fit the configuration: {odd[0]} and {len(odd) - 1} more")
    module.load_state_dict(dict(tensors))


def finite(module: nn.Module) -> bool:
    """Whether no parameter is infinite or not a number."""
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())
