"""What makes `.venv/bin/alpamayo` and `.venv/bin/python` work without sourcing anything."""

from __future__ import annotations

import shutil
from pathlib import Path

from alpamayo_ros.bootstrap import stamps

HOOK = "_alpamayo_ros_venv"
# Before ros_wheels_bootstrapper.pth in the alphabet: it must come before Python runs a second time.
PTH = "alpamayo_ros_venv.pth"

# Via /bin/sh, since the kernel's own line allows no space in the path and 127 characters.
SCRIPT = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from alpamayo_ros.cli import main

# Processes that it spawns import this file again.
if __name__ == "__main__":
    sys.exit(main())
"""


def files_key(root: Path) -> str:
    here = root / "alpamayo_ros" / "bootstrap"
    files = [here / "venv_hook.py", here / "entry_points.py"]
    return stamps.hash_of(str(root), stamps.hash_of_contents(root, files))


def site_packages(venv: Path) -> Path:
    return next(venv.glob("lib/python3.*/site-packages"))


def write(root: Path, venv: Path) -> None:
    """The hook that Python's start runs, and the command."""
    site = site_packages(venv)
    shutil.copyfile(root / "alpamayo_ros" / "bootstrap" / "venv_hook.py", site / f"{HOOK}.py")
    source = str(root / "alpamayo_ros")
    (site / PTH).write_text(f"import {HOOK}; {HOOK}.enter({source!r})\n", encoding="utf-8")
    command = venv / "bin" / "alpamayo"
    command.write_text(SCRIPT.format(python=venv / "bin" / "python"), encoding="utf-8")
    command.chmod(0o755)
