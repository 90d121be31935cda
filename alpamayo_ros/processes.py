"""Starts this package's nodes as real processes, and ends them."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from alpamayo_ros.errors import UserError
from alpamayo_ros.resources import resource

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
STOP_S = 5.0  # launch's own patience before it kills


def ros_environment(isolated: bool = True) -> dict[str, str]:
    """This process's environment with the shared-memory profile, where none is set.

    `isolated` picks a domain of its own, so that a demo does not meet a vehicle on the same
    network, unless ROS_DOMAIN_ID says which one to use.
    """
    environment = dict(os.environ)
    if not any(environment.get(name) for name in PROFILE_VARIABLES):
        for name in PROFILE_VARIABLES:
            environment[name] = str(resource("config", "fastdds_shm.xml"))
    if isolated and not environment.get("ROS_DOMAIN_ID"):
        environment["ROS_DOMAIN_ID"] = str(unused_domain())
    return environment


def unused_domain() -> int:
    """A ROS domain in which nobody on this machine is, as far as its ports tell.

    Domains above 101 reach into Linux's ephemeral ports.
    """
    domains = list(range(1, 102))
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # The first participant's discovery port, by the DDS-RTPS port formula.
                probe.bind(("", 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise UserError("all ROS domains from 1 to 101 are in use; set ROS_DOMAIN_ID to choose one")


def require_ros() -> None:
    """Raises UserError where there is no ROS to run nodes with."""
    for module in ("rclpy", "alpamayo_ros.msg"):
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise UserError(
                f"{module} is not installed: nodes need ROS 2 and this package built in it. Run "
                "`make setup` and use .venv/bin/alpamayo, or source a workspace with alpamayo_ros"
            )


class NodeProcess:
    """One node of this package in a process of its own, its output in a file."""

    def __init__(
        self,
        node: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.name, self.log = node, log
        self._output: TextIO = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"alpamayo_ros.ros.{node}", "--ros-args", *arguments],
            env=dict(environment),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-C is ours to pass on, in order
        )

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None where it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM, then SIGKILL; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(timeout_s) is None:
                self._process.kill()
        code = self._process.wait()
        self._output.close()
        return code

    def tail(self, lines: int = 20) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
