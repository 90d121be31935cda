"""What makes the shards of `distill collect` and `distill label`, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.distill.collect import Collection, collect_drive, load_driver
from alpamayo_ros.distill.shard import ImageForm
from alpamayo_ros.distill.store import SHARDS
from alpamayo_ros.parameters import PlannerSettings


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

    def open(self) -> Any:
        """The loaded teacher."""
        from alpamayo_ros.backends.registry import create_backend

        teacher = create_backend(self.teacher, self.backend, dict(self.options))
        teacher.load()
        teacher.warm_up([camera.name for camera in self.settings.cameras])
        return teacher

    def do(self, opened: Any, item: str) -> int:
        """Label one recording; the number of instants."""
        from alpamayo_ros.distill.bags import label_bag

        bag = dict(self.bags)[item]
        shard = label_bag(bag, self.settings, opened, self.form, self.every)
        shard.save(self.folder / SHARDS / f"{item}.npz")
        return len(shard)

    def close(self, opened: Any) -> None:
        """Give back the model."""
        if opened is not None:
            opened.close()
