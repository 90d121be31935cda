"""recorder_node: topics into a rosbag2 (mcap). For machines without `ros2 bag record`.

Messages are written as they arrive, byte for byte, at the ROS time of their arrival.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy

from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.errors import UserError
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import message_class
from alpamayo_ros.ros.executor import PlannerExecutor, guarded
from alpamayo_ros.ros.process import run_node

LOOK_FOR_TOPICS_S = 0.1
PLANNER_TOPICS = ("path", "trajectory", "candidates", "reasoning", "reasoning_trace", "status")


class RecorderNode(Node):
    """Subscribes to each wanted topic as soon as somebody publishes it."""

    def __init__(self) -> None:
        super().__init__("recorder")
        bag = str(self.declare_parameter("bag", "").value)
        overwrite = bool(self.declare_parameter("overwrite", False).value)
        wanted = self.declare_parameter("topics", Parameter.Type.STRING_ARRAY).value
        planner = str(self.declare_parameter("planner", "/planner").value)
        if not bag:
            raise UserError("parameter bag is empty: where shall the recording go?")
        names = wanted or [f"{planner}/{name}" for name in PLANNER_TOPICS]
        self._missing = {self.resolve_topic_name(name) for name in names}
        self._lock = threading.Lock()
        self._writer: BagWriter | None = BagWriter(Path(bag), overwrite=overwrite)
        self._writer.__enter__()
        self._last_ns = 0
        self.failed = False
        # Not in simulated time, which may not have begun.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOK_FOR_TOPICS_S, guarded(self, self._look_for_topics), clock=steady)
        self._look_for_topics()

    def close(self) -> None:
        """Finish the recording."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
        if self._missing:
            self.get_logger().warning(f"never published: {', '.join(sorted(self._missing))}")

    def _give_up(self, error: UserError) -> None:
        """A full disk, most likely: what was recorded is kept, and the process ends."""
        assert self._writer is not None
        self._writer.abandon()
        self._writer, self.failed = None, True
        self.get_logger().fatal(
            f"{error}; what was recorded until now is kept, cut off. Free the disk, and record anew"
        )

    def _look_for_topics(self) -> None:
        for name, types in self.get_topic_names_and_types():
            if name not in self._missing:
                continue
            publishers = self.get_publishers_info_by_topic(name)
            if not publishers:
                continue
            try:
                kind = message_class(types[0])
            except (ImportError, AttributeError):
                self._missing.discard(name)
                self.get_logger().error(f"{name} not recorded: {types[0]} is not installed here")
                continue
            latched = any(
                info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                for info in publishers
            )
            if self._writer is None:
                return
            self._writer.add_topic(name, types[0], latched=latched)
            self._subscribe(name, kind, latched)
            self._missing.discard(name)

    def _subscribe(self, topic: str, kind: Any, latched: bool) -> None:
        def on_message(payload: bytes) -> None:
            with self._lock:
                if self._writer is None:
                    return
                # A recording's own order must not break where the clock is set back.
                self._last_ns = max(self._last_ns, int(self.get_clock().now().nanoseconds))
                try:
                    self._writer.write_raw(topic, self._last_ns, payload)
                except UserError as error:
                    self._give_up(error)

        qos = topics.reliable_qos(latched)
        qos.depth = 1000
        self.create_subscription(kind, topic, guarded(self, on_message), qos, raw=True)


def main() -> int:
    """Record until SIGINT or SIGTERM; exit code 1 where the disk takes no more."""
    recorders: list[RecorderNode] = []

    def build(executor: PlannerExecutor) -> RecorderNode:
        recorders.append(RecorderNode())
        return recorders[0]

    code = run_node(
        build, lambda recorder: recorder.close(), lambda recorder: bool(recorder.failed)
    )
    return 1 if any(recorder.failed for recorder in recorders) else code


if __name__ == "__main__":
    raise SystemExit(main())
