"""The planner's publishers: a plan, a stop or a rejection in, messages out."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from nav_msgs.msg import Path
from rclpy.node import Node
from std_msgs.msg import String

from alpamayo_ros import messages
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.msg import (
    CandidateTrajectories,
    PlannedTrajectory,
    PlannerStatus,
    ReasoningTrace,
)
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import make
from alpamayo_ros.ros.markers import MarkersOutput
from alpamayo_ros.safety.rulings import FallbackPlan
from alpamayo_ros.status_messages import StatusContext, planned_status, rejected_status
from alpamayo_ros.types import NS_PER_MS, LateReasoning, Plan, PlannerSample, Rejection
from alpamayo_ros.worker import Outcome

_UNSAID = 16  # plans that may wait for their reasoning


class PlannerOutputs:
    """Publishes under the node's own name; `markers` is the node's and outlives this."""

    def __init__(self, node: Node, markers: MarkersOutput) -> None:
        self._node, self._markers = node, markers
        plan_qos, qos = topics.output_qos(), topics.reliable_qos()

        def publisher(message_type: Any, topic: str, profile: Any) -> Any:
            return node.create_publisher(
                message_type, topic, profile, qos_overriding_options=topics.overridable()
            )

        self._path = publisher(Path, "~/path", plan_qos)
        self._trajectory = publisher(PlannedTrajectory, "~/trajectory", plan_qos)
        self._candidates = publisher(CandidateTrajectories, "~/candidates", qos)
        self._reasoning = publisher(String, "~/reasoning", qos)
        self._trace = publisher(ReasoningTrace, "~/reasoning_trace", qos)
        self._status = publisher(PlannerStatus, "~/status", qos)
        self.sent_steady_s = float("-inf")  # when the last trajectory went out
        self.sequence = 0  # of trajectories, whoever made them
        # By t0, of published plans whose reasoning is to come: frame_id, and when they went out.
        self._unsaid: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def publish_plan(
        self,
        outcome: Outcome,
        rig_frame: str,
        in_odometry: bool,
        licence: str,
        context: StatusContext,
    ) -> float:
        """~/path first, since a controller waits for it; then what describes it.

        The latency in ms: from the arrival of the last message that the plan needed.
        """
        plan, sample = outcome.plan, outcome.sample
        assert isinstance(plan, Plan) and isinstance(sample, PlannerSample)
        frame = messages.path_frame(sample, rig_frame, in_odometry)
        self._path.publish(messages.path(make, plan, frame))
        latency_ms = (time.monotonic_ns() - outcome.selection.ready_ns) / NS_PER_MS
        self.sequence += 1
        self._describe(plan, frame)
        self._status.publish(
            planned_status(
                make,
                plan,
                sample,
                due_ns=outcome.selection.due_ns,
                sequence=self.sequence,
                licence=licence,
                latency_ms=latency_ms,
                skew_ms=outcome.selection.skew_ns / NS_PER_MS,
                stage_ms=outcome.stage_ms,
                context=context,
            )
        )
        return latency_ms

    def publish_fallback(self, stop: FallbackPlan, rig_frame: str, in_odometry: bool) -> None:
        """A stop, on every topic of a plan; the ticks' own statuses say why."""
        frame = messages.pose_frame(
            stop.frame_id, stop.odometry_from_rig_t0, rig_frame, in_odometry
        )
        if stop.path is not None:
            self._path.publish(messages.path(make, stop.plan, frame, stop.path))
        self.sequence += 1
        self._describe(stop.plan, frame, stop.reason)

    def _describe(self, plan: Plan, frame: PathFrame, reason: str = "") -> None:
        """What goes with a path."""
        self.sent_steady_s = time.monotonic()
        self._trajectory.publish(messages.trajectory(make, plan, frame, self.sequence, reason))
        self._candidates.publish(messages.candidates(make, plan, frame))
        if plan.reasoning_follows:
            self._unsaid[plan.t0_ns] = frame.frame_id, self.sent_steady_s
            if len(self._unsaid) > _UNSAID:
                self._unsaid.popitem(last=False)
        else:
            self._reasoning.publish(messages.reasoning(make, plan))
            self._trace.publish(messages.reasoning_trace(make, plan, frame))
        self._markers.plan(plan, frame)

    def publish_reasoning(self, late: LateReasoning) -> None:
        """Of a plan that is out; what was said of one that was refused is not."""
        published = self._unsaid.pop(late.t0_ns, None)
        if published is not None:
            frame_id, sent_steady_s = published
            delay_ms = (time.monotonic() - sent_steady_s) * 1e3
            self._reasoning.publish(messages.late_reasoning(make, late))
            self._trace.publish(messages.late_trace(make, late, frame_id, delay_ms))

    def publish_rejection(
        self,
        rejection: Rejection,
        rig_frame: str,
        model: str,
        licence: str,
        context: StatusContext,
    ) -> None:
        """A status, and its text for RViz; the stop under way comes at its own times."""
        self._status.publish(rejected_status(make, rejection, model, licence, context))
        self._markers.rejection(rejection, rig_frame)

    def clear_markers(self) -> None:
        """Take what RViz shows of old plans away."""
        self._markers.clear()

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (
            self._path,
            self._trajectory,
            self._candidates,
            self._reasoning,
            self._trace,
            self._status,
        ):
            self._node.destroy_publisher(publisher)
