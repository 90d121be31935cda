"""Writes the constraints file of one version of Python from a fresh installation."""

from __future__ import annotations

import json
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
    model = folder / "requirements-model.txt"
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
        pins = {line for line in listing.stdout.split() if not line.startswith("pip==")}
        pins |= resolved(venv, model, Path(scratch))
    head = "# Written by `python3 -m alpamayo_ros.bootstrap pin`; see requirements.txt.\n"
    target.write_text(head + "\n".join(sorted(pins)) + "\n", encoding="utf-8")
    print(f"{len(pins)} versions in {target}")


def resolved(venv: Path, requirements: Path, scratch: Path) -> set[str]:
    """What pip would install on top, without the gigabytes that this takes.

    torch names the exact versions of its CUDA libraries itself, and its CPU and CUDA builds differ
    in the local part of their version alone: both are left out, so that either can be taken.
    """
    report = scratch / "report.json"
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--no-input", "install"]
    subprocess.run(
        [*pip, "-q", "--dry-run", "--report", report, "--prefer-binary", "-r", requirements],
        env=commands.clean_environment(venv),
        check=True,
    )
    found = set()
    for entry in json.loads(report.read_text(encoding="utf-8"))["install"]:
        name = entry["metadata"]["name"].lower().replace("_", "-")
        if not name.startswith(("nvidia-", "cuda-", "triton")):
            found.add(name + "==" + entry["metadata"]["version"].partition("+")[0])
    return found
