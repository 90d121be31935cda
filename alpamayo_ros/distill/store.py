"""A folder of labels: shards, and a manifest that says whose they are.

    LABELS/manifest.json    teacher, licence, image form; sha256, length, recording of every shard
    LABELS/shards/NAME.npz  one drive, or one recording

A shard that is there is whole, so that a labeller that was killed goes on where it was. The
manifest is made of the shards alone and in their names' order: it does not depend on who wrote
them when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.distill.shard import ImageForm, LabelError, read_shard

FORMAT = 1
MANIFEST = "manifest.json"
SHARDS = "shards"


@dataclass(frozen=True)
class Origin:
    """Who made the labels, of what: two runs with another origin do not mix in one folder."""

    teacher: str
    licence: str
    form: ImageForm
    settings: Mapping[str, Any]  # what else decides what the labels are
    teacher_sha256: str = ""  # of the teacher's manifest

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "format": FORMAT,
            "teacher": self.teacher,
            "teacher_sha256": self.teacher_sha256,
            "licence": self.licence,
            "images": self.form.to_dict(),
            "settings": dict(self.settings),
        }


class LabelStore:
    """Labels that are being written."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        """Opens or begins a folder. Raises LabelError where it holds another origin's labels."""
        self.folder, self.origin = folder, origin
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
        path = folder / MANIFEST
        self._recordings: dict[str, str] = {}
        if path.exists():
            there = _read_json(path)
            self._recordings = _recordings(there)
            wanted = json.loads(json.dumps(origin.to_dict()))
            differ = [key for key in wanted if there.get(key) != wanted[key]]
            if differ:
                raise LabelError(
                    f"{folder} holds labels of another making ({', '.join(differ)} differ): give "
                    "another --out, or the same options to go on"
                )
        else:
            _write_json(path, {**origin.to_dict(), "shards": {}, "complete": False})

    def path(self, name: str) -> Path:
        """Where the shard of a name lies."""
        return self.folder / SHARDS / f"{name}.npz"

    def has(self, name: str) -> bool:
        """Whether it is done."""
        return self.path(name).exists()

    @property
    def recordings(self) -> Mapping[str, str]:
        """A shard's name -> path of what it is made of, as far as that was noted."""
        return self._recordings

    def note_recordings(self, recordings: Mapping[str, Path]) -> None:
        """Say what shards will be made of, so that a run that goes on knows it.

        Raises LabelError where one of them is of another recording.
        """
        for name, path in recordings.items():
            noted = self._recordings.get(name)
            if noted is not None and noted != str(path) and self.has(name):
                raise LabelError(
                    f"{self.path(name)} holds the labels of {noted}, and {path} would have the "
                    "same name: give another --out, or rename the recording; where it was only "
                    "moved, move it back"
                )
        self._recordings |= {name: str(path) for name, path in recordings.items()}
        path = self.folder / MANIFEST
        _write_json(path, {**_read_json(path), "recordings": self._recordings})

    def finish(self, failed: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """Write the manifest over all shards; return it. `failed`: what has none now, and why."""
        shards: dict[str, dict[str, Any]] = {}
        for path in sorted((self.folder / SHARDS).glob("*.npz")):
            shards[path.name] = {
                "sha256": file_sha256(path),
                "instants": len(read_shard(path, ("t0_ns",))),
            }
            if path.stem in self._recordings:
                shards[path.name]["recording"] = self._recordings[path.stem]
        content = {**self.origin.to_dict(), "shards": shards, "complete": True}
        if failed:
            content["failed"] = dict(failed)
        _write_json(self.folder / MANIFEST, content)
        return content


@dataclass(frozen=True)
class Labels:
    """A finished folder, checked against its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def shards(self) -> list[Path]:
        """In their names' order; empty ones left out."""
        listed = self.manifest["shards"]
        return [self.folder / SHARDS / name for name in sorted(listed) if listed[name]["instants"]]

    @property
    def form(self) -> ImageForm:
        """How its images are stored."""
        return ImageForm.from_dict(self.manifest["images"])


def _recordings(manifest: Mapping[str, Any]) -> dict[str, str]:
    """By shard's name: of those that are done, and of a run that has not finished."""
    done = {
        Path(name).stem: str(entry["recording"])
        for name, entry in manifest.get("shards", {}).items()
        if "recording" in entry
    }
    return {**done, **manifest.get("recordings", {})}


def open_labels(folder: Path, check: bool = True) -> Labels:
    """Raises LabelError: no labels, not finished, or a shard that is not what the manifest says."""
    path = folder / MANIFEST
    if not path.exists():
        raise LabelError(f"{folder} holds no labels: make them with alpamayo distill collect")
    manifest = _read_json(path)
    if manifest.get("format") != FORMAT:
        raise LabelError(f"{path} has format {manifest.get('format')!r}, this reads {FORMAT}")
    if not manifest.get("complete"):
        raise LabelError(f"{folder} is not finished: run the command that began it again")
    labels = Labels(folder, manifest)
    for shard in labels.shards if check else ():
        if not shard.exists() or file_sha256(shard) != manifest["shards"][shard.name]["sha256"]:
            raise LabelError(f"{shard} is missing or damaged: delete it and label again")
    return labels


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise LabelError(f"{path} is no manifest of labels")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)
