"""An executor that a slow transition cannot block, and a failing callback cannot end.

rclpy's SingleThreadedExecutor handles a 30 s model load before anything else, get_state included;
its MultiThreadedExecutor hands every message to a thread pool, which costs more than most
callbacks here do. This one runs callbacks in the spinning thread and only what is declared slow
in a thread of its own.
"""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rclpy.executors import (
    ConditionReachedException,
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.node import Node

from alpamayo_ros.memory import NODE_BYTES, keep_freed_memory

JOIN_STEP_S = 0.01


def guarded(node: Node, callback: Callable[..., None]) -> Callable[..., None]:
    """`callback`, its exceptions logged instead of raised.

    An exception that leaves a callback ends the node, or leaves its callback group locked.
    """

    @functools.wraps(callback)
    def call(*args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            node.get_logger().error(
                f"{getattr(callback, '__name__', 'callback')} failed:\n{traceback.format_exc()}",
                throttle_duration_sec=1.0,
            )

    return call


class PlannerExecutor(SingleThreadedExecutor):
    """Spins one thread; entities named slow run beside it.

    What they destroy has to be destroyed in `run_between`: an entity of a wait that is under way
    would raise InvalidHandle out of it, and end the node.
    """

    def __init__(self, **kwargs: Any) -> None:
        keep_freed_memory(NODE_BYTES)
        super().__init__(**kwargs)
        self._slow: set[int] = set()
        self._threads: list[threading.Thread] = []
        self._spinning = threading.get_ident()  # until another thread spins
        self._between: deque[tuple[Callable[[], None], Future[None]]] = deque()

    def run_beside(self, entity: Any) -> None:
        """Declare a subscription, service or timer slow."""
        self._slow.add(id(entity))

    def run_between(self, step: Callable[[], None]) -> None:
        """Run `step` where no wait and no callback is under way, and wait for it.

        From any thread; raises what it raises. It must be short: nothing else runs meanwhile.
        """
        if self._spinning == threading.get_ident():
            self._abandon_wait()
            step()
            return
        done: Future[None] = Future()
        self._between.append((step, done))
        self.wake()
        done.result()

    def spin_once(self, timeout_sec: Any = None) -> None:
        """Wait for one callback and run it, or have it run."""
        handler: Any
        entity: Any
        self._spinning = threading.get_ident()
        self._run_steps()
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(
                timeout_sec=timeout_sec, condition=self._has_steps
            )
        except (
            ConditionReachedException,
            TimeoutException,
            ExternalShutdownException,
            ShutdownException,
        ):
            return
        if id(entity) not in self._slow:
            handler()
            self._log(handler)
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._run, args=(handler,), name="slow", daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for what runs beside; False where it takes longer. From the spinning thread."""
        deadline = time.monotonic() + timeout_s
        while any(thread.is_alive() for thread in self._threads):
            self._run_steps()
            if time.monotonic() > deadline:
                return False
            time.sleep(JOIN_STEP_S)
        return True

    def _has_steps(self) -> bool:
        return bool(self._between)

    def _run_steps(self) -> None:
        if self._between:
            self._abandon_wait()
        while self._between:
            step, done = self._between.popleft()
            try:
                step()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _abandon_wait(self) -> None:
        """What the last wait found ready and was not run yet is found by the next one again."""
        waiting, self._cb_iter = self._cb_iter, None
        if waiting is not None:
            waiting.close()

    def _run(self, handler: Any) -> None:
        handler()
        self._log(handler)

    def _log(self, handler: Any) -> None:
        error = handler.exception() if handler.done() else None
        if error is None:
            return
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        for node in self.get_nodes():
            node.get_logger().error(f"callback failed:\n{text}")
            return
