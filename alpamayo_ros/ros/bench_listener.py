"""A process that listens to the planner: one JSON line on stdout a status and a path.

A process of its own, because Fast DDS reads its profile once a process and the benchmarks compare
two.
"""

from __future__ import annotations

import json
import math
import signal
import struct
import sys
import threading
import time
from typing import Any

import rclpy
from nav_msgs.msg import Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alpamayo_ros.msg import PlannerStatus
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.bench_publisher import STAMP_OFFSET
from alpamayo_ros.types import NS_PER_S


class Listener(Node):
    """Subscribes `/planner/status` and `/planner/path`."""

    def __init__(self) -> None:
        super().__init__("bench_listener")
        qos = topics.reliable_qos()
        qos.depth = 100
        self.create_subscription(PlannerStatus, "/planner/status", self._on_status, qos)
        # Serialised: only its arrival and its stamp count, and reading 64 poses takes a while.
        self.create_subscription(Path, "/planner/path", self._on_path, qos, raw=True)

    def _on_path(self, payload: bytes) -> None:
        arrived_ns = time.monotonic_ns()
        seconds, nanoseconds = struct.unpack_from("<iI", payload, STAMP_OFFSET)
        say(event="path", steady_ns=arrived_ns, t0_ns=seconds * NS_PER_S + nanoseconds)

    def _on_status(self, status: Any) -> None:
        say(
            event="status",
            steady_ns=time.monotonic_ns(),
            stamp_ns=_ns(status.header.stamp),
            t0_ns=_ns(status.t0),
            due_ns=_ns(status.due),
            planned=status.outcome == PlannerStatus.PLANNED,
            reason=status.reason,
            source=status.source,
            latency_ms=_number(status.latency_ms),
            data_age_ms=_number(status.data_age_ms),
            stages={entry.stage: entry.duration_ms for entry in status.stages},
            received={entry.name: entry.received for entry in status.sources},
            rejected={entry.name: entry.rejected for entry in status.sources},
            errors={entry.name: entry.last_error for entry in status.sources if entry.last_error},
        )


def say(**event: Any) -> None:
    """One JSON line on stdout."""
    print(json.dumps(event), flush=True)


def _ns(stamp: Any) -> int:
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def _number(value: float) -> Any:
    return value if math.isfinite(value) else None


def main() -> int:
    """Listen until stdin ends, or SIGTERM."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    listener, executor = Listener(), SingleThreadedExecutor()
    executor.add_node(listener)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, name="await end", daemon=True).start()
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
    executor.remove_node(listener)
    listener.destroy_node()
    rclpy.try_shutdown()
    return 0
