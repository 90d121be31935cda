"""The planner's publishers: a plan or a rejection in, messages out."""

from __future__ import annotations

import time
from typing import Any

from nav_msgs.msg import Path
from rclpy.node import Node
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from alpamayo_ros import messages
from alpamayo_ros.messages import StatusContext
from alpamayo_ros.msg import (
    CandidateTrajectories,
    PlannedTrajectory,
    PlannerStatus,
    ReasoningTrace,
)
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import make
from alpamayo_ros.ros.markers import PlanMarkers
from alpamayo_ros.types import NS_PER_MS, Plan, PlannerSample, Rejection
from alpamayo_ros.worker import Outcome


class PlannerOutputs:
    """Publishes under the node's own name; counts what it published."""

    def __init__(self, node: Node) -> None:
        self._node = node
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
        self._markers = publisher(MarkerArray, "~/markers", qos)
        self._drawn = PlanMarkers()
        self.plans = 0
        self.rejected = 0

    def publish_plan(
        self,
        outcome: Outcome,
        rig_frame: str,
        in_odometry: bool,
        licence: str,
        context: StatusContext,
    ) -> None:
        """~/path first, since a controller waits for it; then what describes it."""
        plan, sample = outcome.plan, outcome.sample
        assert isinstance(plan, Plan) and isinstance(sample, PlannerSample)
        frame = messages.path_frame(sample, rig_frame, in_odometry)
        self._path.publish(messages.path(make, plan, frame))
        latency_ms = (time.monotonic_ns() - outcome.selection.ready_ns) / NS_PER_MS
        self.plans += 1
        self._trajectory.publish(messages.trajectory(make, plan, frame, self.plans))
        self._candidates.publish(messages.candidates(make, plan, frame))
        self._reasoning.publish(messages.reasoning(make, plan))
        self._trace.publish(messages.reasoning_trace(make, plan, frame))
        if self._markers.get_subscription_count():
            self._markers.publish(self._drawn.of_plan(plan, frame))
        self._status.publish(
            messages.planned_status(
                make,
                plan,
                sample,
                due_ns=outcome.selection.due_ns,
                sequence=self.plans,
                licence=licence,
                latency_ms=latency_ms,
                skew_ms=outcome.selection.skew_ns / NS_PER_MS,
                stage_ms=outcome.stage_ms,
                context=context,
            )
        )

    def publish_rejection(
        self,
        rejection: Rejection,
        rig_frame: str,
        model: str,
        licence: str,
        context: StatusContext,
    ) -> None:
        """A status, and its text for RViz: no path is published for a tick that was not planned."""
        self.rejected += 1
        self._status.publish(messages.rejected_status(make, rejection, model, licence, context))
        if self._markers.get_subscription_count():
            self._markers.publish(self._drawn.of_rejection(rejection, rig_frame))

    def clear_markers(self) -> None:
        """Take what RViz shows of old plans away."""
        self._markers.publish(self._drawn.clear())

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (
            self._path,
            self._trajectory,
            self._candidates,
            self._reasoning,
            self._trace,
            self._status,
            self._markers,
        ):
            self._node.destroy_publisher(publisher)
