"""The steps of setup: virtual environment, packages, repair of the wheels, entry points, build."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from alpamayo_ros.bootstrap import build, checks, commands, entry_points, exports, stamps, zig

ROOT = Path(__file__).resolve().parents[2]
PIP_REMEDY = (
    "If it could not reach the package registry: look at the network, and at `pip config list` for "
    "a mirror or proxy. Then run the same command again: it goes on from here."
)


@dataclass(frozen=True)
class Step:
    """One thing to do, skipped while its stamp holds `key`."""

    name: str
    title: str
    key: str
    action: Callable[[commands.Progress], None]


@contextmanager
def only_one_setup(root: Path) -> Iterator[None]:
    """Two setups of one checkout at a time would install into one another."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another setup of this checkout is running; waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def set_up(dev: bool = False, quiet: bool = False, root: Path = ROOT) -> None:
    """Bring `.venv` up to date with the sources; does only what is not done yet."""
    with only_one_setup(root):
        environment = Environment(root)
        pending = environment.pending(dev)
        environment.check(pending)
        progress = commands.Progress(len(pending))
        began = time.monotonic()
        for step in pending:
            progress.start(step.title)
            environment.do(step, progress)
            progress.done()
        if pending:
            print(f"set up in {time.monotonic() - began:.0f} s: try .venv/bin/alpamayo --help")
        elif not quiet:
            print("nothing to do: .venv is up to date")


# pip takes a package that it was unpacking when it was killed for an installed one.
PIP_STEPS = ("venv", "packages", "packages_dev", "packages_model", "compiler")


class Environment:
    """The `.venv` of one checkout, and what is to be done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.stamps = stamps.Stamps(self.venv / ".setup")
        self.builder = build.Builder(root, self.venv)
        self.build_from_scratch = False
        version = self._existing_version()
        cut_off = any(map(self.stamps.was_cut_off, PIP_STEPS))
        self.remake = not version or cut_off
        self.version = platform.python_version() if self.remake else version

    def pending(self, dev: bool) -> list[Step]:
        """The steps whose stamps do not match the sources, in order."""
        venv_key = self._venv_key(self.version)
        packages = self._pip_step(
            "packages", "ROS 2 Jazzy and the other packages (pip)", "requirements.txt"
        )
        repair_key = stamps.hash_of(packages.key, "1")
        entry_key = stamps.hash_of(venv_key, entry_points.files_key(self.root))
        build_key = stamps.hash_of(repair_key, entry_key, self.builder.sources_key())
        steps = [
            Step("venv", f"virtual environment, Python {self.version}", venv_key, self._make_venv),
            packages,
            Step("repair", "CMake exports of the wheels", repair_key, self._repair),
            Step("entry_points", "entry points", entry_key, self._write_entry_points),
            Step("build", "messages and package (colcon build)", build_key, self._build),
        ]
        if dev:
            title = "tools for tests and lint"
            steps.append(self._pip_step("packages_dev", title, "requirements-dev.txt"))
            title = "PyTorch, transformers and TensorRT for the model's tests"
            steps.append(self._pip_step("packages_model", title, "requirements-model.txt"))
        if not self.remake:
            steps = [step for step in steps if not self.stamps.matches(step.name, step.key)]
        return self._with_compiler(steps)

    def _pip_step(self, name: str, title: str, requirements: str) -> Step:
        folder = self.root / "config" / "plain_ros"
        files = [folder / requirements, self._constraints()]
        contents = stamps.hash_of_contents(self.root, files)
        return Step(
            name,
            title,
            stamps.hash_of(self._venv_key(self.version), contents),
            lambda progress: pip_install(self.venv, files[:1], files[1], progress),
        )

    def _with_compiler(self, steps: list[Step]) -> list[Step]:
        """`steps`, with a compiler before the build on a machine that has none."""
        names = [step.name for step in steps]
        if "build" not in names or checks.has_compilers(os.environ):
            return steps
        title = "a compiler (none on PATH: Zig's, 0.1 GB to download)"
        step = self._pip_step("compiler", title, "requirements-compiler.txt")
        if not self.remake and self.stamps.matches(step.name, step.key):
            return steps
        steps.insert(names.index("build"), replace(step, action=self._install_compiler))
        return steps

    def do(self, step: Step, progress: commands.Progress) -> None:
        """Do one step and stamp it; one that is killed on the way is found out by the next run."""
        self.build_from_scratch = self.stamps.was_cut_off("build")
        if step.name == "venv":
            self._clear_venv()
        self.stamps.begin(step.name)
        try:
            step.action(progress)
        except checks.SetupError:
            self.stamps.fail(step.name)
            raise
        self.stamps.finish(step.name, step.key)

    def check(self, pending: list[Step]) -> None:
        """Everything the pending steps will need, before the first of them starts."""
        names = {step.name for step in pending}
        if not names:
            return
        checks.check_platform()
        if "venv" in names:
            checks.check_venv_module()
            checks.check_headers()
            checks.check_disk(str(self.root))
        if "venv" not in names and self.version != platform.python_version():
            print(f"note: .venv has Python {self.version}; `make clean` first to change it")

    def _existing_version(self) -> str:
        """Python's version in `.venv`; "" where there is none, half of one, or one that moved."""
        configuration = self.venv / "pyvenv.cfg"
        if not (self.python.exists() and configuration.exists()):
            return ""
        found = re.search(r"^version = (\S+)", configuration.read_text(encoding="utf-8"), re.M)
        version = found[1] if found else ""
        # Its scripts name the environment's own path.
        return version if self.stamps.matches("venv", self._venv_key(version)) else ""

    def _venv_key(self, version: str) -> str:
        return stamps.hash_of(str(self.venv), version)

    def _constraints(self) -> Path:
        major, minor = self.version.split(".")[:2]
        return self.root / "config" / "plain_ros" / f"constraints-py{major}{minor}.txt"

    def _clear_venv(self) -> None:
        if not self.venv.exists():
            return
        contents = {path.name for path in self.venv.iterdir()}
        if "pyvenv.cfg" not in contents and contents - {".setup", "log"}:
            raise checks.SetupError(f"{self.venv} is not a virtual environment: move it away")
        shutil.rmtree(self.venv)

    def _make_venv(self, progress: commands.Progress) -> None:
        commands.run(
            [sys.executable, "-m", "venv", self.venv],
            self.venv / "log" / "venv.log",
            commands.clean_environment(self.venv),
            "Run `make clean`, then the same command again.",
            progress=progress,
        )

    def _install_compiler(self, progress: commands.Progress) -> None:
        requirements = self.root / "config" / "plain_ros" / "requirements-compiler.txt"
        pip_install(self.venv, [requirements], None, progress, f"{zig.REMEDY}\n{PIP_REMEDY}")
        zig.write_wrappers(self.venv)

    def _repair(self, progress: commands.Progress) -> None:
        asked = (
            "import numpy, sysconfig as s; print(s.get_path('include')); print(numpy.get_include())"
        )
        result = subprocess.run(
            [str(self.python), "-c", asked],
            env=commands.clean_environment(self.venv),
            capture_output=True,
            text=True,
            check=True,
        )
        python_include, numpy_include = result.stdout.splitlines()
        exports.repair_exports(self.venv, python_include, numpy_include)

    def _write_entry_points(self, progress: commands.Progress) -> None:
        entry_points.write(self.root, self.venv)

    def _build(self, progress: commands.Progress) -> None:
        self.builder.build(progress, from_scratch=self.build_from_scratch)


def pip_install(
    venv: Path,
    requirements: list[Path],
    constraints: Path | None,
    progress: commands.Progress | None = None,
    remedy: str = PIP_REMEDY,
) -> None:
    files = [word for file in requirements for word in ("-r", str(file))]
    if constraints is not None:
        files += ["-c", str(constraints)]
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--no-input"]
    commands.run(
        [*pip, "install", "--disable-pip-version-check", "--prefer-binary", *files],
        venv / "log" / f"pip-{requirements[-1].stem}.log",
        commands.clean_environment(venv),
        remedy,
        progress=progress,
    )
