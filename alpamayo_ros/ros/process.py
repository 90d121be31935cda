"""Start, spin and end one node's process, with SIGTERM handled in the right order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import rclpy
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alpamayo_ros.errors import UserError
from alpamayo_ros.ros.executor import PlannerExecutor

NodeType = TypeVar("NodeType", bound=Node)
SPIN_TIMEOUT_S = 0.1  # a signal is acted upon within
JOIN_TIMEOUT_S = 2.0  # launch kills five seconds after SIGTERM


def run_node(
    build: Callable[[PlannerExecutor], NodeType],
    shut_down: Callable[[NodeType], None] = lambda node: None,
    finished: Callable[[NodeType], bool] = lambda node: False,
) -> int:
    """Build a node, spin it until a signal or `finished`, shut it down; exit code 0.

    A UserError of `build` is logged and gives exit code 1.
    rclpy's own handlers invalidate the context before anything else sees the signal, and then
    nothing can be published, deactivated or destroyed any more. So they are not installed.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    executor = PlannerExecutor()
    try:
        node = build(executor)
    except UserError as error:
        get_logger("alpamayo_ros").fatal(str(error))
        rclpy.try_shutdown()
        return 1
    if node.executor is None:
        executor.add_node(node)
    try:
        while not stop.is_set() and not finished(node):
            executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
    finally:
        shut_down(node)
        executor.join(JOIN_TIMEOUT_S)
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown(timeout_sec=JOIN_TIMEOUT_S)
        rclpy.try_shutdown()
        # Ctrl-C comes twice under launch. Python gives handlers back to the system while it ends,
        # and the second would then kill; what is ignored stays so.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


class EndingNode(Protocol):
    """A node with work that ends: started, stopped, done, and perhaps failed."""

    done: threading.Event
    failed: bool

    def start(self) -> None: ...

    def stop(self) -> None: ...


def run_to_end(make: Callable[[], Any]) -> int:
    """Run an `EndingNode` until its work is done; exit code 1 where it could not be done."""
    node: EndingNode | None = None

    def build(executor: PlannerExecutor) -> Any:
        nonlocal node
        node = make()
        node.start()
        return node

    code = run_node(build, lambda made: made.stop(), lambda made: made.done.is_set())
    return 1 if code or node is None or node.failed else 0
