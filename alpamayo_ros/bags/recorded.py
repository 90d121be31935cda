"""Plans back from a recording of the planner's topics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.report import DrawnPlan
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.types import NS_PER_S, Pose3


@dataclass(slots=True)
class RecordedPlans:
    """What a planner published, as far as a report needs it."""

    plans: list[DrawnPlan] = field(default_factory=list)
    rejected_due_ns: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)  # last needed arrival -> published
    data_age_ms: list[float] = field(default_factory=list)  # t0 -> published, in ROS time
    dropped: int = 0
    model: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def rate_hz(self) -> float:
        """Plans a second of stamp time, from the first to the last; NaN from fewer than two."""
        if len(self.plans) < 2:
            return float("nan")
        span_s = (self.plans[-1].t0_ns - self.plans[0].t0_ns) / NS_PER_S
        return (len(self.plans) - 1) / span_s if span_s > 0 else float("nan")


def read_plans(path: Path, planner: str = "/planner") -> RecordedPlans:
    """Read trajectories, reasoning and statuses. Raises BagError."""
    recorded = RecordedPlans()
    trajectory, trace, status = (
        f"{planner}/{name}" for name in ("trajectory", "reasoning_trace", "status")
    )
    reasoning: dict[int, str] = {}
    trajectories: list[Any] = []
    with BagReader(path) as bag:
        recorded.warnings = list(bag.warnings)
        for topic, _, message in bag.messages([trajectory, trace, status]):
            if topic == trace:
                reasoning[stamp_ns(message.header.stamp)] = message.text
            elif topic == trajectory:
                trajectories.append(message)
            else:
                _add_status(recorded, message)
    for message in trajectories:
        recorded.plans.append(_plan(message, reasoning))
    return recorded


def _add_status(recorded: RecordedPlans, message: Any) -> None:
    recorded.model, recorded.dropped = message.model, int(message.samples_dropped)
    if message.outcome == message.PLANNED:
        recorded.latency_ms.append(float(message.latency_ms))
        recorded.data_age_ms.append(float(message.data_age_ms))
    else:
        recorded.reasons[message.reason] += 1
        recorded.rejected_due_ns.append(stamp_ns(message.due))


def _plan(message: Any, reasoning: dict[int, str]) -> DrawnPlan:
    """The trajectory's 65 poses, brought back into the rig frame at t0 by its first one."""
    positions = np.array(
        [[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in message.points]
    )
    first = message.points[0].pose.orientation
    frame_from_rig: Pose3 = geometry.pose_from_quaternion(
        positions[0], [first.x, first.y, first.z, first.w]
    )
    t0_ns = stamp_ns(message.header.stamp)
    in_rig = geometry.apply(geometry.invert(frame_from_rig), positions[1:])
    return DrawnPlan(t0_ns, in_rig, frame_from_rig, reasoning.get(t0_ns, ""))
