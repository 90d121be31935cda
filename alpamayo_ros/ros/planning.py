"""A configured planner: what arrives becomes ticks, ticks become plans, plans go out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from alpamayo_ros import diagnosis
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.diagnosis import Entry
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.planning_record import PlanningRecord
from alpamayo_ros.questions import AskResult
from alpamayo_ros.ros.executor import guarded
from alpamayo_ros.ros.inputs import PlannerInputs
from alpamayo_ros.ros.markers import MarkersOutput
from alpamayo_ros.ros.outputs import PlannerOutputs
from alpamayo_ros.ros.safety import PlannerSafety
from alpamayo_ros.safety.availability import Availability, availability
from alpamayo_ros.safety.verdict import SafetyVerdict
from alpamayo_ros.sampling import Selection
from alpamayo_ros.status_messages import StatusContext
from alpamayo_ros.types import CameraFrame, LateReasoning, Rejection, RejectionReason
from alpamayo_ros.worker import InferenceWorker, Outcome


class Planning:
    """Between configure and cleanup. Called from the planner's callback group, but for `ask`."""

    def __init__(
        self,
        node: Node,
        settings: PlannerSettings,
        backend: PlannerBackend,
        group: CallbackGroup,
        markers: MarkersOutput,
    ) -> None:
        self._node, self._settings, self.backend, self._group = node, settings, backend, group
        self._markers = markers
        manifest = backend.manifest
        self._policy = settings.camera_policy(manifest.cameras, manifest.name)
        self._pipeline = Pipeline(settings.pipeline, self._policy)
        self._record = PlanningRecord()
        self._outputs: PlannerOutputs | None = None
        self._inputs: PlannerInputs | None = None
        self._worker: InferenceWorker | None = None
        self._safety: PlannerSafety | None = None
        self._outcomes: deque[Outcome | LateReasoning] = deque()
        self._active = False
        self._last_plan_steady_s = float("-inf")
        self._valid_from_ns = 0  # steady; plans from samples before are of another time
        self._wake: Callable[[], None] = lambda: None

    # ---- lifecycle ---------------------------------------------------------------------------

    def open(self, wake: Callable[[], None]) -> None:
        """Subscribe and publish. `wake` has `publish_outcomes` called on the executor's thread.

        Raises UserError; what was opened by then is closed by `close_entities`.
        """
        settings, node = self._settings, self._node
        self._wake = wake
        outputs = self._outputs = PlannerOutputs(node, self._markers)
        self._safety = PlannerSafety(settings, self.backend.manifest.name, self._pipeline, outputs)
        self._inputs = PlannerInputs(
            node,
            settings,
            self._pipeline,
            RigOffset(settings.rig_frame, settings.odometry_child_from_rig),
            self._now_ns,
            self._group,
            guarded(node, self._on_tick),
            self.backend.manifest,
            self.backend.resize,
            self._foresee,
        )
        self._worker = InferenceWorker(
            self.backend,
            self._on_outcome,
            node.get_logger().error,
            CameraJudge(self._policy),
            self._on_reasoned,
        )
        self._inputs.await_odometry_frame(settings.configure_odometry_wait_s)
        refuses = settings.camera_info == "refuse"
        self._inputs.check_cameras(settings.configure_odometry_wait_s, refuses)

    def start(self) -> None:
        """Start ticking."""
        assert self._safety is not None
        self._safety.stage.start(self._now_ns())
        self._forget_plans_in_the_making("the planner was activated anew; ask again")
        self._record.start()
        assert self._outputs is not None
        self._outputs.sent_steady_s = float("-inf")
        self._active = True
        self._pipeline.start(self._now_ns())

    def stop(self) -> None:
        """Stop ticking; a plan still in the making is thrown away."""
        assert self._worker is not None and self._outputs is not None
        self._active = False
        self._pipeline.stop()
        self._worker.clear("the planner was deactivated before the answer was complete")
        self._outputs.clear_markers()

    def close_entities(self) -> None:
        """Unsubscribe, and publish no more."""
        self._active = False
        for part in (self._inputs, self._outputs):
            if part is not None:
                part.close()

    def close_model(self) -> InferenceWorker | None:
        """Free the model; its worker, where it is not through with its plan and will do so then."""
        if self._worker is None:
            self.backend.close()
            return None
        return None if self._worker.close() else self._worker

    def engage(self, engaged: bool) -> None:
        """Whether our plans are being driven."""
        if self._safety is not None:
            self._safety.stage.engage(engaged)

    # ---- ticks -------------------------------------------------------------------------------

    def check(self) -> None:
        """Notice deadlines while no message comes."""
        if self._active and self._inputs is not None and self._safety is not None:
            now_ns = self._now_ns()
            self._inputs.synchronizer.poll(time.monotonic_ns(), now_ns)
            self._safety.stop_if_due(now_ns)

    def clock_jumped(self, now_ns: int, by_ns: int) -> None:
        """The clock itself leapt."""
        self._pipeline.clock_jumped(now_ns, by_ns)

    def _on_tick(self, tick: Any) -> None:
        """A selection goes to the worker, a rejection out at once."""
        worker, inputs = self._worker, self._inputs
        if not self._active or worker is None or inputs is None:
            return
        if isinstance(tick, Rejection):
            if tick.reason == RejectionReason.CLOCK_JUMP:
                self._forget_plans_in_the_making("the clock jumped; ask again")
            self._reject(tick)
            return
        assert isinstance(tick, Selection)
        takes_it = self.backend.manifest.takes_navigation
        navigation = inputs.navigation.current() if takes_it else None
        dropped = worker.submit(replace(tick, navigation=navigation))
        if dropped is not None:
            self._record.dropped += 1
            self._reject(
                Rejection(
                    RejectionReason.PLANNER_BUSY,
                    "planner",
                    due_ns=dropped.due_ns,
                    detail="a newer sample took its place while the model was at work",
                )
            )

    def _foresee(self, frame: CameraFrame) -> None:
        """From decoding threads; before there is a worker nothing is ticking."""
        worker = self._worker
        if worker is not None:
            worker.foresee(frame)

    def _forget_plans_in_the_making(self, reason: str) -> None:
        self._valid_from_ns = time.monotonic_ns()
        if self._worker is not None:
            self._worker.clear(reason)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._wake()

    def _on_reasoned(self, late: LateReasoning) -> None:
        self._outcomes.append(late)
        self._wake()

    def publish_outcomes(self) -> None:
        """What the model has done meanwhile: plans, judged, failures, and late reasonings."""
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, LateReasoning):
                if self._active and self._outputs is not None:
                    self._outputs.publish_reasoning(outcome)
            elif self._active and outcome.selection.ready_ns >= self._valid_from_ns:
                self._publish(outcome)

    def _publish(self, outcome: Outcome) -> None:
        outputs, safety = self._outputs, self._safety
        assert outputs is not None and safety is not None
        if outcome.unreadable is not None:
            self._pipeline.discard(outcome.unreadable.slot)
        if outcome.rejection is not None:
            self._reject(outcome.rejection)
            return
        ruling = safety.judge(outcome, self._now_ns())
        if ruling.rejection is not None:
            self._reject(ruling.rejection, ruling.verdict)
            return
        assert ruling.plan is not None
        latency_ms = outputs.publish_plan(
            replace(outcome, plan=ruling.plan),
            safety.rig_frame,
            safety.path_in_odometry,
            self.backend.manifest.licence,
            self._status_context(ruling.verdict, outcome.selection.left_out),
        )
        self._last_plan_steady_s = time.monotonic()
        left_out = outcome.selection.left_out
        self._record.planned(ruling.plan.t0_ns, self._now_ns(), latency_ms, left_out)

    def _reject(self, rejection: Rejection, verdict: SafetyVerdict | None = None) -> None:
        outputs, safety, now_ns = self._outputs, self._safety, self._now_ns()
        assert outputs is not None and safety is not None
        if verdict is None:
            safety.stage.refuse(rejection, now_ns)
        self._record.refused(rejection, now_ns)
        manifest = self.backend.manifest
        outputs.publish_rejection(
            rejection,
            self._settings.rig_frame,
            manifest.name,
            manifest.licence,
            self._status_context(verdict),
        )
        safety.stop_if_due(now_ns)
        self._node.get_logger().warning(f"no plan: {rejection}", throttle_duration_sec=1.0)

    # ---- what there is to say ----------------------------------------------------------------

    def ask(self, question: str) -> AskResult:
        """A question to the model; waits."""
        assert self._worker is not None
        return self._worker.ask(question, self._settings.ask_timeout_s)

    def availability(self) -> Availability:
        """While active: for ~/availability."""
        assert self._safety is not None and self._outputs is not None
        silent_s = time.monotonic() - self._outputs.sent_steady_s
        stage = self._safety.stage
        stopping_for = stage.reason if stage.enforces else ""
        missing = tuple(lost.source for lost in self._record.left_out)
        return availability(silent_s, stopping_for, missing)

    def entries(self) -> list[Entry]:
        """For /diagnostics."""
        inputs, safety, entries = self._inputs, self._safety, []
        if self._active:
            entries.append(self._record.entry(time.monotonic() - self._last_plan_steady_s))
            if safety is not None:
                entries.append(safety.diagnosis())
        if inputs is not None:
            manifest = self.backend.manifest
            entries.append(diagnosis.model(manifest, self.backend.health()))
            entries.append(
                diagnosis.navigation(inputs.navigation.state(), manifest.takes_navigation)
            )
            calibration = inputs.camera_infos.entry()
            entries.extend([calibration] if calibration is not None else [])
            entries.extend(map(diagnosis.source, inputs.reports(self._now_ns())))
        return entries

    def _status_context(
        self, verdict: SafetyVerdict | None = None, left_out: Sequence[Rejection] = ()
    ) -> StatusContext:
        assert self._inputs is not None and self._safety is not None
        now_ns, navigation = self._now_ns(), self._inputs.navigation.state()
        return StatusContext(
            now_ns=now_ns,
            sources=self._inputs.reports(now_ns),
            plans_published=self._record.plans,
            ticks_rejected=self._record.rejected,
            samples_dropped=self._record.dropped,
            navigation=navigation.text,
            notice=navigation.refusal,
            verdict=verdict,
            missing_cameras=tuple(lost.source for lost in left_out),
            fallback_reason=self._safety.stage.reason,
        )

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
