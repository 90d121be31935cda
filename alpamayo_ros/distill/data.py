"""Labels to batches. A batch depends on seed and step alone, so that a resumed run sees the same.

Consecutive instants share frames: a batch is made of clips, and each frame is encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.backends.kinematic import carried_on
from alpamayo_ros.distill.shard import MISSING, UNKNOWN, LabelError, Shard, read_shard
from alpamayo_ros.distill.train_config import Augmentation
from alpamayo_ros.student.config import StudentConfig

_RECOVERY_STEPS = 10  # in which a target makes up for a wrong speed
_MOVING_MPS = 1.0
_LEAST_SPREAD = 0.05
_AHEAD = "front_wide"
_LEAST_FRAMES = 2  # an encoder that learns normalises over all of them
EVER = 0, 2**63 - 1  # ns
_NAMES = (
    "t0_ns", "history", "history_yaw", "speed", "acceleration", "yaw_rate", "action", "truth",
    "confidence", "frame_index", "navigation", "logits", "features", "attention",
    "maps",
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Arrays of B instants over N frames."""

    frames: NDArray[np.uint8]  # (N, H, W, 3)
    frame_clip: NDArray[np.int64]  # (N,) which clip each frame is of: it is augmented as one
    frame_camera: NDArray[np.int64]  # (N,)
    clip: NDArray[np.int64]  # (B,) which clip each instant is of
    frame_index: NDArray[np.int64]  # (B, C, 4) into the frames; N: none
    camera_mask: NDArray[np.float32]  # (B, C)
    history: NDArray[np.float32]
    history_yaw: NDArray[np.float32]
    speed: NDArray[np.float32]
    prior: NDArray[np.float32]  # (B, 64, 2) m/s^2, 1/m, as all actions here
    command: NDArray[np.int64]
    truth: NDArray[np.float32]
    teacher: NDArray[np.float32]
    confidence: NDArray[np.float32]
    logits: NDArray[Any] | None
    features: NDArray[Any] | None
    attention: NDArray[Any] | None  # (B, C, rows, columns)
    maps: NDArray[np.uint8] | None  # (B, C, K, rows, columns)


class LabelSet:
    """Shards, and the clips that can be cut from them. Their frames stay in their files."""

    def __init__(
        self, paths: Sequence[Path], clip_length: int, stamps_ns: tuple[int, int] = EVER
    ) -> None:
        """Only clips between the two stamps, both included. Raises LabelError."""
        self._paths, self._stamps_ns = tuple(paths), stamps_ns
        self.shards = [read_shard(path, _NAMES) for path in paths]
        self.clip_length = clip_length
        named = {name: self.extra(name) for name in ("logits", "features", "attention", "maps")}
        self._extras = {name: shape for name, shape in named.items() if shape}
        self._commands = [shard.commands() for shard in self.shards]
        self.clips = [
            (number, start)
            for number, shard in enumerate(self.shards)
            for start in range(0, len(shard) - clip_length + 1, clip_length)
            if stamps_ns[0] <= shard.arrays["t0_ns"][start]
            and shard.arrays["t0_ns"][start + clip_length - 1] <= stamps_ns[1]
        ]
        if not self.clips:
            raise LabelError(
                f"the labels have no {clip_length} instants in a row: set clip_length lower, or "
                "label more"
            )

    def __len__(self) -> int:
        """Instants in clips."""
        return len(self.clips) * self.clip_length

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files itself."""
        return LabelSet, (self._paths, self.clip_length, self._stamps_ns)

    def extra(self, name: str) -> tuple[int, ...]:
        """Shape of an instant's logits, features, attention or maps; () where no shard has them.

        Shards without are batched as NaN or UNKNOWN, which counts nothing. Raises LabelError where
        shards have others.
        """
        shapes = {s.arrays[name].shape[1:] for s in self.shards if name in s.arrays}
        if len(shapes) > 1:
            raise LabelError(
                f"the labels' {name} are of different shapes, {sorted(shapes)}: their teachers do "
                "not fit together; train on one teacher's labels"
            )
        return shapes.pop() if shapes else ()

    def moments(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of `features` over all instants that have them.

        The least deviation is a share of the largest: what hardly varies is no target.
        """
        values = np.concatenate([s.arrays[name] for s in self.shards if name in s.arrays])
        spread = values.std(axis=0, dtype=np.float64)
        spread = np.maximum(spread, _LEAST_SPREAD * spread.max() + 1e-6)
        return values.mean(axis=0, dtype=np.float64).astype(np.float32), spread.astype(np.float32)

    def draw(self, seed: int, step: int, clips: int) -> list[tuple[int, int]]:
        """The clips of a step: every clip once an epoch, in an order of the epoch's own."""
        chosen = []
        for place in range(step * clips, (step + 1) * clips):
            epoch, index = divmod(place, len(self.clips))
            chosen.append(self.clips[self._order(seed, epoch)[index]])
        return chosen

    def _order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        if getattr(self, "_ordered", None) != (seed, epoch):
            self._ordered = (seed, epoch)
            rng = np.random.default_rng([seed, epoch, 11])
            self._permutation = rng.permutation(len(self.clips))
        return self._permutation

    def batch(
        self,
        clips: Sequence[tuple[int, int]],
        config: StudentConfig,
        augmentation: Augmentation | None = None,
        rng: np.random.Generator | None = None,
    ) -> Batch:
        """The instants of some clips; with `rng` augmented but for the frames' pixels."""
        parts: dict[str, list[Any]] = {}
        frames: list[NDArray[np.uint8]] = []
        of_clip: list[int] = []
        of_camera: list[int] = []
        index: list[NDArray[np.int64]] = []
        for clip, (number, start) in enumerate(clips):
            shard, rows = self.shards[number], slice(start, start + self.clip_length)
            stored = shard.frames
            if not len(stored):  # without a size either
                stored = np.zeros((0, *config.input_size, 3), np.uint8)
            seen = shard.arrays["frame_index"][rows]
            unseen = [k for k in range(seen.shape[2]) if k not in config.frames]
            seen = seen.copy()
            seen[:, :, unseen] = MISSING
            seen[:, _dropped(config, seen, augmentation, rng)] = MISSING
            used = np.unique(seen[seen != MISSING])
            place = np.full(len(stored) + 1, -1, np.int64)  # the last: MISSING
            place[used] = len(of_clip) + np.arange(len(used))
            index.append(place[seen])
            camera_of = np.zeros(len(stored), np.int64)
            for camera in range(seen.shape[1]):
                ids = seen[:, camera]
                camera_of[ids[ids != MISSING]] = camera
            frames.append(_shifted(stored[used], augmentation, rng))
            of_clip += [clip] * len(used)
            of_camera += camera_of[used].tolist()
            for name, values in self._rows(shard, number, rows, augmentation, rng).items():
                parts.setdefault(name, []).append(values)
        blank = [0] * max(0, _LEAST_FRAMES - len(of_clip))  # nobody looks at these
        frames.append(np.zeros((len(blank), *config.input_size, 3), np.uint8))
        of_clip, of_camera = of_clip + blank, of_camera + blank
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        where = np.concatenate(index)
        where = np.where(where < 0, len(of_clip), where)
        mask = (where[:, :, config.frames[-1]] < len(of_clip)).astype(np.float32)
        if not config.takes_navigation:
            joined["command"][:] = 0
        return Batch(
            np.concatenate(frames), np.array(of_clip), np.array(of_camera),
            np.repeat(np.arange(len(clips)), self.clip_length), where, mask,
            logits=joined.pop("logits", None), features=joined.pop("features", None),
            attention=joined.pop("attention", None), maps=joined.pop("maps", None), **joined,
        )  # fmt: skip

    def _rows(
        self,
        shard: Shard,
        number: int,
        rows: slice,
        augmentation: Augmentation | None,
        rng: np.random.Generator | None,
    ) -> dict[str, NDArray[Any]]:
        arrays = shard.arrays
        speed = arrays["speed"][rows].copy()
        acceleration, yaw_rate = arrays["acceleration"][rows], arrays["yaw_rate"][rows]
        truth, teacher = arrays["truth"][rows].copy(), arrays["action"][rows].copy()
        history, yaw = arrays["history"][rows], arrays["history_yaw"][rows]
        if augmentation is not None and rng is not None:
            n, moving = len(speed), speed > _MOVING_MPS
            off = rng.normal(0.0, augmentation.speed_mps, n) * moving
            off = np.maximum(off, -0.5 * np.abs(speed))
            speed = speed + off
            # The target goes where it went: the wrong speed is made good in its first second.
            back = (off / (_RECOVERY_STEPS * 0.1)).astype(np.float32)[:, None]
            truth[:, :_RECOVERY_STEPS, 0] -= back
            teacher[:, :_RECOVERY_STEPS, 0] -= back
            wrong = rng.normal(0.0, augmentation.acceleration_mps2, n) * moving
            acceleration = acceleration + wrong
            yaw_rate = yaw_rate + rng.normal(0.0, augmentation.yaw_rate_rps, n) * moving
            noise = rng.normal(0.0, augmentation.history_m, history.shape).astype(np.float32)
            told = (rng.random(n) >= augmentation.history_drop).astype(np.float32)
            history = (history + noise * moving[:, None, None]) * told[:, None, None]
            yaw = yaw * told[:, None]
        prior = [carried_on(*motion) for motion in zip(speed, acceleration, yaw_rate)]
        extras = {
            name: arrays[name][rows] if name in arrays else _unknown(name, (len(speed), *shape))
            for name, shape in self._extras.items()
        }
        return {
            "history": history.astype(np.float32),
            "history_yaw": yaw.astype(np.float32),
            "speed": speed.astype(np.float32),
            "prior": np.stack(prior).astype(np.float32),
            "command": self._commands[number][rows].copy(),
            "truth": truth,
            "teacher": teacher,
            "confidence": arrays["confidence"][rows],
            **extras,
        }


@dataclass(frozen=True)
class BatchMaker:
    """The batches of a training, by step."""

    labels: LabelSet
    config: StudentConfig
    augmentation: Augmentation
    seed: int
    clips: int

    def open(self) -> LabelSet:
        """In another process the labels were opened when this came to it."""
        return self.labels

    def do(self, opened: LabelSet, item: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, item, 23])
        return opened.batch(
            opened.draw(self.seed, item, self.clips), self.config, self.augmentation, rng
        )

    def close(self, opened: LabelSet) -> None:
        """Nothing is held."""


def _unknown(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """In the place of what a teacher does not tell."""
    return np.full(shape, UNKNOWN, np.uint8) if name == "maps" else np.full(shape, np.nan)


def _dropped(
    config: StudentConfig,
    seen: NDArray[np.integer[Any]],
    augmentation: Augmentation | None,
    rng: np.random.Generator | None,
) -> NDArray[np.bool_]:
    """(C,) which cameras a clip that sees frames (n, C, 4) does without; they cost no encoding
    either.

    The camera that looks ahead stays, or else the first that the clip has, so that there is
    something to learn from.
    """
    if augmentation is None or rng is None:
        return np.zeros(len(config.cameras), bool)
    dropped = rng.random(len(config.cameras)) < augmentation.camera_drop
    there = (seen != MISSING).any(axis=(0, 2))
    kept = there & (np.array(config.cameras) == _AHEAD)
    dropped[int(np.argmax(kept if kept.any() else there))] = False
    return dropped


def _shifted(
    frames: NDArray[np.uint8], augmentation: Augmentation | None, rng: np.random.Generator | None
) -> NDArray[np.uint8]:
    """All frames of a clip moved by the same few pixels: cameras are never mounted exactly."""
    if augmentation is None or rng is None or not augmentation.shift:
        return frames
    down, right = rng.integers(-augmentation.shift, augmentation.shift + 1, 2)
    if not down and not right:
        return frames
    reach = augmentation.shift
    padded = np.pad(frames, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    rows = slice(reach + down, reach + down + height)
    return padded[:, rows, reach + right : reach + right + width]
