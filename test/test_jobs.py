"""Workers: where they are, and what one of them does when its caller is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alpamayo_ros import cli
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.backends.placement import machines_for, needs_gpu, wants_machine
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.commands import distill
from alpamayo_ros.errors import UserError
from alpamayo_ros.jobs import Machines, actors_of
from alpamayo_ros.manifest import load_manifest

PROGRAM = """
import os, sys, time
from pathlib import Path
from alpamayo_ros.jobs import Machines, run_all

class Note:
    def open(self): Path(sys.argv[1], str(os.getpid())).touch()
    def do(self, opened, item): time.sleep(60.0)
    def close(self, opened): pass

if __name__ == "__main__":
    list(run_all(Note(), [0, 1], Machines(workers=2)))
"""


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be left to wait for it


def test_workers_leave_with_a_caller_that_is_killed(tmp_path: Path) -> None:
    """They would wait for its next item for ever, and hold what they have loaded."""
    (program := tmp_path / "program.py").write_text(PROGRAM)
    (noted := tmp_path / "noted").mkdir()
    with subprocess.Popen([sys.executable, str(program), str(noted)]) as caller:
        deadline = time.monotonic() + 60.0
        while len(list(noted.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(caller.pid, signal.SIGKILL)
    workers = [int(path.name) for path in noted.iterdir()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30.0  # a busy machine; their items take a minute
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_lives, workers))


def _backend(**options: str) -> KinematicBackend:
    return KinematicBackend(load_manifest("kinematic").with_options(options))


def _vla(**options: str | None) -> VlaBackend:
    return VlaBackend(load_manifest("alpamayo_1_5").with_options(options))


def test_models_that_want_the_machine_for_themselves() -> None:
    """And those that need a GPU: without one an actor of a cluster sees none."""
    assert wants_machine(_vla()) and wants_machine(_vla(device="cpu"))
    assert needs_gpu(_vla()) and not needs_gpu(_vla(device="cpu"))
    bare = replace(load_manifest("alpamayo_1_5"), options={"checkpoint": "x"})
    assert needs_gpu(VlaBackend(bare)) and needs_gpu(_vla(device=None))  # its default
    assert needs_gpu(_backend(expert_runtime="tensorrt"))
    assert not wants_machine(_backend()) and not needs_gpu(_backend())
    for option in ({"device": "cuda:0"}, {"runtime": "tensorrt"}, {"provider": "cuda"}):
        assert wants_machine(_backend(**option)) and needs_gpu(_backend(**option))
    assert machines_for([_backend(), _vla()], 0, "auto") == Machines(1, "auto", 0, 1)
    assert machines_for([_vla(device="cpu")], 3, "auto") == Machines(3, "auto", 3, 0)


def test_who_drives_while_labels_are_collected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model on a GPU has its actors ask for one; the expert needs none."""
    made: list[Machines] = []
    monkeypatch.setattr(distill, "_make", lambda *args: made.append(args[-1]) or 0)
    for drive in ("expert", "alpamayo_1_5"):
        arguments = ["--drive", drive, "--out", str(tmp_path / drive), "--ray", "auto"]
        assert cli.main(["distill", "collect", "--seeds", "1", "--jobs", "2", *arguments]) == 0
    assert made == [Machines(2, "auto", 2, 0), Machines(2, "auto", 2, 1)]


def test_actors_of_a_cluster() -> None:
    """One a CPU, or a GPU where the model needs one; no more than items, or than asked for."""
    nodes = {"CPU": 64.0, "GPU": 8.0, "memory": 1e12}
    assert actors_of(nodes, 1000, Machines(1, "auto")) == 64
    assert actors_of(nodes, 1000, Machines(1, "auto", gpus=1)) == 8
    assert actors_of(nodes, 5, Machines(1, "auto", gpus=1)) == 5
    assert actors_of(nodes, None, Machines(4, "auto", actors=4)) == 4
    with pytest.raises(UserError, match="64 CPUs and 0 GPUs, and a worker wants 1 GPU"):
        actors_of({"CPU": 64.0}, 5, Machines(1, "auto", gpus=1))
    with pytest.raises(UserError, match="a worker wants a CPU"):
        actors_of({}, 5, Machines(1, "auto"))
