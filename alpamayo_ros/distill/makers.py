"""What makes the shards of `distill collect` and `distill label`, in whatever process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros import resources
from alpamayo_ros.distill.collect import Collection, collect_drive, load_driver
from alpamayo_ros.distill.shard import ImageForm
from alpamayo_ros.distill.store import SHARDS
from alpamayo_ros.errors import UserError
from alpamayo_ros.parameters import PlannerSettings

# Parameters of the node that no label depends on.
_NOT_READ = (
    "model", "backend", "model_options", "chain_of_causation", "isolation", "plan_timeout_s",
    "load_timeout_s", "decode_threads", "ask_timeout_s", "configure_odometry_wait_s", "autostart",
    "path_in_odometry", "safety", "camera_loss", "required_cameras", "image_checks",
)  # fmt: skip


@dataclass(frozen=True)
class DriveMaker:
    """A shard a drive, named KIND-SEED."""

    collection: Collection
    folder: Path

    def open(self) -> Any:
        """The model that drives, if one does."""
        return load_driver(self.collection)

    def do(self, opened: Any, item: str) -> int:
        """Drive and label; the number of instants."""
        kind, _, seed = item.rpartition("-")
        shard = collect_drive(self.collection, opened, kind, int(seed))
        shard.save(self.folder / SHARDS / f"{item}.npz")
        return len(shard)

    def close(self, opened: Any) -> None:
        """Give back the model."""
        if opened is not None:
            opened.close()


@dataclass(frozen=True)
class BagMaker:
    """A shard a recording."""

    teacher: str
    backend: str
    options: tuple[tuple[str, Any], ...]
    bags: tuple[tuple[str, Path], ...]  # (shard's name, bag)
    settings: PlannerSettings
    form: ImageForm
    every: int
    folder: Path
    store: tuple[str, ...] = ()  # soft labels that are asked for

    def open(self) -> Any:
        """The loaded teacher."""
        from alpamayo_ros.backends.registry import create_backend

        teacher = create_backend(self.teacher, self.backend, dict(self.options))
        teacher.load()
        teacher.warm_up([camera.name for camera in self.settings.cameras])
        return teacher

    def do(self, opened: Any, item: str) -> int | str:
        """Label one recording; the number of instants, or why it cannot be labelled."""
        from alpamayo_ros.distill.bags import label_bag

        opened.forget()  # the labels must not depend on what this process had before
        try:
            bag = dict(self.bags)[item]
            shard = label_bag(bag, self.settings, opened, self.form, self.every, self.store)
        except UserError as error:  # the others may be better
            return str(error)
        shard.save(self.folder / SHARDS / f"{item}.npz")
        return len(shard)

    def close(self, opened: Any) -> None:
        """Give back the model."""
        if opened is not None:
            opened.close()


def settings_digest(settings: PlannerSettings) -> str:
    """Another one for parameters by which a recording is read in another way."""
    read = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in _NOT_READ
    }
    read["rig_views"] = _views_text(settings.rig_views)
    text = json.dumps(read, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _views_text(name: str) -> str:
    """What the file says: views are told apart by that, wherever it lies."""
    if not name:
        return ""
    shipped = resources.resource("config", "views") / f"{name}.yaml"
    path = Path(name) if resources.is_path(name) else shipped
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"rig_views {name!r}: cannot read {path}: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """What JSON does not know by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)
