"""player_node: a rosbag2 onto its topics, with /clock. For machines without `ros2 bag play`.

Messages travel as recorded, byte for byte; nothing is decoded on the way.
"""

from __future__ import annotations

import threading
import time
import traceback
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.errors import UserError
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import message_class, to_time
from alpamayo_ros.ros.process import run_to_end

CLOCK_PERIOD_NS = 5_000_000  # /clock at 200 Hz of recorded time
# A stall longer than this is not caught up with: the recording's time waits, as listeners that had
# to share the machine with what stalled it could not keep up with messages in a burst.
CATCH_UP_NS = 20_000_000
DRAIN_S = 0.5  # what the last messages need to arrive before the publishers go away


class PlayerNode(Node):
    """Plays in a thread of its own; the executor only serves parameters."""

    def __init__(self) -> None:
        super().__init__("player")
        self._bag = self.declare_parameter("bag", "").value
        self._rate = self._number("rate", 1.0)
        self._loop = bool(self.declare_parameter("loop", False).value)
        self._seconds = self._number("seconds", 0.0)
        self._wait_s = self._number("wait_for_subscribers_s", 0.0)
        none: list[str] = []
        only = self.declare_parameter("topics", Parameter.Type.STRING_ARRAY).value
        self._only = list(only) if only else none
        self._start_steady_ns = 0  # when the recording would have begun, had it never stalled
        self.done = threading.Event()
        self.failed = False
        self._stop = threading.Event()
        self._clock_publisher = self.create_publisher(Clock, "/clock", topics.reliable_qos())
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def _number(self, name: str, default: float) -> float:
        """A parameter that may be given as `2` too, where rclpy insists on `2.0`."""
        any_type = ParameterDescriptor(dynamic_typing=True)
        value = self.declare_parameter(name, default, any_type).value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"parameter {name} is {value!r}, wanted a number")
        return float(value)

    def start(self) -> None:
        """Begin playing."""
        if not self._rate > 0:
            raise UserError(f"parameter rate is {self._rate}, wanted a number > 0")
        self._thread.start()

    def stop(self) -> None:
        """End playing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        try:
            with BagReader(self._bag) as bag:
                self._play(bag)
        except UserError as error:
            self.failed = True
            self.get_logger().fatal(str(error))
        except Exception:
            self.failed = True
            self.get_logger().fatal(traceback.format_exc())
        finally:
            self.done.set()

    def _play(self, bag: BagReader) -> None:
        names = [name for name in bag.topics if name != "/clock"]
        if self._only:
            bag.require(self._only)
            names = self._only
        publishers = {}
        for name in names:
            publisher = self._publisher(name, bag.topics[name].type, bag.topics[name].latched)
            if publisher is not None:
                publishers[name] = publisher
        self._await_subscribers(publishers)
        while not self._stop.is_set():
            self._play_once(bag, publishers)
            if not self._loop:
                break
        self._stop.wait(DRAIN_S)

    def _publisher(self, topic: str, msgtype: str, latched: bool) -> Publisher | None:
        try:
            kind = message_class(msgtype)
        except (ImportError, AttributeError):
            self.get_logger().warning(f"{topic} is not played: {msgtype} is not installed here")
            return None
        return self.create_publisher(kind, topic, topics.reliable_qos(latched))

    def _await_subscribers(self, publishers: dict[str, Any]) -> None:
        """Until one subscriber has been found on every topic that anyone may want, or time is up.

        Discovery takes a moment; what is published before it is lost.
        """
        deadline = time.monotonic() + self._wait_s
        wanted = [
            publisher for name, publisher in publishers.items() if "image" in name or "odom" in name
        ]
        while time.monotonic() < deadline and not self._stop.is_set():
            if wanted and all(publisher.get_subscription_count() for publisher in wanted):
                return
            self._stop.wait(0.05)

    def _play_once(self, bag: BagReader, publishers: dict[str, Any]) -> None:
        self._start_steady_ns = time.monotonic_ns()
        clock_ns = bag.start_ns
        end_ns = bag.start_ns + round(self._seconds * 1e9) if self._seconds else bag.end_ns
        for name, _, log_ns, payload in bag.raw_messages(list(publishers)):
            if log_ns > end_ns or self._stop.is_set():
                break
            while clock_ns <= log_ns:
                self._sleep_until(clock_ns - bag.start_ns)
                self._clock_publisher.publish(Clock(clock=to_time(clock_ns)))
                clock_ns += CLOCK_PERIOD_NS
            self._sleep_until(log_ns - bag.start_ns)
            publishers[name].publish(payload)

    def _sleep_until(self, recorded_ns: int) -> None:
        due_ns = self._start_steady_ns + round(recorded_ns / self._rate)
        wait_ns = due_ns - time.monotonic_ns()
        if wait_ns > 0:
            self._stop.wait(wait_ns * 1e-9)
        elif wait_ns < -CATCH_UP_NS:
            self._start_steady_ns -= wait_ns


def main() -> int:
    """Play one bag; exit code 0 when it is through, 1 where it could not be played."""
    return run_to_end(PlayerNode)


if __name__ == "__main__":
    raise SystemExit(main())
