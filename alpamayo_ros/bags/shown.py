"""Recorded plans with all that a picture shows of them: candidates, speeds, decisions."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.errors import BagError
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.types import NS_PER_S, Pose3
from alpamayo_ros.viz.moment import MomentPlan

Array = NDArray[np.float64]

IN_FORCE_S = 0.5  # behind t0; an older plan is no plan, as for ~/markers
_POINT_S = 0.1


@dataclass(slots=True)
class ShownPlan:
    """One plan in the rig frame at its t0. float32: a long drive's candidates are many."""

    t0_ns: int
    xyz_in_rig_t0: NDArray[np.float32]  # (65, 3), the first at t0
    speeds_mps: NDArray[np.float32]  # (65,)
    curvatures_1pm: NDArray[np.float32]  # (65,)
    model: str
    frame_from_rig_t0: Pose3
    candidates_in_rig_t0: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 64, 3), np.float32)
    )  # the chosen one left out
    reasoning: str = ""
    decisions: str = ""

    def at(self, stamp: int, rig_from_rig_t0: Pose3) -> MomentPlan:
        """The plan as it lies around the rig at a later stamp."""
        since_t0 = np.arange(len(self.xyz_in_rig_t0), dtype=np.float64) * _POINT_S
        return MomentPlan(
            since_t0 - (stamp - self.t0_ns) / NS_PER_S,
            geometry.apply(rig_from_rig_t0, self.xyz_in_rig_t0),
            geometry.apply(rig_from_rig_t0, self.candidates_in_rig_t0),
            self.speeds_mps.astype(np.float64),
            self.curvatures_1pm.astype(np.float64),
            self.reasoning,
            self.decisions,
            self.model,
        )


class ShownPlans:
    """The plans of a recording by t0, and why there were none in between."""

    def __init__(self, plans: list[ShownPlan], refusals: list[tuple[int, str]]) -> None:
        self._plans = sorted(plans, key=lambda plan: plan.t0_ns)
        self._refusals = sorted(refusals)
        self._t0s = [plan.t0_ns for plan in self._plans]
        self._dues = [due for due, _ in self._refusals]

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def model(self) -> str:
        """The model's name; empty without plans."""
        return self._plans[0].model if self._plans else ""

    def in_force(self, stamp: int) -> ShownPlan | None:
        """The newest plan from an instant not after `stamp`, unless it is too old."""
        index = bisect_right(self._t0s, stamp) - 1
        if index < 0 or stamp - self._t0s[index] > IN_FORCE_S * NS_PER_S:
            return None
        return self._plans[index]

    def refusal(self, stamp: int) -> str:
        """Why there is no plan then: the last refusal in the time that a plan would be in force."""
        index = bisect_right(self._dues, stamp) - 1
        if index < 0 or stamp - self._dues[index] > IN_FORCE_S * NS_PER_S:
            return ""
        return self._refusals[index][1]


def read_shown_plans(path: Path, planner: str = "/planner") -> ShownPlans:
    """The plans of `alpamayo replay`, or of a planner node's recording. Raises BagError."""
    trajectory, candidates, trace, status = (
        f"{planner}/{name}" for name in ("trajectory", "candidates", "reasoning_trace", "status")
    )
    plans: dict[int, ShownPlan] = {}
    refusals: list[tuple[int, str]] = []
    with BagReader(path) as bag:
        if trajectory not in bag.topics:
            raise BagError(
                f"{path} has no {trajectory}; record the planner's topics, or name what "
                "`alpamayo replay` wrote, or give a --model to plan with"
            )
        # Candidates and trace of a plan are published behind its trajectory.
        for topic, _, message in bag.messages([trajectory, candidates, trace, status]):
            if topic == status:
                if message.outcome != message.PLANNED:
                    refusals.append((stamp_ns(message.due), message.detail))
                continue
            t0_ns = stamp_ns(message.header.stamp)
            if topic == trajectory:
                plans[t0_ns] = _plan(message, t0_ns)
            elif t0_ns in plans:
                _describe(plans[t0_ns], message, topic == candidates)
    return ShownPlans(list(plans.values()), refusals)


def _plan(message: Any, t0_ns: int) -> ShownPlan:
    positions = _positions([point.pose for point in message.points])
    first = message.points[0].pose.orientation
    frame_from_rig = geometry.pose_from_quaternion(
        positions[0], [first.x, first.y, first.z, first.w]
    )
    return ShownPlan(
        t0_ns,
        geometry.apply(geometry.invert(frame_from_rig), positions).astype(np.float32),
        np.array([point.velocity_mps for point in message.points], np.float32),
        np.array([point.curvature_1pm for point in message.points], np.float32),
        message.model,
        frame_from_rig,
    )


def _describe(plan: ShownPlan, message: Any, candidates: bool) -> None:
    if not candidates:
        plan.reasoning = message.text
        plan.decisions = f"{message.longitudinal_decision}, {message.lateral_decision}"
        return
    others = [_positions(entry.poses) for entry in message.candidates if not entry.chosen]
    if others:
        rig_from_frame = geometry.invert(plan.frame_from_rig_t0)
        plan.candidates_in_rig_t0 = geometry.apply(rig_from_frame, np.array(others)).astype(
            np.float32
        )


def _positions(poses: Any) -> Array:
    return np.array([[p.position.x, p.position.y, p.position.z] for p in poses])
