"""planner_node with backends that tests need: slow, failing, or telling what they were given.

Run as a script in place of planner_node. A backend is chosen by a manifest as any other is; its
`options` say how slow it is.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.backends.registry import BACKENDS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import (
    CAMERA_NAMES,
    Answer,
    CameraFrame,
    Decisions,
    LateReasoning,
    Plan,
    PlannerSample,
    Stated,
)


class _TestBackend(KinematicBackend):
    """The kinematic planner; `options` are the test's."""

    def load(self) -> None:
        self.foresight = int(self.manifest.options.get("foresight", 0))
        self._foreseen: dict[tuple[int, int], NDArray[np.uint8]] = {}
        time.sleep(float(self.manifest.options.get("load_s", 0.0)))
        marker = str(self.manifest.options.get("fails_without_file", ""))
        if marker and not os.path.exists(marker):
            raise ModelError(f"weights {marker} are missing")
        if self.manifest.options.get("raises"):
            raise ZeroDivisionError("a bug in a backend")

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        """Keeps them: a sample is to have the same."""
        for frame in frames:
            self._foreseen[CAMERA_NAMES.index(frame.camera), frame.stamp_ns] = frame.image

    def _check_foreseen(self, sample: PlannerSample) -> None:
        for camera, stamps, images in zip(
            sample.camera_indices, sample.image_stamps_ns, sample.images
        ):
            for stamp_ns, image in zip(stamps, images):
                foreseen = self._foreseen.get((int(camera), int(stamp_ns)), image)
                if not np.array_equal(foreseen, image):
                    raise ValueError(f"another picture was foreseen for {camera} at {stamp_ns}")

    def plan(self, sample: PlannerSample) -> Plan:
        self._check_foreseen(sample)
        time.sleep(float(self.manifest.options.get("plan_s", 0.0)))
        hangs = str(self.manifest.options.get("hangs_while_file", ""))
        while hangs and os.path.exists(hangs):
            time.sleep(0.02)
        plan = super().plan(sample)
        bend = self.manifest.options.get("bend_1pm")
        if bend is not None:
            action = plan.action.copy()
            action[:, 1] = float(bend)
            xyz, rot = action_space.integrate(action, plan.speed_t0_mps)
            plan = dataclasses.replace(plan, action=action, xyz_in_rig_t0=xyz, rot_in_rig_t0=rot)
        follows = "reason_steps" in self.manifest.options
        self._t0_ns = plan.t0_ns
        notes = (f"foreseen={len(self._foreseen)}",) if self.foresight else ()
        words = f"navigation={sample.navigation}"
        return dataclasses.replace(plan, reasoning=words, reasoning_follows=follows, notes=notes)

    def reason(self) -> Generator[None, None, LateReasoning]:
        """After `reason_steps` of 10 ms."""
        t0_ns = self._t0_ns
        for _ in range(int(self.manifest.options["reason_steps"])):
            time.sleep(0.01)
            yield
        stated = Stated(f"of {t0_ns}", Decisions("follow lead", "none"))
        return LateReasoning(t0_ns, stated, self.manifest.name, {})

    def ask(self, sample: PlannerSample, question: str) -> Generator[None, None, Answer]:
        """Repeats the question, after `ask_steps` of `ask_step_s` each; makes the file of option
        `ask_begins` when it begins."""
        options = self.manifest.options
        if begins := str(options.get("ask_begins", "")):
            Path(begins).touch()
        if options.get("ask_raises"):
            raise ZeroDivisionError("a bug in an answer")
        for _ in range(int(options.get("ask_steps", 0))):
            time.sleep(float(options.get("ask_step_s", 0.0)))
            yield
        return Answer(sample.t0_ns, f"asked: {question}", self.manifest.name, {})


BACKENDS["test"] = "planner_with_test_backends:_TestBackend"

if __name__ == "__main__":
    from alpamayo_ros.ros.planner_node import main

    sys.exit(main())
