"""A chain of students: teacher -> intermediate -> student, and a report of what each step kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alpamayo_ros.commands.common import Progress, write_json
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.distill.checkpoint import (
    WEIGHTS,
    digest_of,
    load_student,
    read_licence,
    save_student,
)
from alpamayo_ros.distill.curve import draw_curves
from alpamayo_ros.distill.data import EVER, Batch, LabelSet
from alpamayo_ros.distill.shard import ImageForm, LabelError, read_shard
from alpamayo_ros.distill.step import errors_m, planned, to_tensors
from alpamayo_ros.distill.store import Labels, open_labels
from alpamayo_ros.distill.train_config import StageConfig, TrainConfig, TrainConfigError
from alpamayo_ros.distill.trainer import METRICS, Teach, Trainer, validation_batches
from alpamayo_ros.jobs import Machines
from alpamayo_ros.student.model import Student
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S, WAYPOINT_STEP_S

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause")
_AND = " AND "
OWN_LICENCE = "Apache-2.0"  # of weights that no label binds otherwise
RETENTION_HORIZON = "6.4"
_AHEAD_NS = round(N_WAYPOINTS * WAYPOINT_STEP_S * NS_PER_S)  # what a label's truth is of


def run_chain(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train every stage that is not done; write OUT/STAGE/, OUT/report.json. Raises UserError."""
    device = _device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    labels = [open_labels(folder) for folder in config.labels]
    of_labels = licence_of([str(entry.manifest["licence"]) for entry in labels])
    teachers = sorted({str(entry.manifest["teacher"]) for entry in labels})
    for stage in config.stages:
        _check_form(stage, labels)
    stages: list[dict[str, Any]] = []
    for stage in config.stages:
        training, validation, seen = _split(labels, config.validation_share, stage.clip_length)
        start = _start(stage)
        binding = [of_labels, *([str(start["licence"])] if start else [])]
        teacher = None
        if stage.teacher:
            teacher, of_teacher = load_student(out / stage.teacher / WEIGHTS)
            binding.append(of_teacher)
        licence = licence_of(binding)
        if not stages:
            _introduce(training, validation, seen, teachers, licence)
        teach = _teach(teacher, device) if teacher is not None else None
        note = f"Distilled from {', '.join(teachers)}. Not for public roads."

        def publish(trainer: Trainer, note: str = note, licence: str = licence) -> None:
            """What there is so far can be driven while the rest is trained."""
            save_student(trainer.folder, trainer.averaged(), trainer.ema, licence, note)

        folder = out / stage.name
        loaders = Machines(config.loaders, config.ray)
        trainer = Trainer(
            stage, training, validation, folder, device, teach, publish, loaders,
            _taught_by(labels, teacher),
        )  # fmt: skip
        progress = Progress(f"training {stage.name}", stage.steps, "steps")
        try:
            figures = trainer.run(progress.update)
        finally:
            progress.close()
        publish(trainer)
        draw_curves(folder / METRICS, folder / "curve.png", stage.name)
        stages.append(
            {
                "name": stage.name,
                "student": stage.student.name,
                "parameters": sum(p.numel() for p in trainer.student.parameters()),
                "steps": trainer.step,
                "teacher": stage.teacher or ", ".join(teachers),
                "licence": licence,
                "start": start,
                "seen_in_training": seen,
                "validation": figures,
                "retention": _retention(figures, teacher, validation, stage, labels, device),
            }
        )
    report = {
        "licence": licence_of([stage["licence"] for stage in stages]),
        "labels": [
            {"folder": e.folder.name, "teacher": e.manifest["teacher"],
             "licence": e.manifest["licence"]} for e in labels
        ],
        "stages": stages,
    }  # fmt: skip
    write_json(out / "report.json", report)
    return report


def licence_of(licences: Sequence[str]) -> str:
    """What a student of labels under these licences is under: whatever is not permissive binds."""
    single = {part for licence in licences for part in licence.split(_AND)}
    binding = sorted(single - set(PERMISSIVE))
    return _AND.join(binding) if binding else OWN_LICENCE


def _introduce(
    training: LabelSet, validation: LabelSet, seen: bool, teachers: Sequence[str], licence: str
) -> None:
    judged = f"{len(validation)} to judge by" + (" (seen in training)" if seen else "")
    print(f"{len(training)} instants to train on, {judged}, {', '.join(teachers)}, "
          f"licence {licence}", file=sys.stderr)  # fmt: skip


def _start(stage: StageConfig) -> dict[str, str] | None:
    """For the report: the weights that a stage starts from, whose licence its student keeps."""
    if not stage.start:
        return None
    path = Path(stage.start)
    return {"file": path.name, "licence": read_licence(path), "sha256": file_sha256(path)}


def _taught_by(labels: Sequence[Labels], teacher: Student | None) -> dict[str, Any]:
    """What a training that goes on has to find as it was."""
    named = [
        {
            "teacher": entry.manifest["teacher"],
            "licence": entry.manifest["licence"],
            "shards": {name: one["sha256"] for name, one in entry.manifest["shards"].items()},
        }
        for entry in labels
    ]
    return {"labels": named, "teacher": digest_of(teacher.state_dict()) if teacher else ""}


def _retention(
    figures: Mapping[str, float],
    teacher: Student | None,
    validation: LabelSet,
    stage: StageConfig,
    labels: Sequence[Labels],
    device: torch.device,
) -> dict[str, float | None]:
    """The student's error over its teacher's, on what is judged by. None: a teacher without an
    error here, whose plan is itself the truth."""
    own = figures[f"ade_{RETENTION_HORIZON}s_m"]
    errors: list[np.ndarray] = []
    for clips in validation_batches(validation, stage.clips):
        tensors = to_tensors(validation.batch(clips, stage.student), stage.student, device)
        action = planned(teacher.to(device), tensors) if teacher else tensors.teacher
        errors.append(errors_m(action, tensors)[RETENTION_HORIZON].cpu().numpy())
    of_teacher = float(np.concatenate(errors).mean())
    ratio = own / of_teacher if of_teacher > 1e-6 else None
    return {"student_ade_m": own, "teacher_ade_m": of_teacher, "error_over_teachers": ratio}


def _teach(teacher: Student, device: torch.device) -> Teach:
    """An earlier student's plans, of the same instants unchanged by colours and noise."""
    teacher = teacher.to(device).eval()

    def teach(batch: Batch) -> np.ndarray:
        tensors = to_tensors(batch, teacher.config, device)
        action = planned(teacher, tensors) * tensors.scale
        return action.cpu().numpy().astype(np.float32)

    return teach


def _split(
    labels: Sequence[Labels], share: float, clip_length: int
) -> tuple[LabelSet, LabelSet, bool]:
    """What to train on, what to judge by, and whether the latter is seen in training.

    Whole shards, as neighbouring instants are too alike to divide; a single one by time.
    """
    shards = [path for entry in labels for path in entry.shards]
    every = max(2, round(1.0 / max(share, 1e-6)))
    held = shards[every - 1 :: every] or shards[-1:]
    rest = [path for path in shards if path not in held]
    if rest:
        return LabelSet(rest, clip_length), LabelSet(held, clip_length), False
    parts = _split_by_time(shards[0], share, clip_length) if len(shards) == 1 else None
    if parts is not None:
        return *parts, False
    return LabelSet(shards, clip_length), LabelSet(held, clip_length), True


def _split_by_time(path: Path, share: float, clip_length: int) -> tuple[LabelSet, LabelSet] | None:
    """The end of a drive to judge by, and what was over before it began; None: too short."""
    stamps = read_shard(path, ("t0_ns",)).arrays["t0_ns"]
    clips = len(stamps) // clip_length
    held = max(1, round(share * clips))
    first = int(stamps[max(0, clips - held) * clip_length]) if clips else EVER[1]
    try:
        # The truth of what is trained on ends where what is judged by begins.
        training = LabelSet([path], clip_length, (EVER[0], first - _AHEAD_NS))
        return training, LabelSet([path], clip_length, (first, EVER[1]))
    except LabelError:
        return None


def _check_form(stage: StageConfig, labels: Sequence[Labels]) -> None:
    """Raises TrainConfigError where a student's images are not what the labels hold."""
    wanted = ImageForm.of(stage.student)
    for entry in labels:
        if entry.form != wanted:
            raise TrainConfigError(
                f"stage {stage.name}: {entry.folder} holds images of {entry.form.to_dict()}, the "
                f"student wants {wanted.to_dict()}: label with --student {stage.student.name}"
            )


def _device(name: str) -> torch.device:
    if name in ("", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainConfigError("device cuda: PyTorch sees no GPU here; use --device cpu")
    return torch.device(name)


def read_report(out: Path) -> dict[str, Any]:
    """The report of a finished chain."""
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content
