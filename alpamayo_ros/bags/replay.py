"""Plan on a recording at full speed, without ROS, through the node's own pipeline."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from alpamayo_ros import messages
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.bags.context import DriveContext, read_context
from alpamayo_ros.bags.inputs import check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import fed, feed_for
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.feed import steady_ns
from alpamayo_ros.messages import StatusContext
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import Selection
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
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    view_coverage: dict[str, float] = field(default_factory=dict)  # by camera, with rig_views
    wall_s: float = 0.0
    bag_s: float = 0.0

    def reasons(self) -> dict[str, int]:
        """How often each reason was given."""
        return dict(Counter(rejection.reason.value for rejection in self.rejections))


class Replay:
    """One pass over one bag. Time is the recording's own: "now" is a message's log time."""

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
        self.result = ReplayResult(read_context(bag, settings), warnings=list(bag.warnings))
        self._feed = feed_for(bag, settings, self.result.context, backend.resize)
        self._pending: deque[tuple[int, Rejection]] = deque()  # log time, rejection

    def run(self, progress: Callable[[float], None] = lambda done_s: None) -> ReplayResult:
        """Play the bag through; `progress` hears how many seconds of it are done."""
        started = time.perf_counter()
        for name, msgtype in PLANNER_TOPICS.items():
            self._writer.add_topic(f"{self._planner}/{name}", msgtype)
        for now_ns, camera, _ in fed(self._bag, self._settings, self._feed):
            if camera is not None:
                self._reject_due(camera.name)
            self._poll(now_ns)
            progress((now_ns - self._bag.start_ns) / NS_PER_S)
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

    def _reject_due(self, camera: str) -> None:
        """Write the refusals that a camera's newest frame has overtaken."""
        newest = self._feed.pipeline.frames[camera].newest_ns or 0
        while self._pending and self._pending[0][1].due_ns <= newest:
            self._reject(*self._pending.popleft())

    def _poll(self, now_ns: int) -> None:
        for tick in self._feed.poll(steady_ns(), now_ns):
            if isinstance(tick, Selection):
                self._finish(run(self._backend, tick), now_ns)
            else:
                self._pending.append((now_ns, tick))

    def _finish(self, outcome: Outcome, now_ns: int) -> None:
        if outcome.unreadable is not None:
            self._feed.pipeline.discard(outcome.unreadable.slot)
        if outcome.rejection is not None:
            self._pending.append((now_ns, outcome.rejection))
            return
        plan, sample = outcome.plan, outcome.sample
        assert plan is not None and sample is not None
        while self._pending:  # they were due before this plan
            self._reject(*self._pending.popleft())
        result = self.result
        result.plans.append(plan)
        result.odometry_from_rig.append(sample.odometry_from_rig_t0)
        result.context.scorer.add_plan(plan.t0_ns, plan.xyz_in_rig_t0)
        for stage, duration in outcome.stage_ms.items():
            result.stage_ms.setdefault(stage, []).append(duration)
        self._write(outcome, now_ns)

    def _write(self, outcome: Outcome, now_ns: int) -> None:
        plan, sample, selection = outcome.plan, outcome.sample, outcome.selection
        assert plan is not None and sample is not None
        make, sequence = self._writer.make, len(self.result.plans)
        frame = messages.path_frame(
            sample, self._settings.rig_frame, self._settings.path_in_odometry
        )
        status = messages.planned_status(
            make,
            plan,
            sample,
            due_ns=selection.due_ns,
            sequence=sequence,
            licence=self._backend.manifest.licence,
            latency_ms=(steady_ns() - selection.ready_ns) / NS_PER_MS,
            skew_ms=selection.skew_ns / NS_PER_MS,
            stage_ms=outcome.stage_ms,
            context=self._status_context(now_ns),
        )
        for name, message in (
            ("path", messages.path(make, plan, frame)),
            ("trajectory", messages.trajectory(make, plan, frame, sequence)),
            ("candidates", messages.candidates(make, plan, frame)),
            ("reasoning", messages.reasoning(make, plan)),
            ("reasoning_trace", messages.reasoning_trace(make, plan, frame)),
            ("status", status),
        ):
            self._writer.write(f"{self._planner}/{name}", now_ns, message)

    def _reject(self, now_ns: int, rejection: Rejection) -> None:
        self.result.rejections.append(rejection)
        manifest = self._backend.manifest
        status = messages.rejected_status(
            self._writer.make,
            rejection,
            manifest.name,
            manifest.licence,
            self._status_context(now_ns),
        )
        self._writer.write(f"{self._planner}/status", now_ns, status)

    def _status_context(self, now_ns: int) -> StatusContext:
        return StatusContext(
            now_ns=now_ns,
            sources=tuple(source.report(now_ns) for source in self._feed.sources.values()),
            plans_published=len(self.result.plans),
            ticks_rejected=len(self.result.rejections),
        )


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
