"""Planner, publisher and listener as three processes around one benchmark."""

from __future__ import annotations

import json
import queue
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alpamayo_ros.bench.load import ODOMETRY, Load, topic_of
from alpamayo_ros.bench.processes import Child, environment, wait_until
from alpamayo_ros.errors import UserError
from alpamayo_ros.processes import unused_domain

START_TIMEOUT_S = 60.0
# Without frames every tick is refused after its deadline, and says what has been received so far.
SETTLE_S = 0.7
QUIT_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the cameras send."""

    kind: str  # raw (rgb8) or compressed (JPEG)
    width: int
    height: int


@dataclass
class Session:
    """A context manager: everything is running inside, everything is ended after."""

    load: Load
    pictures: Pictures
    profile: Path | None  # of Fast DDS; None: its own default transports
    parameters: Mapping[str, Any] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list, init=False)
    paths: list[dict[str, Any]] = field(default_factory=list, init=False)

    def __enter__(self) -> Session:
        self._folder = tempfile.TemporaryDirectory(prefix="alpamayo_bench_")
        folder = Path(self._folder.name)
        env = environment(self.profile, unused_domain())
        parameters = folder / "planner.yaml"
        parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": self._parameters()}}))
        self._log = folder / "published.json"
        config = {
            "load": self.load.to_json(),
            "kind": self.pictures.kind,
            "width": self.pictures.width,
            "height": self.pictures.height,
            "log": str(self._log),
        }
        self._events: list[dict[str, Any]] = []
        self.children: list[Child] = []
        try:
            self.planner = self._start(
                "planner",
                "alpamayo_ros.ros.planner_node",
                ["--ros-args", "--params-file", str(parameters)],
                env,
            )
            self.listener = self._start("listener", "alpamayo_ros.ros.bench_listener", [], env)
            self.generator = self._start(
                "publisher", "alpamayo_ros.ros.bench_publisher", [json.dumps(config)], env
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        for child in reversed(self.children):
            child.end()
        self._folder.cleanup()

    def _start(self, name: str, module: str, arguments: list[str], env: dict[str, str]) -> Child:
        child = Child(name, module, arguments, env, Path(self._folder.name))
        self.children.append(child)
        return child

    def _parameters(self) -> dict[str, Any]:
        cameras = list(self.load.cameras)
        return {
            "autostart": True,
            "model": "kinematic",
            "camera_names": cameras,
            "camera_topics": [topic_of(name, self.pictures.kind) for name in cameras],
            "image_transports": [self.pictures.kind],
            **self.parameters,
        }

    # ---- the phases of a benchmark -------------------------------------------------------------

    def await_planning(self) -> None:
        """Until every topic is matched, and the planner has heard every source."""
        wait_until(self._is_matched, START_TIMEOUT_S, self.children, "discovery of all topics")
        wait_until(self._has_heard_all, START_TIMEOUT_S, self.children, "a message of each source")

    def pause(self) -> dict[str, Any]:
        """Stop publishing; the last status after everything sent has arrived or is lost."""
        self._command("pause")
        time.sleep(SETTLE_S)
        self.collect()
        if not self.statuses:
            raise UserError(f"the planner sends no status:\n{self.planner.last_words()}")
        return self.statuses[-1]

    def resume(self) -> None:
        """Publish again, and count from here."""
        self._command("resume")
        self.statuses.clear()
        self.paths.clear()

    def cut(self, camera: str) -> None:
        """End one camera."""
        self._command(f"cut {camera}")

    def published(self) -> dict[str, list[list[int]]]:
        """End the publisher: [stamp_ns, steady_ns] of all it sent since `resume`, by source."""
        self.generator.send("quit")
        deadline = time.monotonic() + QUIT_TIMEOUT_S
        while self.generator.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.collect()
        if not self._log.is_file():
            raise UserError(f"the publisher left no log:\n{self.generator.last_words()}")
        result: dict[str, list[list[int]]] = json.loads(self._log.read_text())
        return result

    def collect(self) -> None:
        """Take in what the children have said."""
        for child in self.children:
            while True:
                try:
                    event = child.events.get_nowait()
                except queue.Empty:
                    break
                kinds = {"status": self.statuses, "path": self.paths}
                kinds.get(event["event"], self._events).append(event)

    def run_for(self, seconds: float) -> None:
        """Let it run, noticing the end of any child."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            self.collect()
            for child in self.children:
                child.check()

    def _command(self, line: str) -> None:
        self.generator.send(line)
        name = line.split()[0]
        said = len([event for event in self._events if event["event"] == name])

        def done() -> bool:
            self.collect()
            return len([event for event in self._events if event["event"] == name]) > said

        wait_until(done, QUIT_TIMEOUT_S, self.children, f"the publisher's answer to {line!r}")

    def _is_matched(self) -> bool:
        self.collect()
        return any(event["event"] == "matched" for event in self._events)

    def _has_heard_all(self) -> bool:
        self.collect()
        if not self.statuses:
            return False
        received = self.statuses[-1]["received"]
        return all(received.get(name) for name in (*self.load.cameras, ODOMETRY))
