"""A loaded student on any runtime: a sample in, an action out. Shared by backend, export, bench."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space
from alpamayo_ros.deployment.frames import FeatureCache
from alpamayo_ros.deployment.runtimes import StudentRuntime
from alpamayo_ros.deployment.spec import StudentSpec
from alpamayo_ros.errors import ModelError
from alpamayo_ros.student.inputs import denormalise, policy_input, smoothed
from alpamayo_ros.types import PlannerSample

SEED_MODULUS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Planned:
    """What a student makes of one sample."""

    normalised: NDArray[np.float32]  # (64, 2)
    action: NDArray[np.float64]  # (64, 2) m/s^2, 1/m
    xyz_in_rig_t0: NDArray[np.float64]  # (64, 3)
    rot_in_rig_t0: NDArray[np.float64]  # (64, 3, 3)
    stage_ms: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)  # the policy's


class StudentPlanner:
    """A runtime and its cache of frames; for one thread."""

    def __init__(self, runtime: StudentRuntime, seed: int = 0) -> None:
        self.runtime, self._seed = runtime, seed
        self.cache = FeatureCache(
            runtime.spec, lambda images: runtime.run("encoder", {"images": images})
        )

    def plan(self, sample: PlannerSample) -> Planned:
        """Raises ModelError where the action is not finite, or a camera is unknown."""
        spec = self.runtime.spec
        stage_ms: dict[str, float] = {}
        with _timed("encode", stage_ms):
            features = self.cache.features(sample)
        with _timed("prepare", stage_ms):
            inputs = policy_inputs(sample, features, spec, self._seed)
        with _timed("policy", stage_ms):
            normalised = self.runtime.run("policy", inputs)
        if not np.isfinite(normalised).all():
            bad = int(np.count_nonzero(~np.isfinite(normalised)))
            raise ModelError(f"model {spec.model}: {bad} of its actions are not finite")
        with _timed("unicycle", stage_ms):
            action = smoothed(spec.config, denormalise(spec.config, normalised[0]))
            action = action_space.forward_only(action, sample.speed_mps)
            xyz, rot = action_space.integrate(action, sample.speed_mps)
        return Planned(normalised[0], action, xyz, rot, stage_ms, inputs)


def policy_inputs(
    sample: PlannerSample, features: NDArray[np.float32], spec: StudentSpec, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """By name, in the shapes of `spec.policy_inputs`.

    The noise of a flow is the sample's own: whatever was planned or skipped before, it gives the
    same plan, and the same on every runtime.
    """
    given = policy_input(spec.config, sample)
    inputs: dict[str, NDArray[Any]] = {"features": features}
    for name in list(spec.policy_inputs)[1:7]:
        inputs[name] = np.asarray(getattr(given, name))[None]
    if "noise" in spec.policy_inputs:
        rng = np.random.default_rng((seed * 1_000_003 + sample.t0_ns) % SEED_MODULUS)
        inputs["noise"] = rng.standard_normal(spec.policy_inputs["noise"]).astype(np.float32)
    return inputs


@contextmanager
def _timed(stage: str, stage_ms: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    stage_ms[stage] = (time.perf_counter() - started) * 1e3
