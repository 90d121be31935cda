"""A distilled student on PyTorch, ONNX Runtime or TensorRT.

Plans from cameras, history and the kinematic prior; encodes each frame once. It has no language:
its reasoning is read from its trajectory, or looked up in its teacher's labels of a recording.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from alpamayo_ros import decisions, geometry
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.standstill import standstill
from alpamayo_ros.deployment.explanations import Explanations
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.runtimes import open_runtime
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import Plan, PlannerSample, ReasoningSource, speeds_along

LOGGER = logging.getLogger(__name__)
WARM_UPS = 3  # ONNX Runtime settles its memory in the first, GPUs their clocks in more


class StudentBackend(PlannerBackend):
    """One student; its runtime is chosen by option `runtime`."""

    reads_reasoning = False

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.options = StudentOptions.from_manifest(manifest)
        self._planner: StudentPlanner | None = None
        self._explanations: Explanations | None = None

    def load(self) -> None:
        """Check the files, start the runtime, build engines where asked. Raises ModelError."""
        started = time.monotonic()
        if self.options.explanations is not None:
            self._explanations = Explanations(self.options.explanations)
        self._planner = StudentPlanner(open_runtime(self.manifest, self.options), self.options.seed)
        LOGGER.info(
            "%s on %s in %.1f s; licence of the weights: %s",
            self.manifest.name,
            self._planner.runtime.describe(),
            time.monotonic() - started,
            self.manifest.licence,
        )

    def warm_up(self, cameras: Sequence[str]) -> None:
        """Plans of a grey standstill, whose frames are forgotten again."""
        planner = self._loaded
        for _ in range(WARM_UPS):
            planner.plan(standstill(cameras))
            planner.cache.clear()

    def forget(self) -> None:
        """Frames of another drive, whose stamps may come again."""
        self._loaded.cache.clear()

    def plan(self, sample: PlannerSample) -> Plan:
        """One trajectory. Raises ModelError where it is not finite."""
        planned = self._loaded.plan(sample)
        speeds = speeds_along(planned.action, sample.speed_mps)
        headings = geometry.yaw_of(planned.rot_in_rig_t0)
        said = self._explanations.at(sample.t0_ns) if self._explanations else None
        source = ReasoningSource.TEACHER if said else ReasoningSource.TRAJECTORY
        return Plan(
            t0_ns=sample.t0_ns,
            xyz_in_rig_t0=planned.xyz_in_rig_t0,
            rot_in_rig_t0=planned.rot_in_rig_t0,
            action=planned.action,
            speed_t0_mps=sample.speed_mps,
            candidates_xyz_in_rig_t0=planned.xyz_in_rig_t0[None],
            candidates_rot_in_rig_t0=planned.rot_in_rig_t0[None],
            reasoning=said.reasoning if said else decisions.describe(speeds, headings),
            reasoning_source=source,
            decisions=said.decisions if said else decisions.decisions_of(speeds, headings),
            model=self.manifest.name,
            stage_ms=planned.stage_ms,
        )

    def close(self) -> None:
        """Give back memory and devices."""
        if self._planner is not None:
            self._planner.runtime.close()
        self._planner = None

    @property
    def _loaded(self) -> StudentPlanner:
        if self._planner is None:
            raise ModelError(f"model {self.manifest.name} is not loaded")
        return self._planner
