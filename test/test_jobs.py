"""Workers: what one of them does when its caller is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
