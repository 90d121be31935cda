"""planner_node: four cameras and odometry in, a stamped path out. A lifecycle node.

configure loads the model and subscribes, activate plans, deactivate stops publishing, cleanup
gives everything back. See README.md for topics and parameters.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import cv2
from lifecycle_msgs.msg import State, Transition
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_for
from alpamayo_ros.errors import ModelError
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import PlannerSettings, settings_from
from alpamayo_ros.pipeline import BACKWARD_JUMP_NS, FORWARD_JUMP_NS, Pipeline
from alpamayo_ros.questions import AskResult, unavailable
from alpamayo_ros.ros.declared import DeclaredParameters
from alpamayo_ros.ros.diagnostics import Diagnostics
from alpamayo_ros.ros.executor import PlannerExecutor, guarded
from alpamayo_ros.ros.inputs import PlannerInputs
from alpamayo_ros.ros.lifecycle import SafeLifecycleNode
from alpamayo_ros.ros.outputs import PlannerOutputs
from alpamayo_ros.ros.process import run_node
from alpamayo_ros.ros.questions import QuestionService
from alpamayo_ros.ros.safety import PlannerSafety
from alpamayo_ros.safety.verdict import SafetyVerdict
from alpamayo_ros.sampling import Selection
from alpamayo_ros.status_messages import StatusContext
from alpamayo_ros.types import Rejection, RejectionReason
from alpamayo_ros.worker import InferenceWorker, Outcome

DEADLINE_CHECK_S = 0.02  # how late a missed deadline may be noticed
DIAGNOSTICS_PERIOD_S = 1.0


class PlannerNode(SafeLifecycleNode):
    """Wires inputs, pipeline, worker and outputs together."""

    def __init__(self, executor: PlannerExecutor, name: str = "planner", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        executor.run_beside(self.change_state_service)
        executor.run_beside(QuestionService(self, self._ask).service)
        executor.add_node(self)
        self._run_between = executor.run_between
        cv2.setNumThreads(1)  # frames are decoded in parallel; each by one thread
        self.parameters = DeclaredParameters(self, self._parameter_overrides)
        self._group = MutuallyExclusiveCallbackGroup()
        self._settings: PlannerSettings | None = None
        self._backend: PlannerBackend | None = None
        self._pipeline: Pipeline | None = None
        self._inputs: PlannerInputs | None = None
        self._outputs: PlannerOutputs | None = None
        self._safety: PlannerSafety | None = None
        self._worker: InferenceWorker | None = None
        self._left_behind: InferenceWorker | None = None  # closed, but not through with its plan
        self._outcomes: deque[Outcome] = deque()
        self._last_rejection: Rejection | None = None
        self._last_plan_steady_s = float("-inf")
        self._dropped = 0
        self._valid_from_ns = 0  # steady; plans from samples before are of another time
        # Plans come from the worker's thread; publishing belongs to the executor's.
        self._plan_ready = self.create_guard_condition(
            guarded(self, self._publish_outcomes), callback_group=self._group
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = Diagnostics(self, hardware_id="alpamayo_planner")
        self.create_timer(
            DIAGNOSTICS_PERIOD_S,
            guarded(self, self._publish_diagnostics),
            callback_group=self._group,
            clock=steady,
        )
        # Deadlines are in ROS time, but looked at in steady time: a paused clock moves neither.
        self.create_timer(
            DEADLINE_CHECK_S, guarded(self, self._check), callback_group=self._group, clock=steady
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(nanoseconds=FORWARD_JUMP_NS),
                min_backward=Duration(nanoseconds=-BACKWARD_JUMP_NS),
                on_clock_change=True,
            ),
            post_callback=self._on_clock_jump,
        )

    def now_ns(self) -> int:
        """ROS time; 0 before the first /clock where time is simulated."""
        return int(self.get_clock().now().nanoseconds)

    def autostart(self) -> None:
        """Configure and activate, if parameter `autostart` says so."""
        if self.parameters.values()["autostart"] is True:
            if self.request(Transition.TRANSITION_CONFIGURE):
                self.request(Transition.TRANSITION_ACTIVATE)

    # ---- transitions -------------------------------------------------------------------------

    def configure_node(self) -> None:
        """Check parameters, load the model, subscribe, check odometry's frame."""
        if self._left_behind is not None and self._left_behind.alive:
            # A second model beside it may not fit the device.
            raise ModelError("the model of before is still at work; configure again when it is not")
        self._left_behind = None
        settings = settings_from(self.parameters.values())
        backend = create_for(settings)
        cameras = tuple(camera.name for camera in settings.cameras)
        backend.manifest.cameras.check(cameras, backend.manifest.name)
        started = time.monotonic()
        backend.load()
        backend.warm_up(cameras)
        self._backend, self._settings = backend, settings
        self._pipeline = Pipeline(settings.pipeline)
        self._outputs = PlannerOutputs(self)
        self._safety = PlannerSafety(settings, backend.manifest.name, self._pipeline, self._outputs)
        rig_offset = RigOffset(settings.rig_frame, settings.odometry_child_from_rig)
        self._inputs = PlannerInputs(
            self,
            settings,
            self._pipeline,
            rig_offset,
            self.now_ns,
            self._group,
            self._on_tick,
            backend.resize,
        )
        self._worker = InferenceWorker(backend, self._on_outcome, self.get_logger().error)
        self._inputs.await_odometry_frame(settings.configure_odometry_wait_s)
        self.get_logger().info(
            f"configured in {time.monotonic() - started:.1f} s: "
            f"{backend.manifest.introduction()}; cameras {', '.join(cameras)}"
        )

    def activate_node(self) -> None:
        """Start ticking."""
        assert self._pipeline is not None and self._safety is not None
        self._safety.stage.start(self.now_ns())
        self._forget_plans_in_the_making("the planner was activated anew; ask again")
        self._last_rejection = None
        self._pipeline.start(self.now_ns())

    def deactivate_node(self) -> None:
        """Stop ticking; a plan still in the making is thrown away."""
        if self._pipeline is not None and self._worker is not None and self._outputs is not None:
            self._pipeline.stop()
            self._worker.clear("the planner was deactivated before the answer was complete")
            self._outputs.clear_markers()

    def cleanup_node(self) -> None:
        """Unsubscribe, end the worker, free the model."""
        inputs, self._inputs = self._inputs, None
        worker, self._worker = self._worker, None
        outputs, self._outputs = self._outputs, None
        self._safety = None
        backend, self._backend = self._backend, None
        self._pipeline = None

        def end_entities() -> None:
            for part in (inputs, outputs):
                if part is not None:
                    part.close()

        # Transitions run beside the executor, which may be waiting for what ends here.
        self._run_between(end_entities)
        if worker is not None:
            if not worker.close():
                self._left_behind = worker
                raise ModelError(
                    "the model did not finish its work within 2 s; it ends when it has"
                )
        elif backend is not None:
            backend.close()

    # ---- ticks -------------------------------------------------------------------------------

    def _on_tick(self, tick: Any) -> None:
        """A selection goes to the worker, a rejection out at once."""
        worker, inputs = self._worker, self._inputs
        if worker is None or inputs is None or self.state_id != State.PRIMARY_STATE_ACTIVE:
            return
        if isinstance(tick, Rejection):
            if tick.reason == RejectionReason.CLOCK_JUMP:
                self._forget_plans_in_the_making("the clock jumped; ask again")
            self._reject(tick)
            return
        assert isinstance(tick, Selection)
        assert self._backend is not None
        navigation = inputs.navigation.current()
        if not self._backend.manifest.takes_navigation:
            navigation = None
        dropped = worker.submit(replace(tick, navigation=navigation))
        if dropped is not None:
            self._dropped += 1
            self._reject(
                Rejection(
                    RejectionReason.PLANNER_BUSY,
                    "planner",
                    due_ns=dropped.due_ns,
                    detail="a newer sample took its place while the model was at work",
                )
            )

    def _forget_plans_in_the_making(self, reason: str) -> None:
        self._valid_from_ns = time.monotonic_ns()
        if self._worker is not None:
            self._worker.clear(reason)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._plan_ready.trigger()

    def _publish_outcomes(self) -> None:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            outputs, backend, safety = self._outputs, self._backend, self._safety
            if self.state_id != State.PRIMARY_STATE_ACTIVE or outputs is None or backend is None:
                continue
            if outcome.selection.ready_ns < self._valid_from_ns:
                continue
            if outcome.unreadable is not None and self._pipeline is not None:
                self._pipeline.discard(outcome.unreadable.slot)
            if outcome.rejection is not None:
                self._reject(outcome.rejection)
                continue
            assert safety is not None
            ruling = safety.judge(outcome, self.now_ns())
            if ruling.rejection is not None:
                self._reject(ruling.rejection, ruling.verdict)
                continue
            outputs.publish_plan(
                replace(outcome, plan=ruling.plan),
                safety.rig_frame,
                safety.path_in_odometry,
                backend.manifest.licence,
                self._status_context(ruling.verdict),
            )
            self._last_plan_steady_s = time.monotonic()
            self._last_rejection = None

    def _reject(self, rejection: Rejection, verdict: SafetyVerdict | None = None) -> None:
        safety = self._safety
        if self._outputs is None or self._backend is None or safety is None:
            return
        if verdict is None:
            safety.stage.refuse(rejection, self.now_ns())
        manifest = self._backend.manifest
        self._outputs.publish_rejection(
            rejection, manifest.name, manifest.licence, self._status_context(verdict)
        )
        safety.stop_if_due(self.now_ns())
        self._last_rejection = rejection
        self.get_logger().warning(f"no plan: {rejection}", throttle_duration_sec=1.0)

    def _status_context(self, verdict: SafetyVerdict | None = None) -> StatusContext:
        now_ns, safety = self.now_ns(), self._safety
        outputs, inputs = self._outputs, self._inputs
        navigation = inputs.navigation.state() if inputs is not None else None
        return StatusContext(
            now_ns=now_ns,
            sources=inputs.reports(now_ns) if inputs is not None else (),
            plans_published=outputs.plans if outputs is not None else 0,
            ticks_rejected=outputs.rejected if outputs is not None else 0,
            samples_dropped=self._dropped,
            navigation=navigation.text if navigation is not None else "",
            notice=navigation.refusal if navigation is not None else "",
            verdict=verdict,
            fallback_reason=safety.stage.reason if safety is not None else "",
        )

    def _check(self) -> None:
        """Notice deadlines while no message comes."""
        inputs = self._inputs
        if inputs is not None and self.state_id == State.PRIMARY_STATE_ACTIVE:
            inputs.synchronizer.poll(time.monotonic_ns(), self.now_ns())
            if self._safety is not None:
                self._safety.stop_if_due(self.now_ns())
        self._publish_diagnostics(only_if_changed=True)

    def _on_clock_jump(self, jump: Any) -> None:
        pipeline, now_ns, by_ns = self._pipeline, self.now_ns(), int(jump.delta.nanoseconds)
        # From 0 to the first /clock is a start, not a jump.
        if pipeline is not None and now_ns != by_ns:
            pipeline.clock_jumped(now_ns, by_ns)

    def _ask(self, question: str) -> tuple[AskResult, str]:
        """A question to the model; waits, so that it runs beside the executor."""
        worker, backend, settings = self._worker, self._backend, self._settings
        if worker is None or backend is None or settings is None:
            return AskResult(None, unavailable(None, self.state_label)), ""
        told = unavailable(backend.manifest, self.state_label)
        result = AskResult(None, told) if told else worker.ask(question, settings.ask_timeout_s)
        return result, backend.manifest.name

    # ---- diagnostics -------------------------------------------------------------------------

    def _publish_diagnostics(self, only_if_changed: bool = False) -> None:
        statuses = [self._diagnostics.lifecycle(self.state_label, self.last_error or "")]
        inputs, outputs, backend = self._inputs, self._outputs, self._backend
        if self.state_id == State.PRIMARY_STATE_ACTIVE and outputs is not None:
            counts = {
                "plans_published": outputs.plans,
                "ticks_rejected": outputs.rejected,
                "samples_dropped": self._dropped,
            }
            silent_s = time.monotonic() - self._last_plan_steady_s
            statuses.append(self._diagnostics.planning(self._last_rejection, silent_s, counts))
            if self._safety is not None:
                statuses.append(self._diagnostics.safety(*self._safety.diagnosis()))
        if backend is not None and inputs is not None:
            state, reports = inputs.navigation.state(), inputs.reports(self.now_ns())
            statuses.append(self._diagnostics.model(backend.manifest))
            statuses.append(self._diagnostics.navigation(state, backend.manifest.takes_navigation))
            statuses.extend(map(self._diagnostics.source, reports))
        self._diagnostics.publish(statuses, only_if_changed)


def main() -> int:
    """Run until SIGINT or SIGTERM; exit code 0."""

    def build(executor: PlannerExecutor) -> PlannerNode:
        node = PlannerNode(executor)
        threading.Thread(target=node.autostart, name="autostart", daemon=True).start()
        return node

    def shut_down(node: PlannerNode) -> None:
        if node.state_id == State.PRIMARY_STATE_ACTIVE:
            node.request(Transition.TRANSITION_DEACTIVATE)
        if node.state_id == State.PRIMARY_STATE_INACTIVE:
            node.request(Transition.TRANSITION_CLEANUP)

    return run_node(build, shut_down)


if __name__ == "__main__":
    raise SystemExit(main())
