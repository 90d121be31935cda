"""Trains one student. A run that was killed and goes on ends with the same weights, bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alpamayo_ros.distill import losses
from alpamayo_ros.distill.checkpoint import (
    digest_of,
    load_strictly,
    read_tensors,
    write_tensors,
)
from alpamayo_ros.distill.data import Batch, BatchMaker, LabelSet
from alpamayo_ros.distill.losses import DistillHeads
from alpamayo_ros.distill.step import errors_m, loss_terms, planned, to_tensors
from alpamayo_ros.distill.train_config import StageConfig, TrainConfigError
from alpamayo_ros.jobs import Machines, in_order
from alpamayo_ros.student.model import Student

STATE = "training.safetensors"
METRICS = "metrics.jsonl"
_VALIDATION_INSTANTS = 400

Teach = Callable[[Batch], np.ndarray]  # a batch to actions (B, 64, 2) in m/s^2 and 1/m


class Trainer:
    """One stage: model, moving average, optimiser and where they are kept."""

    def __init__(
        self,
        stage: StageConfig,
        training: LabelSet,
        validation: LabelSet,
        folder: Path,
        device: torch.device,
        teach: Teach | None = None,
        publish: Callable[[Trainer], None] = lambda trainer: None,
        loaders: Machines = Machines(),  # noqa: B008 - frozen
        taught_by: Any = None,
    ) -> None:
        """`teach` takes the place of the labels' teacher; `publish` is called at checkpoints;
        batches are made by `loaders`. `taught_by`: what labels and teacher are, as JSON takes it,
        which must not change in the middle."""
        self._taught_by, self._started_from = taught_by, ""
        self.stage, self.folder, self.device = stage, folder, device
        self._training, self._validation, self._teach = training, validation, teach
        self._publish, self._loaders = publish, loaders
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(stage.seed)
        config = stage.student
        self.student = Student(config)
        told = {name: training.extra(name) for name in ("features", "logits", "maps")}
        self.heads = DistillHeads(config, self.student.encoder.channels, **told)
        if told["features"]:
            mean, spread = training.moments("features")
            self.heads.mean.copy_(torch.from_numpy(mean))
            self.heads.spread.copy_(torch.from_numpy(spread))
        if stage.start:
            start = read_tensors(Path(stage.start))[0]
            load_strictly(self.student, start, Path(stage.start))
            self._started_from = digest_of(start)
        self.student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heads.to(device)
        self.ema = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}
        self.step = 0
        parameters = [*self.student.parameters(), *self.heads.parameters()]
        self._optimiser = torch.optim.AdamW(_groups(parameters, stage), lr=stage.learning_rate)
        self._half = stage.precision == "bf16" or (
            stage.precision == "auto" and device.type == "cuda"
        )

    # ---- the loop ----------------------------------------------------------------------------

    def run(self, progress: Callable[[int], None] = lambda step: None) -> dict[str, float]:
        """Train to the end from wherever the folder's state is; the last validation."""
        self._resume()
        stage, started, begun = self.stage, time.perf_counter(), self.step
        maker = BatchMaker(
            self._training, stage.student, stage.augmentation, stage.seed, stage.clips
        )
        for batch in in_order(maker, range(self.step, stage.steps), self._loaders):
            metrics = self._train_step(batch)
            self.step += 1
            last = self.step == stage.steps
            if self.step % stage.validate_every == 0 or last:
                wall_s = (time.perf_counter() - started) / (self.step - begun)
                self._note({**metrics, **self.validate(), "seconds_a_step": wall_s})
            elif self.step % 20 == 0:
                self._note(metrics)
            if self.step % stage.checkpoint_every == 0 or last:
                self._save()
                self._publish(self)
            progress(self.step)
        return self.validate()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        stage, rng = self.stage, np.random.default_rng([self.stage.seed, self.step, 29])
        generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + self.step)
        if self._teach is not None:
            batch = dataclasses.replace(batch, teacher=self._teach(batch))
        tensors = to_tensors(batch, stage.student, self.device, stage.augmentation, rng)
        self.student.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            terms = loss_terms(self.student, self.heads, tensors, stage.loss, generator)
        loss = losses.total(terms, stage.loss)
        rate = self._rate()
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            [*self.student.parameters(), *self.heads.parameters()], stage.clip_norm
        )
        if not torch.isfinite(norm):
            raise TrainConfigError(
                f"stage {stage.name}: the gradient is not finite at step {self.step}: lower its "
                "learning_rate, or set precision: fp32"
            )
        self._optimiser.step()
        self._average()
        values = {name: float(term.detach()) for name, term in terms.items()}
        return {"loss": float(loss.detach()), **values, "rate": rate, "gradient": float(norm)}

    def _rate(self) -> float:
        """Warmed up, then half a cosine down to nothing."""
        stage = self.stage
        rise = min((self.step + 1) / max(stage.warm_up, 1), 1.0)
        return stage.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * self.step / stage.steps))

    def _average(self) -> None:
        """The moving average follows faster at first, when there is little worth remembering."""
        keep = min(self.stage.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, tensor in self.student.state_dict().items():
                if tensor.dtype.is_floating_point:
                    self.ema[name].lerp_(tensor, 1.0 - keep)
                else:
                    self.ema[name].copy_(tensor)

    # ---- judging -----------------------------------------------------------------------------

    def averaged(self) -> Student:
        """A student of the moving average, in evaluation mode."""
        student = Student(self.stage.student)
        student.load_state_dict(self.ema)
        return student.to(self.device).eval()

    def validate(self) -> dict[str, float]:
        """ADE in m of the averaged student and of the prior, and the student's loss of truth."""
        student, sums = self.averaged(), dict[str, list[Tensor]]()
        for batch in validation_batches(self._validation, self.stage.clips):
            tensors = to_tensors(
                self._validation.batch(batch, self.stage.student), self.stage.student, self.device
            )
            for who, action in (("ade", planned(student, tensors)), ("prior", tensors.prior)):
                for horizon, error in errors_m(action, tensors).items():
                    sums.setdefault(f"{who}_{horizon}s_m", []).append(error)
        return {name: float(torch.cat(parts).mean()) for name, parts in sums.items()}

    def _note(self, metrics: dict[str, Any]) -> None:
        line = {"step": self.step, **{k: round(v, 6) for k, v in metrics.items()}}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    # ---- state -------------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        """Of what a run must not change in the middle."""
        # By its weights: a file that was moved is the same start, another under its name is not.
        stage = {**dataclasses.asdict(self.stage), "start": self._started_from}
        names = [str(shard.path.name) for shard in self._training.shards]
        content = [stage, names, self._taught_by]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.student.state_dict().items():
            tensors[f"model.{name}"] = tensor
        for name, tensor in self.heads.state_dict().items():
            tensors[f"heads.{name}"] = tensor
        for name, tensor in self.ema.items():
            tensors[f"ema.{name}"] = tensor
        for index, entry in self._optimiser.state_dict()["state"].items():
            for name, tensor in entry.items():
                tensors[f"optimiser.{index}.{name}"] = tensor
        metadata = {"step": str(self.step), "fingerprint": self._fingerprint()}
        write_tensors(self.folder / STATE, tensors, metadata)

    def _resume(self) -> None:
        """Raises TrainConfigError where the folder's training is another one."""
        path = self.folder / STATE
        if not path.exists():
            (self.folder / METRICS).unlink(missing_ok=True)
            return
        tensors, metadata = read_tensors(path)
        if metadata.get("fingerprint") != self._fingerprint():
            raise TrainConfigError(
                f"{self.folder} holds another training: the configuration, the labels, the weights "
                "that it starts from or its teacher's differ, or an older alpamayo began it. Give "
                "another --out, or put them back"
            )
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor.to(self.device)
        load_strictly(self.student, parts["model"], path)
        self.heads.load_state_dict(parts.get("heads", {}))
        self.ema = parts["ema"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts.get("optimiser", {}).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor.cpu() if key == "step" else tensor
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.step = int(metadata["step"])
        _cut(self.folder / METRICS, self.step)


def validation_batches(labels: LabelSet, clips: int) -> list[Sequence[tuple[int, int]]]:
    """The same clips every time, spread over all shards."""
    stride = max(1, len(labels.clips) * labels.clip_length // _VALIDATION_INSTANTS)
    chosen = labels.clips[::stride]
    return [chosen[i : i + clips] for i in range(0, len(chosen), clips)]


def _groups(parameters: Sequence[torch.nn.Parameter], stage: StageConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and embeddings of one axis do not."""
    decayed = [p for p in parameters if p.ndim > 1]
    free = [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": stage.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return groups


def _cut(path: Path, step: int) -> None:
    """Forget what was noted after the state that is gone on from."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):  # the last line of a run that was killed
            break
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
