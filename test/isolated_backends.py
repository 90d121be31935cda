"""Backends that another process can import: one that looks at all it is given, one that fails."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import (
    Answer,
    CameraFrame,
    Decisions,
    LateReasoning,
    Plan,
    PlannerSample,
    Stated,
)


def digest(sample: PlannerSample) -> str:
    """Of every field, to the bit."""
    summed = hashlib.sha256()
    for entry in dataclasses.fields(sample):
        value = getattr(sample, entry.name)
        if dataclasses.is_dataclass(value):
            parts = [getattr(value, part.name) for part in dataclasses.fields(value)]
        else:
            parts = [value]
        for part in parts:
            is_array = isinstance(part, np.ndarray)
            told = f"{part.dtype}{part.shape}".encode() if is_array else repr(part).encode()
            summed.update(told + (part.tobytes() if is_array else b""))
    return summed.hexdigest()


class Scripted(KinematicBackend):
    """Does what the navigation text says, once; option `load` says how loading goes."""

    def load(self) -> None:
        how = self.manifest.options.get("load", "")
        if how == "refuses":
            raise ModelError("weights are missing: fetch them")
        if how == "breaks":
            raise ZeroDivisionError("a bug in a backend")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        self._warm: list[str] = []

    def warm_up(self, cameras: Sequence[str]) -> None:
        if self.manifest.options.get("load") == "cold":
            raise ModelError("it does not get warm")
        self._warm += cameras

    def plan(self, sample: PlannerSample) -> Plan:
        what = sample.navigation or ""
        if what == "raise":
            raise RuntimeError("CUDA out of memory, as one says")
        if what == "refuse":
            raise ModelError("2 of 6 trajectories are not finite")
        if what == "nothing":
            return None  # type: ignore[return-value]
        if what == "exit":
            os._exit(3)
        if what == "hang":
            time.sleep(3600)
        if what == "hang in C":  # holds the interpreter's lock, as a kernel that never returns
            ctypes.PyDLL(None).sleep(3600)
        if what.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[what])
            time.sleep(3600)
        plan = super().plan(sample)
        words = f"{digest(sample)} warm for {' '.join(self._warm)}"
        return dataclasses.replace(plan, reasoning=words, stage_ms={"own": 1.5})

    def ask(self, sample: PlannerSample, question: str) -> Generator[None, None, Answer]:
        if question == "raise":
            raise ZeroDivisionError("a bug in an answer")
        try:
            for _ in range(3):
                yield
        finally:
            marker = self.manifest.options.get("marker")
            if marker:
                Path(str(marker)).write_text("dropped")
        return Answer(sample.t0_ns, f"{question} {digest(sample)}", self.manifest.name, {"a": 1.0})


class Thoughtful(Scripted):
    """Its reasoning comes after its plan, in two steps."""

    def plan(self, sample: PlannerSample) -> Plan:
        return dataclasses.replace(super().plan(sample), reasoning_follows=True)

    def reason(self) -> Generator[None, None, LateReasoning]:
        yield
        stated = Stated("to keep distance", Decisions("follow lead", "none"))
        return LateReasoning(5, stated, self.manifest.name, {"reasoning": 1.0})


class Foreseeing(Scripted):
    """Says in its plan which frames it was shown before."""

    foresight = 2

    def load(self) -> None:
        super().load()
        self._seen: list[str] = []

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        if any(frame.stamp_ns < 0 for frame in frames):
            raise ValueError("a frame of before the clock")
        self._seen += [f"{one.camera} {one.stamp_ns} {one.image.sum()}" for one in frames]

    def forget(self) -> None:
        self._seen.clear()

    def plan(self, sample: PlannerSample) -> Plan:
        return dataclasses.replace(super().plan(sample), reasoning="; ".join(self._seen))


class NoBackendAtAll:
    """Something else under a backend's name."""
