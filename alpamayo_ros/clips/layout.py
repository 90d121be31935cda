"""Where the parts of a PhysicalAI-AV clip lie in a download of the dataset.

`features.csv` names a file per feature and chunk and the members of it that belong to a clip;
`clip_index.parquet` says which chunk a clip is in, a table under metadata which features it has.
Stamps are microseconds on the clip's own clock.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alpamayo_ros.errors import UserError
from alpamayo_ros.types import CAMERA_NAMES

_CAMERA = re.compile(r"camera_(.+)_\d+fov")
# Which features each clip has; the second is its name before version 26.03 of the dataset.
_PRESENCE = ("metadata/feature_presence.parquet", "metadata/sensor_presence.parquet")


# What zipfile raises for a damaged archive; RuntimeError where a damaged header says that a member
# is encrypted, or compressed in a way it does not know.
_DAMAGES = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError)


class ClipError(UserError):
    """A clip that cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Templates of one feature's files; `members` is empty for a file of the whole chunk."""

    chunk_path: str
    members: Mapping[str, str]


class Dataset:
    """A download of the dataset, or a part of one. Raises UserError where it is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        index = root / "clip_index.parquet"
        listing = root / "features.csv"
        for path in (index, listing):
            if not path.is_file():
                raise UserError(
                    f"{root} is no PhysicalAI-AV dataset: no {path.name}; "
                    "name its folder with --root"
                )
        self.features = _features(listing)
        table = read_parquet(index)
        self._chunks = dict(zip(clip_ids(table), table["chunk"]))
        self.presence = Presence(root)

    @property
    def clips(self) -> list[str]:
        """Every clip of the index."""
        return sorted(self._chunks)

    def cameras(self, clip: str) -> dict[str, str]:
        """The model's name of each camera whose chunk or video is here -> its feature."""
        every = self.camera_features().items()
        return {name: feature for name, feature in every if self._is_here(clip, feature)}

    def camera_features(self) -> dict[str, str]:
        """The model's name of each camera of the dataset -> its feature."""
        found = {}
        for feature in self.features:
            match = _CAMERA.fullmatch(feature)
            if match and match[1] in CAMERA_NAMES:
                found[match[1]] = feature
        return dict(sorted(found.items(), key=lambda item: CAMERA_NAMES.index(item[0])))

    def chunk_table(self, clip: str, feature: str) -> dict[str, list[Any]]:
        """The rows of one clip in a parquet file of its chunk. Raises ClipError."""
        path = self._chunk_path(clip, feature)
        if not path.is_file():
            raise ClipError(f"{clip}: {path} is missing; download feature {feature}")
        table = read_parquet(path)
        rows = [k for k, name in enumerate(clip_ids(table)) if name == clip]
        if not rows:
            raise ClipError(f"{clip}: {path} has no row of it")
        return {name: [column[k] for k in rows] for name, column in table.items()}

    @contextmanager
    def member(self, clip: str, feature: str, name: str) -> Iterator[Path]:
        """A file of one clip out of its chunk's archive, while the block lasts.

        Copied to disk, not to memory: videos are tens of megabytes. An extracted file beside the
        archive is taken as it is. Raises ClipError.
        """
        path = self._chunk_path(clip, feature)
        inside = self.features[feature].members[name].format(clip_id=clip)
        beside = [path.parent / inside, path.with_suffix("") / inside]
        for extracted in beside:
            if extracted.is_file():
                yield extracted
                return
        if not path.is_file():
            raise ClipError(f"{clip}: {path} is missing; download feature {feature}")
        with TemporaryDirectory(prefix="alpamayo-") as folder:
            target = Path(folder) / Path(inside).name
            try:
                with zipfile.ZipFile(path) as archive, archive.open(inside) as source:
                    with target.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
            except _DAMAGES as error:
                raise ClipError(f"{clip}: {inside} in {path}: {error}") from error
            yield target

    def _chunk_path(self, clip: str, feature: str) -> Path:
        if clip not in self._chunks:
            raise ClipError(f"{clip} is not in {self.root / 'clip_index.parquet'}")
        if feature not in self.features:
            raise ClipError(f"{clip}: {self.root / 'features.csv'} has no feature {feature}")
        return self.root / self.features[feature].chunk_path.format(
            chunk_id=int(self._chunks[clip])
        )

    def _is_here(self, clip: str, feature: str) -> bool:
        path = self._chunk_path(clip, feature)
        inside = self.features[feature].members.get("video", "").format(clip_id=clip)
        return (
            path.is_file()
            or (path.parent / inside).is_file()
            or (path.with_suffix("") / inside).is_file()
        )


class Presence:
    """The dataset's table of the features that each clip has; without it, nothing is lacking."""

    def __init__(self, root: Path) -> None:
        """Raises UserError where the table is there and cannot be read."""
        paths = (root / name for name in _PRESENCE)
        self.path = next((path for path in paths if path.is_file()), None)
        # Arrow's columns, since 300 000 clips of 40 features are slow as Python lists.
        self._columns: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        if self.path is None:
            return
        table = _read_arrow(self.path)
        self._columns = {name: table.column(name) for name in table.column_names}
        try:
            clips = self._columns[_ids_column(self._columns)].to_pylist()
        except ClipError as error:
            raise UserError(f"{self.path}: {error}; download it again, or remove it") from error
        self._rows = {str(clip): row for row, clip in enumerate(clips)}

    def lacks(self, clip: str, feature: str) -> bool:
        """Whether the table says that a clip is without a feature."""
        if clip not in self._rows or feature not in self._columns:
            return False
        # False itself: the older table has columns that are not of booleans, and a value may be
        # missing.
        return self._columns[feature][self._rows[clip]].as_py() is False


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """Column -> values, a pandas index among them. Raises UserError, ClipError."""
    table: dict[str, list[Any]] = _read_arrow(path).to_pydict()
    return table


def _read_arrow(path: Path) -> Any:
    """A pyarrow.Table."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "reading parquet needs pyarrow, which is not installed: "
            "pip install 'alpamayo_ros[convert]'"
        ) from error
    try:
        return pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ClipError(f"{path} cannot be read: {error}") from error


def clip_ids(table: Mapping[str, list[Any]]) -> list[str]:
    """The column of clips. Raises ClipError."""
    return [str(value) for value in table[_ids_column(table)]]


def _ids_column(names: Collection[str]) -> str:
    """The name of the column of clips: its own, or pandas' for an index without one."""
    for name in ("clip_id", "__index_level_0__"):
        if name in names:
            return name
    raise ClipError(f"no column clip_id among {', '.join(names)}")


def _features(path: Path) -> dict[str, Feature]:
    features = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            members = row.get("clip_files_in_zip") or ""
            try:
                parsed = json.loads(members) if members else {}
                features[row["feature"]] = Feature(row["chunk_path"], parsed)
            except (KeyError, ValueError) as error:
                raise UserError(f"{path} cannot be read: {error}") from error
    return features
