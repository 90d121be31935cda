"""The model's process under the running node: killed, hung, and ended with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alpamayo_ros.msg import PlannedTrajectory
from diagnostic_msgs.msg import DiagnosticStatus
from drive import Drive
from harness import START_S, Bench
from test_questions import ask

from alpamayo_ros.safety.faults import BEHAVIOUR, Fault

OK, ERROR = DiagnosticStatus.OK, DiagnosticStatus.ERROR
SCRIPT = "planner_with_failing_backends.py"


def planning(
    bench: Bench, manifest: Callable[..., str], trigger: Path, timeout_s: float, how: str = "hang"
) -> None:
    """An active planner with its model in a process, planning."""
    backend, option = {"hang": ("hanging", "hangs_by"), "starve": ("greedy", "starves_by")}[how]
    bench.start_planner(
        SCRIPT,
        model=manifest(takes_questions=True, **{option: str(trigger)}),
        backend=backend,
        isolation="process",
        plan_timeout_s=timeout_s,
        autostart=True,
        use_sim_time=True,
    )
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(2)


def model_status(bench: Bench) -> dict[str, Any]:
    """The values of the model's entry in /diagnostics."""
    status = bench.wait(lambda: bench.diagnostic(": model"), START_S, "the model's diagnostics")
    return {"level": status.level, "text": status.message,
            **{value.key: value.value for value in status.values}}  # fmt: skip


def test_kill_9_of_the_model(bench: Bench, manifest: Callable[..., str], tmp_path: Path) -> None:
    """The tick says who was killed, /diagnostics that it is started anew; plans come again."""
    planning(bench, manifest, tmp_path / "hang", timeout_s=60.0)
    first = model_status(bench)
    assert (first["isolation"], first["starts"], first["level"]) == ("process", "1", OK)
    assert ask(bench).answer.startswith("asked: ")
    since, heard = len(bench.statuses), len(bench.diagnostics)
    os.kill(int(first["pid"]), signal.SIGKILL)
    failed = bench.wait_rejection("planner_failed", START_S, since)
    assert failed.source == "planner" and "ModelProcessError" in failed.detail
    assert "SIGKILL" in failed.detail
    bench.wait_plans(3)
    bench.wait(lambda: model_status(bench)["starts"] == "2", START_S, "diagnostics of the restart")
    again = model_status(bench)
    assert again["level"] == OK and again["pid"] != first["pid"]
    assert "SIGKILL" in again["last_fault"]
    levels = [s.level for a in bench.diagnostics[heard:] for s in a.status
              if s.name.endswith(": model")]  # fmt: skip
    assert ERROR in levels
    assert ask(bench).answer.startswith("asked: ")
    assert bench.state() == "active"


def test_a_hung_model(bench: Bench, manifest: Callable[..., str], tmp_path: Path) -> None:
    """Named with the limit and its parameter, killed, started anew; the node answers meanwhile."""
    trigger = tmp_path / "hang"
    planning(bench, manifest, trigger, timeout_s=1.5)
    since = len(bench.statuses)
    trigger.touch()
    bench.wait(lambda: not trigger.exists(), START_S, "hang")
    assert bench.state() == "active"
    bench.wait_rejection("planner_busy", START_S, since)  # it ticks on
    failed = bench.wait_rejection("planner_failed", START_S, since)
    assert "hung: plan took longer than 1.5 s" in failed.detail
    assert "plan_timeout_s" in failed.detail
    bench.wait_plans(3)
    bench.wait(lambda: model_status(bench)["starts"] == "2", START_S, "diagnostics of the restart")


def test_out_of_memory(bench: Bench, manifest: Callable[..., str], tmp_path: Path) -> None:
    """The model's process gets no more memory: as declared, the vehicle is being stopped until it
    has what it wants; the process lives on."""
    declared = BEHAVIOUR[Fault.MODEL_OUT_OF_MEMORY]
    trigger = tmp_path / "starve"
    planning(bench, manifest, trigger, timeout_s=60.0, how="starve")
    since = len(bench.statuses)
    trigger.touch()
    failed = bench.wait_rejection("planner_failed", START_S, since)
    assert "MemoryError" in failed.detail and declared.says in failed.detail

    def is_said() -> bool:
        status = bench.diagnostic(f": {declared.entry}")
        return status.level == bytes([declared.level.value]) and declared.says in status.message

    bench.wait(is_said, START_S, f"{declared.says} in /diagnostics")
    fallback = PlannedTrajectory.SOURCE_FALLBACK
    seen = len(bench.trajectories)
    bench.wait(lambda: len(bench.trajectories) >= seen + 3, START_S, "stops")
    assert {t.source for t in bench.trajectories[seen:]} == {fallback}
    trigger.unlink()
    bench.wait_plans(3)
    assert model_status(bench)["starts"] == "1"


def test_sigterm_during_a_hang(bench: Bench, manifest: Callable[..., str], tmp_path: Path) -> None:
    """The node ends well, and its model with it, long before the plan's time is over."""
    trigger = tmp_path / "hang"
    planning(bench, manifest, trigger, timeout_s=600.0)
    pid = int(model_status(bench)["pid"])
    trigger.touch()
    bench.wait(lambda: not trigger.exists(), START_S, "hang")
    planner = bench.processes[0]
    assert planner.stop(signal.SIGTERM) == 0
    assert "Traceback" not in planner.output
    bench.wait(lambda: not Path(f"/proc/{pid}").exists(), START_S, "end of the model's process")
