"""A lifecycle node that illegal requests, slow transitions and exceptions do not end.

rclpy raises out of spin on an illegal transition request, swallows exceptions of transition
callbacks without a word, and gives its services no callback group of their own.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from alpamayo_ros.diagnosis import NEVER, Occurrence

# What each primary state allows; ids in between are rcl's own and nobody's to ask for.
LEGAL = {
    State.PRIMARY_STATE_UNCONFIGURED: {
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    },
    State.PRIMARY_STATE_INACTIVE: {
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_INACTIVE_SHUTDOWN,
    },
    State.PRIMARY_STATE_ACTIVE: {
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_ACTIVE_SHUTDOWN,
    },
}
BY_LABEL = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
}


class SafeLifecycleNode(LifecycleNodeMixin, Node):
    """Override `configure_node`, `activate_node`, `deactivate_node`, `cleanup_node`.

    They raise to refuse; what they raise is logged and kept in `last_error` until configured, and
    in `last_fault` for good. Transitions may run in any thread, one at a time; a request that comes
    during another is refused.
    """

    def __init__(self, node_name: str, **kwargs: Any) -> None:
        self.last_error: str | None = None
        self.last_fault = NEVER
        self._transition_lock = threading.Lock()
        Node.__init__(self, node_name, **kwargs)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._service_change_state.callback = self._on_change_state
        self.change_state_service = self._service_change_state

    # ---- for subclasses ----------------------------------------------------------------------

    def configure_node(self) -> None:
        """Load and prepare. Raises to stay unconfigured."""

    def activate_node(self) -> None:
        """Begin work. Raises to stay inactive."""

    def deactivate_node(self) -> None:
        """End work."""

    def cleanup_node(self) -> None:
        """Give everything back. Called after a failed configure too."""

    # ---- state and requests ------------------------------------------------------------------

    @property
    def state_id(self) -> int:
        """One of lifecycle_msgs/State's ids."""
        return int(self._state_machine.current_state[0])

    @property
    def state_label(self) -> str:
        """The state's name, e.g. "inactive"."""
        return str(self._state_machine.current_state[1])

    def request(self, transition_id: int) -> bool:
        """Do a transition if it is legal now; False, with a warning, where it is not."""
        if not self._transition_lock.acquire(blocking=False):
            self.get_logger().warning(f"transition {transition_id} refused: one is under way")
            return False
        try:
            if transition_id not in LEGAL.get(self.state_id, set()):
                self.get_logger().warning(
                    f"transition {transition_id} refused: not possible while {self.state_label}"
                )
                return False
            trigger: dict[int, Callable[[], TransitionCallbackReturn]] = {
                Transition.TRANSITION_CONFIGURE: self.trigger_configure,
                Transition.TRANSITION_CLEANUP: self.trigger_cleanup,
                Transition.TRANSITION_ACTIVATE: self.trigger_activate,
                Transition.TRANSITION_DEACTIVATE: self.trigger_deactivate,
            }
            result = trigger.get(transition_id, self.trigger_shutdown)()
            return bool(result == TransitionCallbackReturn.SUCCESS)
        except Exception:
            self._failed(f"transition {transition_id}: {traceback.format_exc(limit=-1)}")
            return False
        finally:
            self._transition_lock.release()

    def _on_change_state(self, request: Any, response: Any) -> Any:
        transition_id = request.transition.id
        if request.transition.label:
            if request.transition.label == "shutdown":
                ids = LEGAL.get(self.state_id, set()) - set(BY_LABEL.values())
                transition_id = next(iter(ids), Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
            else:
                transition_id = BY_LABEL.get(request.transition.label, -1)
        response.success = self.request(transition_id)
        return response

    # ---- rclpy's callbacks -------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Refusal leads back to unconfigured, from where configure may be tried again."""
        if self._attempt("configure", self.configure_node):
            self.last_error = None
            return TransitionCallbackReturn.SUCCESS
        self._attempt("clean up", self.cleanup_node, keep_error=True)
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Refusal leads back to inactive."""
        if not self._attempt("activate", self.activate_node):
            return TransitionCallbackReturn.FAILURE
        super().on_activate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Always ends inactive: nothing that fails on the way may keep a node publishing."""
        super().on_deactivate(state)
        self._attempt("deactivate", self.deactivate_node)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Always ends unconfigured."""
        self._attempt("clean up", self.cleanup_node)
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Always ends finalized."""
        if state.state_id == State.PRIMARY_STATE_ACTIVE:
            self.on_deactivate(state)
        if state.state_id != State.PRIMARY_STATE_UNCONFIGURED:
            self._attempt("clean up", self.cleanup_node)
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recovers to unconfigured."""
        self._attempt("clean up", self.cleanup_node, keep_error=True)
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, what: str, step: Callable[[], None], keep_error: bool = False) -> bool:
        try:
            step()
            return True
        except Exception as error:
            text = f"{what} failed: {error or type(error).__name__}"
            if keep_error:
                self.get_logger().error(text)
            else:
                self._failed(text)
            self.get_logger().debug(traceback.format_exc())
            return False

    def _failed(self, text: str) -> None:
        self.last_error = text
        self.last_fault = Occurrence(text, int(self.get_clock().now().nanoseconds))
        self.get_logger().error(text)
