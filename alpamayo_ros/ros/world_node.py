"""world_node: a generated world as a vehicle's topics: cameras, odometry, TF, clock.

Subscribes a VehicleCommand and moves by it. Until the first one comes the built-in expert drives,
so that a planner gets the moving history that it wants; when commands cease the vehicle brakes.
Ends when the scenario is over, and says how it went in a file.
"""

from __future__ import annotations

import json
import math
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from alpamayo_ros.errors import UserError
from alpamayo_ros.msg import VehicleCommand
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import to_time
from alpamayo_ros.ros.executor import guarded
from alpamayo_ros.ros.numbers import number_parameter
from alpamayo_ros.ros.process import run_to_end
from alpamayo_ros.ros.world_outputs import WorldOutputs
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.safety_driver import SafetyDriver
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.score import Score
from alpamayo_ros.world.sensors import EPOCH_NS, FRAME_PERIOD_NS
from alpamayo_ros.world.simulation import STEP_NS, Simulation
from alpamayo_ros.world.vehicle import Command

COMMAND_TIMEOUT_NS = 500_000_000  # of simulated time; then the vehicle brakes by itself
COMMAND_LOST = Command(-3.0, 0.0)
CLOCKS_A_STEP = 2
# Images of an instant are out at most this much later, in simulated time: a renderer that is slower
# slows the world, and no planner hears of a camera that is late.
FRAME_DELAY_NS = 40_000_000
NAVIGATION_PERIOD_NS = 1_000_000_000
DRAIN_S = 0.5  # what the last messages need to arrive before the publishers go away


class WorldNode(Node):
    """The simulation steps in a thread of its own; the executor hears commands."""

    def __init__(self) -> None:
        super().__init__("world")
        kind = str(self.declare_parameter("scenario", "straight").value)
        seed = int(number_parameter(self, "seed", 1, 0, 2**31 - 1))
        seconds = number_parameter(self, "seconds", 60.0, 1.0, 600.0)
        self._rate = number_parameter(self, "rate", 1.0, 0.05, 20.0)
        self._wait_s = number_parameter(self, "wait_for_subscribers_s", 0.0, 0.0, 600.0)
        transport = str(self.declare_parameter("image_transport", "compressed").value)
        width = int(number_parameter(self, "width_px", 576, 64, 1920))
        height = int(number_parameter(self, "height_px", 320, 48, 1080))
        self._report_path = str(self.declare_parameter("report", "").value)
        command = str(self.declare_parameter("command_topic", "/controller/command").value)
        navigation = str(self.declare_parameter("navigation_topic", "/planner/navigation").value)
        self.simulation = Simulation(make_scenario(kind, seed, seconds))
        self.score = Score(self.simulation)
        self._driver = SafetyDriver(self.simulation)
        self._rig = default_rig(width, height)
        self._outputs = WorldOutputs(self, self.simulation.scenario, self._rig, transport)
        self._clocks: Publisher = self.create_publisher(Clock, "/clock", topics.reliable_qos())
        self._navigation = self.create_publisher(
            String, topics.resolve(self, "navigation_topic", navigation), topics.reliable_qos(True)
        )
        self.create_subscription(
            VehicleCommand, topics.resolve(self, "command_topic", command),
            guarded(self, self._on_command), topics.reliable_qos(),
        )  # fmt: skip
        self._command: tuple[int, Any] | None = None  # simulated time of arrival, message
        self._said: tuple[str, int] = ("", -NAVIGATION_PERIOD_NS)
        self.done = threading.Event()
        self.failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write the report."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(3.0)
        self._outputs.close()
        self._report()

    def _on_command(self, message: Any) -> None:
        if not math.isfinite(message.acceleration_mps2 + message.curvature_1pm):
            raise ValueError("a command with numbers that are not finite")
        if self._command is None:
            self.get_logger().info(f"commands take over at {self.simulation.time_s:.1f} s")
        self._command = (self.simulation.time_ns, message)

    # ---- the stepping thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._outputs.start(self.simulation)
            self._await_subscribers()
            self._drive()
            self._stop.wait(DRAIN_S)
        except UserError as error:
            self.failed = True
            self.get_logger().fatal(str(error))
        except Exception:
            self.failed = True
            self.get_logger().fatal(traceback.format_exc())
        finally:
            self.done.set()

    def _await_subscribers(self) -> None:
        deadline = time.monotonic() + self._wait_s
        while time.monotonic() < deadline and not self._stop.is_set():
            if self._outputs.connected:
                return
            self._stop.wait(0.05)

    def _drive(self) -> None:
        simulation = self.simulation
        end_ns = round(simulation.scenario.seconds * 1e9)
        due_s = time.monotonic()
        while simulation.time_ns < end_ns and not self.score.ended and not self._stop.is_set():
            for part in range(CLOCKS_A_STEP):
                now_ns = EPOCH_NS + simulation.time_ns + part * STEP_NS // CLOCKS_A_STEP
                self._clocks.publish(Clock(clock=to_time(now_ns)))
                if part == 0:
                    self._publish()
                due_s += STEP_NS * 1e-9 / CLOCKS_A_STEP / self._rate
                if due_s > time.monotonic():
                    self._stop.wait(due_s - time.monotonic())
            if simulation.time_ns % FRAME_PERIOD_NS == FRAME_DELAY_NS:
                while not (self._stop.is_set() or self._outputs.wait_drawn(0.1)):
                    pass
            # A machine too slow for the rate makes the world slower; it is not caught up with.
            due_s = max(due_s, time.monotonic() - 0.1)
            command, plan_age_s = self._next_command()
            simulation.step(command)
            self.score.update(plan_age_s)
        if self.score.ended:
            self.get_logger().warning(f"the drive ended: {self.score.ended}")

    def _publish(self) -> None:
        simulation = self.simulation
        if simulation.time_ns % FRAME_PERIOD_NS == 0:
            self._outputs.publish_cameras(simulation)
        self._outputs.publish_odometry(simulation)
        text, at_ns = simulation.navigation() or "", simulation.time_ns
        if text != self._said[0] or at_ns - self._said[1] >= NAVIGATION_PERIOD_NS:
            self._navigation.publish(String(data=text))
            self._said = (text, at_ns)

    def _next_command(self) -> tuple[Command, float]:
        if self._command is None:
            return self._driver.command(), math.nan
        at_ns, message = self._command
        if self.simulation.time_ns - at_ns > COMMAND_TIMEOUT_NS:
            self.get_logger().warning("no commands: braking", throttle_duration_sec=2)
            return COMMAND_LOST, math.nan
        command = Command(message.acceleration_mps2, message.curvature_1pm)
        return command, message.plan_age_ms * 1e-3

    def _report(self) -> None:
        if not self._report_path or not self.simulation.time_ns:
            return
        path = Path(self._report_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.score.result(), indent=2, sort_keys=True) + "\n")


def main() -> int:
    """One scenario; exit code 0 when it is over, 1 where it could not be had."""
    return run_to_end(WorldNode)


if __name__ == "__main__":
    raise SystemExit(main())
