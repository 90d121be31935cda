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
from alpamayo_ros.distill.checkpoint import WEIGHTS, load_student, save_student
from alpamayo_ros.distill.curve import draw_curves
from alpamayo_ros.distill.data import Batch, LabelSet
from alpamayo_ros.distill.shard import ImageForm
from alpamayo_ros.distill.step import errors_m, planned, to_tensors
from alpamayo_ros.distill.store import Labels, open_labels
from alpamayo_ros.distill.train_config import StageConfig, TrainConfig, TrainConfigError
from alpamayo_ros.distill.trainer import METRICS, Teach, Trainer, validation_batches
from alpamayo_ros.jobs import Machines
from alpamayo_ros.student.model import Student

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause")
OWN_LICENCE = "Apache-2.0"  # of weights that no label binds otherwise
RETENTION_HORIZON = "6.4"


def run_chain(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train every stage that is not done; write OUT/STAGE/, OUT/report.json. Raises UserError."""
    device = _device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    labels = [open_labels(folder) for folder in config.labels]
    licence = licence_of([str(entry.manifest["licence"]) for entry in labels])
    teachers = sorted({str(entry.manifest["teacher"]) for entry in labels})
    for stage in config.stages:
        _check_form(stage, labels)
    stages: list[dict[str, Any]] = []
    for stage in config.stages:
        training, validation = _split(labels, config.validation_share, stage.clip_length)
        if not stages:
            print(f"{len(training)} instants to train on, {len(validation)} to judge by, "
                  f"{', '.join(teachers)}, licence {licence}", file=sys.stderr)  # fmt: skip
        teacher = load_student(out / stage.teacher / WEIGHTS)[0] if stage.teacher else None
        teach = _teach(teacher, device) if teacher is not None else None
        note = f"Distilled from {', '.join(teachers)}. Not for public roads."

        def publish(trainer: Trainer, note: str = note) -> None:
            """What there is so far can be driven while the rest is trained."""
            save_student(trainer.folder, trainer.averaged(), trainer.ema, licence, note)

        folder = out / stage.name
        loaders = Machines(config.loaders, config.ray)
        trainer = Trainer(stage, training, validation, folder, device, teach, publish, loaders)
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
                "validation": figures,
                "retention": _retention(figures, teacher, validation, stage, labels, device),
            }
        )
    report = {
        "licence": licence,
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
    binding = sorted({licence for licence in licences if licence not in PERMISSIVE})
    return " AND ".join(binding) if binding else OWN_LICENCE


def _retention(
    figures: Mapping[str, float],
    teacher: Student | None,
    validation: LabelSet,
    stage: StageConfig,
    labels: Sequence[Labels],
    device: torch.device,
) -> dict[str, float | None]:
    """The student's error over its teacher's, on what neither has seen. None: a teacher without
    an error here, whose plan is itself the truth."""
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


def _split(labels: Sequence[Labels], share: float, clip_length: int) -> tuple[LabelSet, LabelSet]:
    """Whole shards to train on and to judge by: neighbouring instants are too alike to divide."""
    shards = [path for entry in labels for path in entry.shards]
    every = max(2, round(1.0 / max(share, 1e-6)))
    held = shards[every - 1 :: every] or shards[-1:]
    rest = [path for path in shards if path not in held] or shards
    return LabelSet(rest, clip_length), LabelSet(held, clip_length)


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
