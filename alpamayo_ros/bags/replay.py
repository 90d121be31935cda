"""Plan on a recording at full speed, without ROS, through the node's own pipeline."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alpamayo_ros import messages
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.bags.clock import clock_offset_ns
from alpamayo_ros.bags.context import DriveContext, read_context
from alpamayo_ros.bags.diagnosed import DiagnosisWriter
from alpamayo_ros.bags.inputs import check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import fed, feed_for
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.feed import steady_ns
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.planning_record import PlanningRecord
from alpamayo_ros.safety.rulings import FallbackPlan, ego_of
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.safety.verdict import SafetyVerdict
from alpamayo_ros.sampling import Selection
from alpamayo_ros.status_messages import StatusContext, planned_status, rejected_status
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, Plan, Pose3, Rejection
from alpamayo_ros.worker import Outcome, run

PLANNER_TOPICS = {
    "path": "nav_msgs/msg/Path",
    "trajectory": "alpamayo_ros/msg/PlannedTrajectory",
    "candidates": "alpamayo_ros/msg/CandidateTrajectories",
    "reasoning": "std_msgs/msg/String",
    "reasoning_trace": "alpamayo_ros/msg/ReasoningTrace",
    "status": "alpamayo_ros/msg/PlannerStatus",
}


@dataclass(slots=True)
class ReplayResult:
    """Everything that a report and a picture are made of."""

    context: DriveContext
    plans: list[Plan] = field(default_factory=list)
    odometry_from_rig: list[Pose3] = field(default_factory=list)  # of each plan
    rejections: list[Rejection] = field(default_factory=list)
    fallback_plans: int = 0
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    view_coverage: dict[str, float] = field(default_factory=dict)  # by camera, with rig_views
    wall_s: float = 0.0
    bag_s: float = 0.0

    def reasons(self) -> dict[str, int]:
        """How often each reason was given."""
        return dict(Counter(rejection.reason.value for rejection in self.rejections))

    def first_rejections(self) -> dict[str, str]:
        """The first of each reason: which input, by how much, what to do."""
        return {why.reason.value: str(why) for why in reversed(self.rejections)}


class Replay:
    """One pass over one bag. Time is the recording's own: "now" is a message's log time, or where
    the stamps keep to another clock, that (`bags.clock`)."""

    def __init__(
        self,
        bag: BagReader,
        settings: PlannerSettings,
        backend: PlannerBackend,
        writer: BagWriter,
        planner: str = "/planner",
    ) -> None:
        check_inputs(bag, settings)
        cameras = tuple(camera.name for camera in settings.cameras)
        backend.manifest.cameras.check(cameras, backend.manifest.name)
        self._bag, self._settings, self._backend, self._writer = bag, settings, backend, writer
        self._planner = planner
        self._offset_ns = clock_offset_ns(bag, settings)
        self.result = ReplayResult(read_context(bag, settings), warnings=list(bag.warnings))
        manifest = backend.manifest
        policy = settings.camera_policy(manifest.cameras, manifest.name)
        self._judge = CameraJudge(policy)
        self._feed = feed_for(bag, settings, self.result.context, backend.resize, policy)
        self._stage = SafetyStage(settings.safety, manifest.name)
        self._record = PlanningRecord()
        self._sequence = 0
        # What waits to be told, since after the last image it is not: see `run`.
        self._pending: deque[tuple[int, Rejection | FallbackPlan, StatusContext]] = deque()

    def run(self, progress: Callable[[float], None] = lambda done_s: None) -> ReplayResult:
        """Play the bag through; `progress` hears how many seconds of it are done."""
        started = time.perf_counter()
        for name, msgtype in PLANNER_TOPICS.items():
            self._writer.add_topic(f"{self._planner}/{name}", msgtype)
        diagnosed = DiagnosisWriter(
            self._writer, self._planner, self._backend, self._feed, self._record, self._stage
        )  # fmt: skip
        begun = False
        start_ns = self._bag.start_ns - self._offset_ns
        for now_ns, camera, _ in fed(self._bag, self._settings, self._feed, self._offset_ns):
            if not begun:
                self._stage.start(now_ns)
                begun = True
            if camera is not None:
                self._tell_due(camera.name)
            self._poll(now_ns)
            diagnosed.poll(now_ns)
            progress((now_ns - start_ns) / NS_PER_S)
        # Ticks after the last image have nothing to plan from: the recording is over, no fault.
        self._pending.clear()
        if self._settings.rig_views:
            sources = self._feed.sources
            self.result.view_coverage = {
                camera.name: sources[camera.name].view_coverage for camera in self._settings.cameras
            }
        self.result.wall_s = time.perf_counter() - started
        self.result.bag_s = (self._bag.end_ns - self._bag.start_ns) / NS_PER_S
        return self.result

    def _tell_due(self, camera: str) -> None:
        """Write the refusals and stops that a camera's newest frame has overtaken."""
        newest = self._feed.pipeline.frames[camera].newest_ns or 0
        while self._pending and _instant_ns(self._pending[0][1]) <= newest:
            self._tell(*self._pending.popleft())

    def _poll(self, now_ns: int) -> None:
        for tick in self._feed.poll(steady_ns(), now_ns):
            if isinstance(tick, Selection):
                self._finish(run(self._backend, tick, self._judge), now_ns)
            else:
                self._reject(tick, now_ns)
        self._stop_if_due(now_ns)

    def _stop_if_due(self, now_ns: int) -> None:
        stop = self._stage.fallback(self._feed.pipeline.poses.newest, now_ns)
        if stop is not None:
            self._pending.append((now_ns, stop, self._status_context(now_ns)))

    def _reject(
        self, rejection: Rejection, now_ns: int, verdict: SafetyVerdict | None = None
    ) -> None:
        if verdict is None:
            self._stage.refuse(rejection, now_ns)
        self._record.refused(rejection, now_ns)
        self._pending.append((now_ns, rejection, self._status_context(now_ns, verdict)))
        self._stop_if_due(now_ns)

    def _finish(self, outcome: Outcome, now_ns: int) -> None:
        if outcome.unreadable is not None:
            self._feed.pipeline.discard(outcome.unreadable.slot)
        if outcome.rejection is not None:
            self._reject(outcome.rejection, now_ns)
            return
        assert outcome.plan is not None and outcome.sample is not None
        due_ns = outcome.selection.due_ns
        ruling = self._stage.judge(outcome.plan, ego_of(outcome.sample), due_ns, now_ns)
        if ruling.rejection is not None:
            self._reject(ruling.rejection, now_ns, ruling.verdict)
            return
        outcome = replace(outcome, plan=ruling.plan)
        plan, sample = outcome.plan, outcome.sample
        assert plan is not None and sample is not None
        while self._pending:  # they were due before this plan
            self._tell(*self._pending.popleft())
        result = self.result
        result.plans.append(plan)
        result.odometry_from_rig.append(sample.odometry_from_rig_t0)
        result.context.scorer.add_plan(plan.t0_ns, plan.xyz_in_rig_t0)
        for stage, duration in outcome.stage_ms.items():
            result.stage_ms.setdefault(stage, []).append(duration)
        self._sequence += 1
        left_out = outcome.selection.left_out
        latency_ms = (steady_ns() - outcome.selection.ready_ns) / NS_PER_MS
        self._record.planned(plan.t0_ns, now_ns, latency_ms, left_out)
        context = self._status_context(now_ns, ruling.verdict)
        missing = tuple(lost.source for lost in left_out)
        self._write(outcome, now_ns, replace(context, missing_cameras=missing), latency_ms)

    def _write(
        self, outcome: Outcome, now_ns: int, context: StatusContext, latency_ms: float
    ) -> None:
        plan, sample, selection = outcome.plan, outcome.sample, outcome.selection
        assert plan is not None and sample is not None
        make, sequence = self._writer.make, self._sequence
        frame = messages.path_frame(
            sample, self._settings.rig_frame, self._settings.path_in_odometry
        )
        status = planned_status(
            make,
            plan,
            sample,
            due_ns=selection.due_ns,
            sequence=sequence,
            licence=self._backend.manifest.licence,
            latency_ms=latency_ms,
            skew_ms=selection.skew_ns / NS_PER_MS,
            stage_ms=outcome.stage_ms,
            context=context,
        )
        self._put(now_ns, "path", messages.path(make, plan, frame))
        self._describe(now_ns, plan, frame)
        self._put(now_ns, "status", status)

    def _describe(self, now_ns: int, plan: Plan, frame: PathFrame, reason: str = "") -> None:
        """What goes with a path."""
        make, sequence = self._writer.make, self._sequence
        self._put(now_ns, "trajectory", messages.trajectory(make, plan, frame, sequence, reason))
        self._put(now_ns, "candidates", messages.candidates(make, plan, frame))
        self._put(now_ns, "reasoning", messages.reasoning(make, plan))
        self._put(now_ns, "reasoning_trace", messages.reasoning_trace(make, plan, frame))

    def _put(self, now_ns: int, name: str, message: Any) -> None:
        self._writer.write(f"{self._planner}/{name}", now_ns, message)

    def _tell(self, now_ns: int, what: Rejection | FallbackPlan, context: StatusContext) -> None:
        """Write a refused tick's status, or a stop."""
        make, settings = self._writer.make, self._settings
        if isinstance(what, FallbackPlan):
            self._sequence += 1
            self.result.fallback_plans += 1
            frame = messages.pose_frame(
                what.frame_id,
                what.odometry_from_rig_t0,
                settings.rig_frame,
                settings.path_in_odometry,
            )
            if what.path is not None:
                self._put(now_ns, "path", messages.path(make, what.plan, frame, what.path))
            self._describe(now_ns, what.plan, frame, what.reason)
            return
        self.result.rejections.append(what)
        manifest = self._backend.manifest
        context = replace(context, ticks_rejected=len(self.result.rejections))
        status = rejected_status(make, what, manifest.name, manifest.licence, context)
        self._put(now_ns, "status", status)

    def _status_context(self, now_ns: int, verdict: SafetyVerdict | None = None) -> StatusContext:
        return StatusContext(
            now_ns=now_ns,
            sources=tuple(source.report(now_ns) for source in self._feed.sources.values()),
            plans_published=len(self.result.plans),
            ticks_rejected=len(self.result.rejections),
            verdict=verdict,
            fallback_reason=self._stage.reason,
        )


def _instant_ns(what: Rejection | FallbackPlan) -> int:
    """When a refused tick was due, or the instant that a stop starts from."""
    return what.due_ns if isinstance(what, Rejection) else what.plan.t0_ns


def replay(
    bag_path: Path,
    settings: PlannerSettings,
    backend: PlannerBackend,
    plans_path: Path,
    progress: Callable[[float], None] = lambda done_s: None,
) -> ReplayResult:
    """Plan on a bag with a loaded backend and write what the node would have published."""
    with BagReader(bag_path) as bag, BagWriter(plans_path, overwrite=True) as writer:
        return Replay(bag, settings, backend, writer).run(progress)
