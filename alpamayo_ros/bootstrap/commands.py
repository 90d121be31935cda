"""Runs the programs of setup: progress on the screen, their output in a log, its end on failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from alpamayo_ros.bootstrap.checks import SetupError

TAIL_LINES = 25
# A log of a build on a slow machine should show that something lives, and not fill up.
HEARTBEAT_S = 20.0

# Of a sourced ROS installation, or of another environment with these wheels: their libraries and
# CMake files would be taken for ours.
_FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "ROS_DISTRO",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


def clean_environment(venv: Path, base: dict[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without other ROS installations, with `venv`'s programs first."""
    environ = dict(os.environ if base is None else base)
    for name in _FOREIGN:
        environ.pop(name, None)
    environ["PATH"] = os.pathsep.join(filter(None, [str(venv / "bin"), environ.get("PATH", "")]))
    environ["PIP_USER"] = "0"
    return environ


class Progress:
    """Numbered steps with their durations, on a terminal and in a log file of CI alike."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self._started = time.monotonic()
        self._heartbeat = self._started
        self._live = sys.stdout.isatty()
        self._title = ""

    def start(self, title: str) -> None:
        self.number += 1
        self._started = self._heartbeat = time.monotonic()
        self._title = f"[{self.number}/{self.total}] {title}"
        print(self._title, end="" if self._live else "\n", flush=True)

    def tick(self) -> None:
        now = time.monotonic()
        elapsed = now - self._started
        if self._live:
            print(f"\r{self._title} … {elapsed:.0f} s", end="", flush=True)
        elif now - self._heartbeat >= HEARTBEAT_S:
            self._heartbeat = now
            print(f"      … {elapsed:.0f} s", flush=True)

    def done(self) -> None:
        elapsed = time.monotonic() - self._started
        text = f"{self._title}: {elapsed:.1f} s" if self._live else f"      {elapsed:.1f} s"
        print(f"\r{text}   " if self._live else text, flush=True)


def run(
    command: Sequence[str | Path],
    log: Path,
    environ: dict[str, str],
    remedy: str,
    cwd: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Run `command` with its output in `log`; a failure shows the log's end and the remedy."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("w", encoding="utf-8") as output:
        output.write("$ " + " ".join(words) + "\n")
        output.flush()
        process = subprocess.Popen(
            words, cwd=cwd, env=environ, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=1.0)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress.tick()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        raise SetupError(failure_text(words, code, log, remedy))


def failure_text(words: Sequence[str], code: int, log: Path, remedy: str) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    tail = "\n".join("  | " + line for line in lines)
    return f"{Path(words[0]).name} ended with {code}. The end of {log}:\n{tail}\n{remedy}"
