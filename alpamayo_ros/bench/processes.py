"""Child processes of a benchmark: started together, watched through /proc, always ended."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import UserError

SHM = Path("/dev/shm")
SHM_WANTED_BYTES = 1_000_000_000
END_AFTER_S = 5.0  # SIGTERM to SIGKILL


def shm_warning(free_bytes: int | None = None) -> str | None:
    """What is wrong with /dev/shm for large images, or None."""
    if free_bytes is None:
        if not SHM.is_dir():
            return f"{SHM} does not exist: images cannot travel through shared memory"
        free_bytes = shutil.disk_usage(SHM).free
    if free_bytes >= SHM_WANTED_BYTES:
        return None
    return (
        f"{SHM} has {free_bytes / 1e6:.0f} MB free, large images want "
        f"{SHM_WANTED_BYTES / 1e6:.0f} MB (in Docker: --shm-size 1g)"
    )


def environment(profile: Path | None, domain: int) -> dict[str, str]:
    """This process's environment, with the DDS profile or without any, in a domain of its own."""
    result = dict(os.environ)
    for name in ("FASTDDS_BUILTIN_TRANSPORTS", "ROS_NAMESPACE"):
        result.pop(name, None)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        result.pop(name, None)
        if profile is not None:
            result[name] = str(profile)
    result["ROS_DOMAIN_ID"] = str(domain)
    return result


class Child:
    """`python -c CODE ARGUMENTS`, its JSON lines from stdout in a queue, its stderr in a file."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            # Not `-m`, and from another folder: a source tree on sys.path has no alpamayo_ros.msg.
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]
                + list(arguments),
                cwd=folder,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"read {name}", daemon=True)
        self._reader.start()

    def send(self, line: str) -> None:
        """One command to its stdin."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            self.check()

    def check(self) -> None:
        """UserError with its last words where it has ended."""
        code = self.process.poll()
        if code is not None:
            raise UserError(f"the {self.name} ended with exit code {code}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._log.read_text(errors="replace")[-2000:].strip() or "(it wrote nothing)"

    def usage(self) -> Usage:
        """CPU time and memory so far."""
        self.check()
        return Usage.of(self.process.pid)

    def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_AFTER_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # not ours: a library's greeting
            if isinstance(event, dict):
                self.events.put(event)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used, at one moment."""

    at_s: float  # CLOCK_MONOTONIC
    cpu_s: float  # user and system
    private_bytes: int  # anonymous resident memory
    shared_bytes: int  # resident shared memory: segments of the transport, its own and others'

    @staticmethod
    def of(pid: int) -> Usage:
        """From /proc."""
        # The command's name, in brackets, may hold blanks.
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(stat[11]) + int(stat[12])
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return Usage(
            time.monotonic(),
            ticks / os.sysconf("SC_CLK_TCK"),
            int(status["RssAnon"].split()[0]) * 1024,
            int(status["RssShmem"].split()[0]) * 1024,
        )

    def cores_since(self, before: Usage) -> float:
        """CPU cores kept busy since."""
        return (self.cpu_s - before.cpu_s) / max(self.at_s - before.at_s, 1e-9)


def wait_until(
    ready: Callable[[], bool], timeout_s: float, children: Sequence[Child], what: str
) -> None:
    """Poll until `ready`; UserError where a child ends, or naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"{child.name}: {child.last_words()}" for child in children)
            raise UserError(f"{what} not within {timeout_s:g} s\n{logs}")
        time.sleep(0.02)
