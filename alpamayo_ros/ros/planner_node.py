"""planner_node: four cameras and odometry in, a stamped path out. A lifecycle node.

configure loads the model and subscribes, activate plans, deactivate stops publishing, cleanup
gives everything back. See README.md for topics and parameters.
"""

from __future__ import annotations

import platform
import threading
import time
from typing import Any

import cv2
from lifecycle_msgs.msg import State, Transition
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration

from alpamayo_ros import diagnosis
from alpamayo_ros.backends.registry import create_for
from alpamayo_ros.errors import ModelError
from alpamayo_ros.isolation.backend import isolated
from alpamayo_ros.parameter_table import BY_NAME
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.pipeline import BACKWARD_JUMP_NS, FORWARD_JUMP_NS
from alpamayo_ros.questions import AskResult, unavailable
from alpamayo_ros.ros import compat
from alpamayo_ros.ros.declared import DeclaredParameters
from alpamayo_ros.ros.diagnostics import Diagnostics
from alpamayo_ros.ros.executor import PlannerExecutor, guarded
from alpamayo_ros.ros.lifecycle import SafeLifecycleNode
from alpamayo_ros.ros.markers import MarkersOutput
from alpamayo_ros.ros.planning import Planning
from alpamayo_ros.ros.process import run_node
from alpamayo_ros.ros.questions import QuestionService
from alpamayo_ros.ros.vehicle import AvailabilityOutput, EngagedInput
from alpamayo_ros.safety.availability import unavailable as unavailable_while
from alpamayo_ros.worker import InferenceWorker

DEADLINE_CHECK_S = 0.02  # how late a missed deadline may be noticed
DIAGNOSTICS_PERIOD_S = 1.0
HEARTBEAT_S = 0.1
CHANGE_CHECKS = 5  # every so many checks a changed level is looked for: that costs more


class PlannerNode(SafeLifecycleNode):
    """Parameters, transitions and timers around a `Planning`."""

    def __init__(self, executor: PlannerExecutor, name: str = "planner", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        executor.run_beside(self.change_state_service)
        executor.run_beside(QuestionService(self, self._ask).service)
        executor.add_node(self)
        self._run_between = executor.run_between
        cv2.setNumThreads(1)  # frames are decoded in parallel; each by one thread
        self.parameters = DeclaredParameters(self, self._parameter_overrides)
        self._group = MutuallyExclusiveCallbackGroup()
        self._planning: Planning | None = None  # between configure and cleanup
        self._in_force: dict[str, Any] = {}  # parameters as they were at configure
        self._left_behind: InferenceWorker | None = None  # closed, but not through with its plan
        self._checks = 0
        # Plans come from the worker's thread; publishing belongs to the executor's.
        self._plan_ready = self.create_guard_condition(
            guarded(self, self._publish_outcomes), callback_group=self._group
        )
        self._engaged = EngagedInput(self, self._on_engaged, self._group)
        self._availability = AvailabilityOutput(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = Diagnostics(self)
        self._markers = MarkersOutput(self)
        guarded(self, self._markers.open)()  # what cannot be had is for configure to refuse
        self.create_timer(
            DIAGNOSTICS_PERIOD_S,
            guarded(self, self._publish_diagnostics),
            callback_group=self._group,
            clock=steady,
        )
        self.create_timer(
            HEARTBEAT_S,
            guarded(self, self._publish_availability),
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
        self._markers.open()
        values = self.parameters.values()
        settings = settings_from(values)
        backend = isolated(
            create_for(settings),
            settings.isolation,
            settings.plan_timeout_s,
            settings.load_timeout_s,
            self.get_logger().warning,
        )
        cameras = tuple(camera.name for camera in settings.cameras)
        backend.manifest.cameras.check(cameras, backend.manifest.name)
        started = time.monotonic()
        backend.load()
        backend.warm_up(cameras)
        self._planning = Planning(self, settings, backend, self._group, self._markers)
        self._planning.open(self._plan_ready.trigger)
        self._planning.engage(self._engaged.engaged)
        self._in_force = values
        self.get_logger().info(
            f"configured in {time.monotonic() - started:.1f} s: "
            f"{backend.manifest.introduction()}; cameras {', '.join(cameras)}"
        )

    def activate_node(self) -> None:
        """Start ticking."""
        assert self._planning is not None
        self._planning.start()

    def deactivate_node(self) -> None:
        """Stop ticking; a plan still in the making is thrown away."""
        if self._planning is not None:
            self._planning.stop()

    def cleanup_node(self) -> None:
        """Unsubscribe, end the worker, free the model."""
        planning, self._planning = self._planning, None
        self._in_force = {}
        if planning is None:
            return
        # Transitions run beside the executor, which may be waiting for what ends here.
        self._run_between(planning.close_entities)
        self._left_behind = planning.close_model()
        if self._left_behind is not None:
            raise ModelError("the model did not finish its work within 2 s; it ends when it has")

    # ---- while it runs -----------------------------------------------------------------------

    def _publish_outcomes(self) -> None:
        planning = self._planning
        if planning is not None:
            planning.publish_outcomes()

    def _check(self) -> None:
        planning = self._planning
        if planning is not None:
            planning.check()
        self._checks += 1
        if self._checks % CHANGE_CHECKS == 0:
            self._publish_diagnostics(only_if_changed=True)

    def _on_clock_jump(self, jump: Any) -> None:
        planning, by_ns = self._planning, int(jump.delta.nanoseconds)
        now_ns = int(self.get_clock().now().nanoseconds)
        # From 0 to the first /clock is a start, not a jump.
        if planning is not None and now_ns != by_ns:
            planning.clock_jumped(now_ns, by_ns)

    def _ask(self, question: str) -> tuple[AskResult, str]:
        """A question to the model; waits, so that it runs beside the executor."""
        planning = self._planning
        if planning is None:
            return AskResult(None, unavailable(None, self.state_label)), ""
        manifest = planning.backend.manifest
        told = unavailable(manifest, self.state_label)
        return AskResult(None, told) if told else planning.ask(question), manifest.name

    def _on_engaged(self, engaged: bool) -> None:
        planning = self._planning
        if planning is not None:
            planning.engage(engaged)

    def _publish_availability(self) -> None:
        planning = self._planning
        if planning is not None and self.state_id == State.PRIMARY_STATE_ACTIVE:
            now = planning.availability()
        else:
            now = unavailable_while(self.state_label, self.last_error or "")
        self._availability.publish(now, self._engaged.engaged)

    def _publish_diagnostics(self, only_if_changed: bool = False) -> None:
        planning, values = self._planning, self.parameters.values()
        changed = [name for name, value in self._in_force.items() if values[name] != value]
        first = diagnosis.lifecycle(
            self.state_label, self.last_error or "", self.last_fault, changed, compat.origin()
        )
        entries = planning.entries() if planning is not None else []
        hardware_id = str(values["hardware_id"]) or platform.node()
        said = self._diagnostics.publish([first, *entries], hardware_id, only_if_changed)
        if said is not None:
            self._markers.health(said, self._rig_frame(values))

    def _rig_frame(self, values: dict[str, Any]) -> str:
        """The one in force or as set; the default for a bad one, of which the health may speak."""
        frame = self._in_force.get("rig_frame", values["rig_frame"])
        return frame if isinstance(frame, str) and frame else str(BY_NAME["rig_frame"].default)


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
