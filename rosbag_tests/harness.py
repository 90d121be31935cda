"""Real node processes in a ROS domain of their own, and a node beside them to talk to them with.

    with Bench() as bench:
        planner = bench.start("planner_node", autostart=True)
        bench.drive.start()
        bench.wait(lambda: bench.paths, 10.0, "a path")

Nothing here sleeps for correctness: `wait` serves the node until a condition holds, and fails with
the processes' output where it does not.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from alpamayo_ros.msg import PlannedTrajectory, PlannerStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros.processes import unused_domain
from alpamayo_ros.resources import resource

HERE = Path(__file__).resolve().parent
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
START_S = 20.0  # a process from its start to its first answer, on a busy machine
ASK_AGAIN_S = 3.0  # of a question without effect
KILL_AFTER_S = 10.0
SEGMENT_BYTES = 33_554_432
TRANSITIONS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}


def environment(domain: int, folder: Path) -> dict[str, str]:
    """What launch sets: the shared-memory profile; and what keeps tests to themselves.

    The profile's segment is smaller here: the pictures are, and each process fills its own with
    zeros when it starts.
    """
    profile = folder / "fastdds_shm.xml"
    text = resource("config", "fastdds_shm.xml").read_text()
    small = f"<segment_size>{SEGMENT_BYTES}</segment_size>"
    text, replaced = re.subn(r"<segment_size>\d+</segment_size>", small, text)
    assert replaced == 1
    profile.write_text(text)
    return {
        **os.environ,
        **{name: str(profile) for name in PROFILES},
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
    }


class NodeProcess:
    """One node in a process of its own, its output in a file."""

    def __init__(
        self, command: Sequence[str], environ: dict[str, str], log: Path, ends_by: int
    ) -> None:
        self._log, self._ends_by = log, ends_by
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environ, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = KILL_AFTER_S) -> int:
        """Signal it and return its exit code; raises TimeoutExpired where it does not end."""
        if self.alive:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def ask_to_end(self) -> None:
        """Signal it, if it runs."""
        if self.alive:
            self.process.send_signal(self._ends_by)

    def end(self) -> None:
        """Wait for the end of what was terminated, and kill what does not end.

        A killed process leaves its shared memory behind, so that this is the last resort.
        """
        try:
            self.process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    """A domain, the processes started in it, and a node that hears the planner and asks it."""

    def __init__(self, planner: str = "/planner") -> None:
        self.domain = unused_domain()
        self.planner = planner
        self.processes: list[NodeProcess] = []
        self.paths: list[PathMessage] = []
        self.trajectories: list[PlannedTrajectory] = []
        self.statuses: list[PlannerStatus] = []
        self.diagnostics: list[DiagnosticArray] = []
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.environ = environment(self.domain, self.folder)
        self.context = Context()
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Bench:
        before = {name: os.environ.get(name) for name in PROFILES}
        os.environ.update({name: self.environ[name] for name in PROFILES})
        try:
            self.context.init(domain_id=self.domain)
            self.node = Node("bench", context=self.context)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        for topic, kind, heard in (
            (f"{self.planner}/path", PathMessage, self.paths),
            (f"{self.planner}/trajectory", PlannedTrajectory, self.trajectories),
            (f"{self.planner}/status", PlannerStatus, self.statuses),
            ("/diagnostics", DiagnosticArray, self.diagnostics),
        ):
            self.node.create_subscription(kind, topic, heard.append, QoSProfile(depth=100))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.ask_to_end()
        for process in self.processes:
            process.end()
        if error is not None:
            print(self.report())
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
        self._folder.cleanup()

    # ---- processes ---------------------------------------------------------------------------

    def start(
        self, executable: str, name: str = "", script: str = "", **parameters: Any
    ) -> NodeProcess:
        """Start `planner_node`, `player_node` or `recorder_node`, or a script of this folder.

        Parameters go through a file, as launch passes them.
        """
        program = [str(HERE / script)] if script else ["-m", f"alpamayo_ros.ros.{executable}"]
        return self.start_command([sys.executable, *program, *self.arguments(name, parameters)])

    def arguments(self, name: str, parameters: dict[str, Any]) -> list[str]:
        """`--ros-args …` for a node's name and parameters."""
        words = ["--ros-args", *(["-r", f"__node:={name}"] if name else [])]
        if parameters:
            file = self.folder / f"parameters-{len(self.processes)}.yaml"
            file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
            words += ["--params-file", str(file)]
        return words

    def start_command(self, command: Sequence[str], ends_by: int = signal.SIGTERM) -> NodeProcess:
        """Start any program in the bench's domain; `ends_by` is the signal that it ends well on."""
        log = self.folder / f"output-{len(self.processes)}.txt"
        process = NodeProcess(command, self.environ, log, ends_by)
        self.processes.append(process)
        return process

    def start_planner(self, script: str = "", **parameters: Any) -> NodeProcess:
        """Start a planner and wait until it answers."""
        process = self.start("planner_node", script=script, **parameters)
        self.wait(lambda: self.client("get_state", GetState).service_is_ready(), START_S, "planner")
        return process

    def report(self) -> str:
        """Every process' output and the last status, for a failing test."""
        parts = [f"--- process {i}: exit {p.process.poll()}\n{p.output}"
                 for i, p in enumerate(self.processes)]  # fmt: skip
        if self.statuses:
            parts.append(f"--- last status\n{self.statuses[-1]}")
        return "\n".join(parts)

    # ---- waiting -----------------------------------------------------------------------------

    def wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Serve the node until `condition` gives something true, and return that."""
        deadline = time.monotonic() + timeout_s
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {timeout_s:g} s\n{self.report()}")
            self._executor.spin_once(timeout_sec=0.02)

    def watch(self, seconds: float) -> None:
        """Serve the node for a while: to see that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def wait_rejection(self, reason: str, timeout_s: float = 5.0, since: int = 0) -> PlannerStatus:
        """The first rejection of this reason among the statuses from `since` on."""
        return self.wait(
            lambda: next((s for s in self.statuses[since:] if s.reason == reason), None),
            timeout_s,
            f"rejection {reason}",
        )

    def wait_plans(self, count: int = 1, timeout_s: float = START_S) -> None:
        """Until `count` more paths of the planner have come, and what describes them."""
        start, paths = len(self.planned), len(self.paths)
        self.wait(
            lambda: len(self.planned) >= start + count and len(self.paths) >= paths + count,
            timeout_s,
            f"{count} more plans",
        )

    def hear_markers(self) -> list[Marker]:
        """What ~/markers will bring, in its order. Nobody listening, the planner sends none."""
        heard: list[Marker] = []
        self.node.create_subscription(
            MarkerArray,
            f"{self.planner}/markers",
            lambda array: heard.extend(array.markers),
            QoSProfile(depth=100),
        )
        return heard

    @property
    def planned(self) -> list[PlannedTrajectory]:
        """The trajectories that are the planner's, not the fallback's."""
        return [t for t in self.trajectories if t.source == PlannedTrajectory.SOURCE_PLANNER]

    @property
    def planned_paths(self) -> list[PathMessage]:
        """The paths that are the planner's: those that its trajectories run along. A stop may start
        at the same instant."""
        starts = [(t.header.stamp, t.points[1].pose) for t in self.planned]
        return [p for p in self.paths if (p.header.stamp, p.poses[0].pose) in starts]

    def diagnostic(self, name: str) -> Any:
        """The newest diagnostic status whose name ends so, or None."""
        for array in reversed(self.diagnostics):
            for status in array.status:
                if status.name.endswith(name):
                    return status
        return None

    def wait_refused_option(self, option: str, said: str, timeout_s: float) -> None:
        """Set one of the model's options, and see configure refuse it in these words."""
        assert self.set_parameter("model_options", [option]).successful
        assert not self.change("configure", timeout_s)
        assert self.state() == "unconfigured"

        def is_said() -> bool:
            status = self.diagnostic("lifecycle")
            return status is not None and said.lower() in status.message.lower()

        self.wait(is_said, START_S, f"{said!r} in /diagnostics")

    # ---- services ----------------------------------------------------------------------------

    def client(self, service: str, kind: Any) -> Any:
        """A client of one of the planner's services."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, f"{self.planner}/{service}")
        return self._clients[service]

    def call(
        self,
        service: str,
        kind: Any,
        request: Any,
        timeout_s: float = 10.0,
        again_s: float = math.inf,
    ) -> Any:
        """Call and wait for the answer; call again where none comes for `again_s`."""
        client = self.client(service, kind)
        self.wait(client.service_is_ready, START_S, f"service {service}")
        asked: list[tuple[float, Any]] = []

        def answered() -> Any:
            if not asked or time.monotonic() > asked[-1][0] + again_s:
                asked.append((time.monotonic(), client.call_async(request)))
            return next((future for _, future in asked if future.done()), None)

        return self.wait(answered, timeout_s, f"answer of {service}").result()

    def state(self, timeout_s: float = 10.0) -> str:
        """The label of the planner's lifecycle state.

        Asked again where no answer comes: a server drops one to a reader that it has not found yet.
        """
        answer = self.call("get_state", GetState, GetState.Request(), timeout_s, ASK_AGAIN_S)
        return str(answer.current_state.label)

    def change(self, label: str, timeout_s: float = 10.0) -> bool:
        """Ask for a transition by its id; whether it was done."""
        return self.request_transition(TRANSITIONS[label], "", timeout_s)

    def request_transition(self, number: int, label: str, timeout_s: float = 10.0) -> bool:
        """Ask for any transition."""
        request = ChangeState.Request()
        request.transition.id, request.transition.label = number, label
        return bool(self.call("change_state", ChangeState, request, timeout_s).success)

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        """Set one parameter; the result has the reason of a refusal."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self.call("set_parameters", SetParameters, request).results[0]
