"""What goes wrong in a soak: which faults there are, and when which of them are under way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from alpamayo_ros import action_space
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import Decisions, Plan, PlannerSample, ReasoningSource

FAULTS = (
    "camera_lost",
    "camera_late",
    "camera_corrupt",
    "camera_black",
    "camera_frozen",
    "odometry_gap",
    "odometry_nan",
    "odometry_stuck",
    "odometry_offset",
    "odometry_jump",
    "odometry_frame",
    "clock_back",
    "clock_ahead",
    "model_raises",
    "model_nan",
    "model_shape",
    "model_slow",
    "model_old",
    "model_bent",
    "model_fast",
    "model_jumps",
    "model_folds",
    "model_inconsistent",
    "model_rough",
    "model_slightly_over",
)
ONCE = frozenset({"odometry_offset", "odometry_jump", "clock_back", "clock_ahead"})
START_SHARE = 0.04  # of ticks on which a fault begins


@dataclass
class Schedule:
    """Draws faults; each lasts 1 to 20 ticks, or one where it is an event."""

    rng: np.random.Generator

    def __post_init__(self) -> None:
        self._until: dict[str, int] = {}
        self.counts: Counter[str] = Counter()

    def tick(self, index: int) -> set[str]:
        """The faults under way in a tick."""
        if index > 30 and self.rng.random() < START_SHARE:
            name = FAULTS[int(self.rng.integers(len(FAULTS)))]
            lasts = 1 if name in ONCE else int(self.rng.integers(1, 21))
            self._until[name] = index + lasts
            self.counts[name] += 1
        self._until = {name: end for name, end in self._until.items() if end > index}
        return set(self._until)


class SoakModel(PlannerBackend):
    """Drives about at changing pace; spoils its plans as the faults under way say."""

    reads_reasoning = False

    def __init__(self, manifest: Manifest, rng: np.random.Generator) -> None:
        super().__init__(manifest)
        self._rng = rng
        self.faults: set[str] = set()
        self.latest: Plan | None = None
        self._pace, self._bend = 8.0, 0.0

    def load(self) -> None:
        """Nothing to load."""

    def plan(self, sample: PlannerSample) -> Plan:
        """A plan towards a pace and a bend that change now and then, good or spoilt."""
        rng, faults = self._rng, self.faults
        if rng.random() < 0.02:
            self._pace = float(rng.choice((0.0, 3.0, 8.0, 15.0, 25.0)))
        if rng.random() < 0.02:
            self._bend = float(rng.uniform(-1.0, 1.0))
        if "model_raises" in faults:
            raise RuntimeError("CUDA out of memory")
        action = self._action(sample.speed_mps)
        if "model_bent" in faults:
            action[20:, 1] = 0.35
        if "model_fast" in faults:
            action[:, 0] = 9.0
        if "model_rough" in faults:
            action[:, 0] += rng.normal(0.0, 3.0, len(action))
        if "model_slightly_over" in faults:
            action[:, 0] = np.interp(np.arange(64), (0, 10, 20, 30, 40), (0.0, 3.0, 4.4, 3.0, 0.0))
        xyz, rot = action_space.integrate(action, sample.speed_mps)
        if "model_nan" in faults:
            xyz[int(rng.integers(64))] = np.nan
        if "model_jumps" in faults:
            xyz[:, 1] += rng.normal(0.0, 1.5)
        if "model_folds" in faults:
            xyz[40:] = xyz[39::-1][:24]
        if "model_inconsistent" in faults:
            xyz[:, 1] += 0.02 * np.arange(64) ** 1.5
        if "model_shape" in faults:
            xyz = xyz[:50]
        plan = Plan(
            t0_ns=sample.t0_ns,
            xyz_in_rig_t0=xyz,
            rot_in_rig_t0=rot,
            action=action,
            speed_t0_mps=sample.speed_mps,
            candidates_xyz_in_rig_t0=xyz[None],
            candidates_rot_in_rig_t0=rot[None],
            reasoning="Drive on.",
            reasoning_source=ReasoningSource.MODEL,
            decisions=Decisions("set-speed tracking", "lane keeping and centring"),
            model="soak",
        )
        if "model_old" in faults and self.latest is not None:
            plan = replace(self.latest)  # again the plan from before
        self.latest = plan
        return plan

    def _action(self, speed_mps: float) -> np.ndarray:
        """(64, 2) that a good planner would choose."""
        action = np.zeros((64, 2))
        speed = speed_mps
        for k in range(64):
            action[k, 0] = min(max(0.5 * (self._pace - speed), -2.0), 1.5)
            if speed + 0.1 * action[k, 0] < 0.0:
                action[k, 0] = -speed / 0.1
            speed += 0.1 * action[k, 0]
        fastest = max(speed_mps, speed, 5.0)
        action[:, 1] = self._bend * min(0.1, 2.0 / fastest**2)
        return action


def resident_mb() -> float:
    """This process' memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def timed_ms(start_s: float) -> float:
    """Since a time.perf_counter()."""
    return (time.perf_counter() - start_s) * 1e3
