"""Writes the constraints file of one version of Python from a fresh installation."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from alpamayo_ros.bootstrap import commands
from alpamayo_ros.bootstrap.environment import pip_install

# The wheels of ROS carry a second, nested distribution each; what pip itself installed says so
# (in installed-files.txt where an old pip installed from source).
LIST_INSTALLED = """
from importlib.metadata import distributions
for found in distributions():
    if found.read_text("INSTALLER") or found.read_text("installed-files.txt"):
        print(found.metadata["Name"].lower().replace("_", "-") + "==" + found.version)
"""


def pin(root: Path) -> None:
    """Install what the requirements allow today, and write down what that was."""
    folder = root / "config" / "plain_ros"
    requirements = [folder / "requirements.txt", folder / "requirements-dev.txt"]
    target = folder / f"constraints-py{sys.version_info[0]}{sys.version_info[1]}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        venv = Path(scratch) / "venv"
        environ = commands.clean_environment(venv)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], env=environ, check=True)
        pip_install(venv, requirements, constraints=None)
        listing = subprocess.run(
            [str(venv / "bin" / "python"), "-c", LIST_INSTALLED],
            env=environ,
            check=True,
            capture_output=True,
            text=True,
        )
    pins = sorted(line for line in listing.stdout.split() if not line.startswith("pip=="))
    head = "# Written by `python3 -m alpamayo_ros.bootstrap pin`; see requirements.txt.\n"
    target.write_text(head + "\n".join(pins) + "\n", encoding="utf-8")
    print(f"{len(pins)} versions in {target}")
