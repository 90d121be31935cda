"""A model's manifest: what it is, what it needs, under which licence. YAML in models/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alpamayo_ros import resources
from alpamayo_ros.errors import ModelError
from alpamayo_ros.rig_check import Mounting
from alpamayo_ros.types import CAMERA_NAMES
from alpamayo_ros.yaml_text import YamlError, read_yaml

REQUIRED = ("name", "backend", "licence", "cameras")


@dataclass(frozen=True, slots=True)
class CameraRequirement:
    """How many cameras a model takes, and which."""

    minimum: int
    maximum: int
    allowed: tuple[str, ...]

    def check(self, cameras: tuple[str, ...], model: str) -> None:
        """Raises ModelError where the model cannot take these cameras."""
        if not self.minimum <= len(cameras) <= self.maximum:
            wanted = (
                str(self.minimum)
                if self.minimum == self.maximum
                else f"{self.minimum} to {self.maximum}"
            )
            raise ModelError(
                f"model {model} takes {wanted} cameras, {len(cameras)} are configured: "
                f"{', '.join(cameras) or 'none'}"
            )
        unknown = [name for name in cameras if name not in self.allowed]
        if unknown:
            raise ModelError(
                f"model {model} does not know camera {', '.join(unknown)}; it takes "
                f"{', '.join(self.allowed)}"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a YAML file in models/ says of one model."""

    name: str
    backend: str  # key of backends.registry.BACKENDS
    licence: str
    cameras: CameraRequirement
    takes_navigation: bool
    options: Mapping[str, Any]  # the backend's own
    path: Path  # relative file names in `options` start from its folder
    takes_questions: bool = False
    uses_images: bool = True  # False: cameras need not be rendered for it
    rig: Mapping[str, Mounting] = field(default_factory=dict)  # it was trained on; empty: unknown
    note: str = ""  # what every user of its plans should know, such as "weights are random"

    def with_options(self, overrides: Mapping[str, Any]) -> Manifest:
        """The same model with some of its options set to other values."""
        return replace(self, options={**self.options, **overrides})

    @property
    def fingerprint(self) -> str:
        """Another one for other weights, where the options have their sha256, or other options."""
        content = json.dumps([self.name, self.backend, self.options], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def introduction(self) -> str:
        """One line for whoever loads it: name, licence and note."""
        note = f"; note: {self.note}" if self.note else ""
        return f"model {self.name}, licence {self.licence}{note}"


_IN_FOLDER = "manifest.yaml"


def load_manifest(model: str) -> Manifest:
    """A manifest by model name or by path. Raises ModelError.

    A shipped model is models/<name>.yaml, or models/<name>/manifest.yaml with its files beside it.
    """
    looks_like_path = resources.is_path(model)
    path = Path(model) if looks_like_path else _shipped_path(model)
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        where = f"{path} does not exist" if looks_like_path else f"no model {model!r}"
        raise ModelError(f"{where}. {_shipped()}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except YamlError as error:
        raise ModelError(f"{path} is {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no manifest: a mapping with {', '.join(REQUIRED)} is wanted")
    missing = [key for key in REQUIRED if key not in content]
    if missing:
        raise ModelError(f"{path} lacks {', '.join(missing)}")
    options = content.get("options") or {}
    if not isinstance(options, dict):
        raise ModelError(f"{path}: `options` wants a mapping, got {options!r}")
    note = content.get("note") or ""
    if not isinstance(note, str):
        raise ModelError(f"{path}: `note` wants a text, got {note!r}")
    return Manifest(
        name=str(content["name"]),
        backend=str(content["backend"]),
        licence=str(content["licence"]),
        cameras=_cameras(content["cameras"], path),
        takes_navigation=_flag(content, "takes_navigation", path),
        options=options,
        path=path,
        takes_questions=_flag(content, "takes_questions", path),
        uses_images=_flag(content, "uses_images", path, default=True),
        rig=_rig(content.get("rig") or {}, path),
        note=" ".join(note.split()),
    )


def _rig(entry: Any, path: Path) -> Mapping[str, Mounting]:
    wanted = "a mapping of cameras, each with numbers `horizontal_fov_deg` and `yaw_deg`"
    try:
        rig = {
            name: Mounting(float(values["horizontal_fov_deg"]), float(values["yaw_deg"]))
            for name, values in entry.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: `rig` wants {wanted}, got {entry!r}") from error
    for name, mounting in rig.items():
        if name not in CAMERA_NAMES or not 1.0 <= mounting.horizontal_fov_deg <= 360.0:
            raise ModelError(f"{path}: `rig` has {name}: {mounting}; wanted {wanted}")
    return rig


def _flag(content: Mapping[str, Any], name: str, path: Path, default: bool = False) -> bool:
    value = content.get(name, default)
    if not isinstance(value, bool):
        raise ModelError(f"{path}: `{name}` wants true or false, got {value!r}")
    return value


def _cameras(entry: Any, path: Path) -> CameraRequirement:
    try:
        listed = entry.get("allowed", list(CAMERA_NAMES))
        if not isinstance(listed, list):
            raise TypeError("allowed")
        allowed = tuple(listed)
        requirement = CameraRequirement(int(entry["minimum"]), int(entry["maximum"]), allowed)
        if not 1 <= requirement.minimum <= requirement.maximum:
            raise ValueError("minimum")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: `cameras` wants integers 1 <= `minimum` <= `maximum` and optionally a "
            f"list `allowed`, got {entry!r}"
        ) from error
    unknown = [name for name in allowed if name not in CAMERA_NAMES]
    if unknown:
        raise ModelError(f"{path}: unknown camera {', '.join(map(str, unknown))}")
    return requirement


def _shipped_path(model: str) -> Path:
    models = resources.resource("models")
    folder = models / model / _IN_FOLDER
    return folder if folder.is_file() else models / f"{model}.yaml"


def shipped_models() -> list[str]:
    """The names of all models that come with the package."""
    models = resources.resource("models")
    alone = [path.stem for path in models.glob("*.yaml")]
    return sorted(alone + [path.parent.name for path in models.glob(f"*/{_IN_FOLDER}")])


def _shipped() -> str:
    names = shipped_models()
    return f"Shipped models: {', '.join(names)}; or give the path of a manifest."
