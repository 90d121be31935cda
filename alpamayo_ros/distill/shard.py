"""Labelled instants of one drive, as one file of arrays (.npz without pickles).

Frames are stored once, though four instants share each; an instant says which it sees.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.errors import UserError
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.student.inputs import command_of, reduced_to
from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, Plan, PlannerSample, Rows

_LOCAL_HEADER = 30  # bytes of a zip entry's own header; lengths of name and extra are its last four
MISSING = -1  # in frame_index: no such frame
# What every shard has, and what only some teachers give: by name the axes behind the instants'.
REQUIRED: Mapping[str, int] = {
    "t0_ns": 0, "history": 2, "history_yaw": 1, "speed": 0, "acceleration": 0, "yaw_rate": 0,
    "action": 2, "truth": 2, "candidates": 3, "confidence": 0, "frame_index": 2,
    "navigation": 0, "reasoning": 0, "longitudinal": 0, "lateral": 0,
}  # fmt: skip
OPTIONAL: Mapping[str, int] = {"logits": 2, "features": 1, "attention": 3, "maps": 4}
MAP_CELL = 16  # pixels of a reduced image that a cell of `maps` (C, K, rows, columns) is wide
UNKNOWN = 255  # in maps
_FORM = ("cameras", "crop_rows", "input_size")


class LabelError(UserError):
    """Labels that cannot be read or do not fit what is asked of them."""


@dataclass(frozen=True)
class ImageForm:
    """How images are stored: as a student takes them."""

    cameras: tuple[str, ...]
    crop_rows: tuple[Rows, ...]  # one pair a camera
    input_size: tuple[int, int]

    @classmethod
    def of(cls, config: StudentConfig) -> ImageForm:
        """The form that a student takes."""
        return cls(config.cameras, config.crop_rows, config.input_size)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> ImageForm:
        """The inverse of `to_dict`. Raises ModelError."""
        return cls.of(StudentConfig(**{name: entries[name] for name in _FORM}))

    def to_dict(self) -> dict[str, Any]:
        """As YAML and JSON take it."""
        return {
            "cameras": list(self.cameras),
            "crop_rows": list(map(list, self.crop_rows)),
            "input_size": list(self.input_size),
        }


@dataclass
class ShardWriter:
    """Collects instants in rising time; `save` writes them all or nothing."""

    form: ImageForm
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _frames: list[NDArray[np.uint8]] = field(default_factory=list)
    _known: dict[tuple[str, int], int] = field(default_factory=dict)  # (camera, stamp) -> frame

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        sample: PlannerSample,
        plan: Plan,
        confidence: float,
        truth: NDArray[np.float64] | None,
        extras: Mapping[str, NDArray[Any]] | None = None,
        frames: Sequence[int] = range(N_FRAMES),
    ) -> None:
        """One instant; `truth` (64, 2) is what was really driven, or the best there is; of the
        four `frames` those are kept."""
        unknown = np.full_like(plan.action, np.nan)
        self._rows.append(
            {
                "t0_ns": np.int64(sample.t0_ns),
                "history": sample.history_xyz_in_rig_t0.astype(np.float32),
                "history_yaw": geometry.yaw_of(sample.history_rot_in_rig_t0).astype(np.float32),
                "speed": np.float64(sample.speed_mps),
                "acceleration": np.float64(sample.acceleration_mps2),
                "yaw_rate": np.float64(sample.yaw_rate_rps),
                "action": plan.action.astype(np.float32),
                "truth": (unknown if truth is None else truth).astype(np.float32),
                "candidates": plan.candidates_xyz_in_rig_t0.astype(np.float32),
                "confidence": np.float32(confidence),
                "frame_index": self._frame_index(sample, frames),
                "navigation": np.str_(sample.navigation or ""),
                "reasoning": np.str_(plan.reasoning),
                "longitudinal": np.str_(plan.decisions.longitudinal),
                "lateral": np.str_(plan.decisions.lateral),
                **(extras or {}),
            }
        )

    def _frame_index(self, sample: PlannerSample, frames: Sequence[int]) -> NDArray[np.int32]:
        """(C, 4) into the frames, which are reduced and stored when first seen."""
        rows = {CAMERA_NAMES[index]: row for row, index in enumerate(sample.camera_indices)}
        index = np.full((len(self.form.cameras), N_FRAMES), MISSING, np.int32)
        for place, name in enumerate(self.form.cameras):
            row = rows.get(name)
            for frame in frames if row is not None else ():
                key = name, int(sample.image_stamps_ns[row, frame])
                if key not in self._known:
                    self._known[key] = len(self._frames)
                    image = sample.images[row, frame]
                    self._frames.append(
                        reduced_to(image, self.form.crop_rows[place], self.form.input_size)
                    )
                index[place, frame] = self._known[key]
        return index

    def save(self, path: Path) -> None:
        """Write to a name beside, then rename: a file that is there is whole."""
        names = [name for name in (*REQUIRED, *OPTIONAL) if self._rows and name in self._rows[0]]
        arrays = {name: np.stack([row[name] for row in self._rows]) for name in names}
        arrays["frames"] = np.stack(self._frames) if self._frames else np.zeros(0, np.uint8)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            # Not compressed, so that frames are mapped and not read; pictures hardly shrink anyway.
            # Times in the archive are 1980: the same labels are the same bytes.
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, array in arrays.items():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


@dataclass(frozen=True)
class Shard:
    """One file's arrays in memory; its frames stay in the file."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.arrays["t0_ns"]) if "t0_ns" in self.arrays else 0

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(M, H, W, 3) reduced images of all cameras, mapped anew: a map holds the file open, and
        there may be more shards than files may be open. Raises LabelError."""
        return _mapped(self.path, "frames")

    def commands(self) -> NDArray[np.int64]:
        """(n,) the navigation texts as the student's commands."""
        return np.array([command_of(str(text)) for text in self.arrays["navigation"]], np.int64)


def read_shard(path: Path, names: tuple[str, ...] | None = None) -> Shard:
    """A shard's arrays, or those named. Raises LabelError on a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            listed = set(archive.files)
            wanted = (listed if names is None else listed & set(names)) - {"frames"}
            arrays = {name: archive[name] for name in sorted(wanted)}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise LabelError(
            f"cannot read labels {path}: {error}; delete the file and label again, the rest is kept"
        ) from error
    lacking = [name for name in REQUIRED if name not in listed]
    if lacking and listed != {"frames"}:
        raise LabelError(f"{path} lacks {', '.join(lacking)}: it was not written by alpamayo")
    return Shard(path, arrays)


def _mapped(path: Path, name: str) -> NDArray[Any]:
    """An array of an archive that is not compressed, without reading it."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(f"{name}.npy")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise LabelError(f"{path} is compressed, which labels are not: label again")
            # The local header repeats the name, and may have another extra field than the list.
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER)
            lengths = np.frombuffer(header[-4:], "<u2")
            file.seek(int(lengths.sum()), os.SEEK_CUR)
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0}[version]  # fmt: skip
            shape, fortran, dtype = read(file)
            if not all(shape):
                return np.zeros(shape, dtype)
            order: Literal["F", "C"] = "F" if fortran else "C"
            return np.memmap(path, dtype, "r", file.tell(), shape, order)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise LabelError(
            f"cannot map {name} of {path}: {error}; delete it and label again"
        ) from error
