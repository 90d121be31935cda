"""The configuration of a training: a chain of students, each taught by the one before.

labels: [labels, round2]        # folders; relative ones start where the command is run
stages:
  - name: student
    student: student_light      # config/student_light.yaml, or a path, or the mapping itself
    steps: 20000
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alpamayo_ros import resources
from alpamayo_ros.errors import UserError
from alpamayo_ros.student.config import StudentConfig, load_student_config, student_config
from alpamayo_ros.yaml_text import YamlError, read_yaml


class TrainConfigError(UserError):
    """A training's configuration that cannot be used; the message names file and key."""


@dataclass(frozen=True)
class LossWeights:
    """Of the terms in losses.py."""

    alpha: float = 1.0
    beta: float = 0.5
    gamma: float = 0.1
    delta: float = 0.3
    attention: float = 0.0  # of looking where the teacher looks, where the labels tell it
    sight: float = 1.0  # of what stands where in a picture, where the labels tell it
    temperature: float = 4.0
    huber_delta: float = 1.0
    waypoints: float = 0.5  # share of the first two that is of positions, not of actions
    near_unit: float = 0.3  # m of position error that count as one at t0 …
    metres_unit: float = 5.0  # … growing with the square of time to this at 6.4 s
    across: float = 2.0  # weight of an error across the way; of one along it: 1


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random, clip by clip."""

    colour: float = 0.1  # of brightness and contrast
    noise: float = 0.01  # of full scale, a pixel
    shift: int = 1  # pixels of the reduced image, to any side
    camera_drop: float = 0.5  # chance of each camera but the one ahead to be missing from a clip
    speed_mps: float = 0.1  # noise of speed at t0; the target's first second makes up for it
    yaw_rate_rps: float = 0.01  # noise of the prior's turn; the target stays
    acceleration_mps2: float = 0.2  # and of its acceleration
    history_m: float = 0.01
    history_drop: float = 0.2  # chance that an instant's history is not told
    foreign: float = 0.0  # chance that a clip's pictures are of no known camera; target: the prior


@dataclass(frozen=True)
class StageConfig:
    """One student."""

    name: str = "student"
    student: StudentConfig = field(default_factory=StudentConfig)
    teacher: str = ""  # an earlier stage whose plans take the teacher's place; empty: the labels'
    start: str = ""  # safetensors to start from: a student of the same configuration
    steps: int = 10000
    clips: int = 8  # a step; instants a step: clips x clip_length
    clip_length: int = 4  # consecutive instants, which share frames
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warm_up: int = 200
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 1
    precision: str = "auto"  # fp32, bf16, or auto: bf16 on a GPU
    validate_every: int = 500
    checkpoint_every: int = 500
    loss: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class TrainConfig:
    """A chain."""

    labels: tuple[Path, ...]
    stages: tuple[StageConfig, ...]
    validation_share: float = 0.08  # of the shards, chosen by their names
    device: str = "auto"
    threads: int = 0
    loaders: int = 1  # processes that make batches; 1: the training's own
    ray: str = ""  # a Ray cluster that makes them instead


_PARTS = {"loss": LossWeights, "augmentation": Augmentation}


def load_train_config(path: Path, labels: list[Path] | None = None, **given: Any) -> TrainConfig:
    """A YAML file; `given` values that are not empty take the place of the file's.

    Raises TrainConfigError, ModelError.
    """
    try:
        content = read_yaml(path, aliases=True)  # stages of a chain have much in common
    except (OSError, YamlError) as error:
        raise TrainConfigError(f"cannot read {path}: {error}") from error
    config = train_config(content, str(path), labels)
    return replace(config, **{name: value for name, value in given.items() if value})


def train_config(content: Any, where: str, labels: list[Path] | None = None) -> TrainConfig:
    """The same from a mapping; `labels` take the place of the file's."""
    values = dict(_checked(content, TrainConfig, where))
    stages = values.pop("stages", None)
    if not isinstance(stages, list) or not stages:
        raise TrainConfigError(f"{where}: `stages` wants a list of at least one student")
    folders = labels or [Path(str(entry)) for entry in values.get("labels") or []]
    if not folders:
        raise TrainConfigError(f"{where}: `labels` names no folder; give --labels LABELS")
    values["labels"] = tuple(folders)
    values["stages"] = tuple(_stage(entry, f"{where}: stage {i}") for i, entry in enumerate(stages))
    config = TrainConfig(**values)
    names = [stage.name for stage in config.stages]
    for index, stage in enumerate(config.stages):
        if stage.teacher and stage.teacher not in names[:index]:
            raise TrainConfigError(f"{where}: {stage.name}'s teacher {stage.teacher} is not before")
    if len(set(names)) < len(names):
        raise TrainConfigError(f"{where}: two stages have one name: {', '.join(names)}")
    return config


def _stage(content: Any, where: str) -> StageConfig:
    values = dict(_checked(content, StageConfig, where))
    student = values.pop("student", None)
    if student is None:
        raise TrainConfigError(f"{where}: `student` is missing: a name, a path or a mapping")
    named = isinstance(student, str)
    values["student"] = student_by_name(student) if named else student_config(student, where)
    for name, kind in _PARTS.items():
        values[name] = kind(**_checked(values.get(name) or {}, kind, f"{where}: {name}"))
    stage = StageConfig(**values)
    for name in ("steps", "clips", "clip_length", "validate_every", "checkpoint_every"):
        if getattr(stage, name) < 1:
            raise TrainConfigError(f"{where}: {name} wants 1 or more")
    if stage.precision not in ("auto", "fp32", "bf16"):
        raise TrainConfigError(f"{where}: precision is {stage.precision!r}: auto, fp32 or bf16")
    return stage


def student_by_name(student: str) -> StudentConfig:
    """config/NAME.yaml or a path. Raises ModelError, UserError."""
    if resources.is_path(student):
        return load_student_config(Path(student))
    return load_student_config(resources.resource("config", f"{student}.yaml"))


def _checked(content: Any, kind: type, where: str) -> Mapping[str, Any]:
    """A mapping of known keys and numbers that are numbers."""
    if not isinstance(content, Mapping):
        raise TrainConfigError(f"{where}: a mapping is wanted, got {content!r}")
    entries = {entry.name: entry for entry in dataclasses.fields(kind)}
    unknown = [str(key) for key in content if key not in entries]
    if unknown:
        raise TrainConfigError(
            f"{where}: unknown {', '.join(unknown)}; known: {', '.join(entries)}"
        )
    for key, value in content.items():
        wanted = {"int": int, "float": (int, float), "str": str}.get(str(entries[key].type))
        if wanted and (isinstance(value, bool) or not isinstance(value, wanted)):  # type: ignore[arg-type]
            raise TrainConfigError(f"{where}: {key} is {value!r}, wanted {entries[key].type}")
    return content
