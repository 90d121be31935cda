"""What a machine must have, checked before anything is downloaded; every error names its remedy.

Loaded by any Python 3, also one that is too old: no newer syntax here.
"""

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from typing import Callable, Mapping  # noqa: UP035 - loads on old versions too

SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))
SUPPORTED_TEXT = "3.10 to 3.13"
NEEDED_BYTES = 1500 * 1000 * 1000
USE_A_WORKSPACE = (
    "On this machine install ROS 2 (https://docs.ros.org) and build the package in a workspace:\n"
    "  cp -r . ~/ws/src/alpamayo_ros && cd ~/ws && rosdep install --from-paths src -yi"
    " && colcon build"
)


class SetupError(Exception):
    """Setup cannot go on. The message says why, and what to do."""


def supported_pythons() -> list:
    """Commands on PATH that start a supported Python, newest first."""
    names = [f"python{major}.{minor}" for major, minor in reversed(SUPPORTED)]
    return [name for name in names if shutil.which(name)]


def check_interpreter(version: tuple = tuple(sys.version_info[:2])) -> None:
    """The wheels of ROS 2 exist for four versions of Python."""
    if version in SUPPORTED and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return
    others = supported_pythons()
    remedy = (
        f"found on this machine: run `make setup PYTHON={others[0]}`"
        if others
        else "install one (apt, pyenv, uv) and name it: `make setup PYTHON=/path/to/python3.12`"
    )
    raise SetupError(
        f"Python {version[0]}.{version[1]} ({sys.executable}) is not supported: the wheels of "
        f"ROS 2 are for Python {SUPPORTED_TEXT}, not free-threaded.\n{remedy}"
    )


def check_platform(
    system: str = platform.system(),
    machine: str = platform.machine(),
    libc: str = platform.libc_ver()[0],
) -> None:
    """The wheels of ROS 2 are built for Linux with glibc on x86-64."""
    if system == "Linux" and machine in ("x86_64", "AMD64") and libc == "glibc":
        return
    raise SetupError(
        "the wheels of ROS 2 are for x86-64 Linux with glibc; "
        f"this is {system} on {machine} with {libc or 'another libc'}.\n{USE_A_WORKSPACE}"
    )


def check_venv_module(find: Callable = importlib.util.find_spec) -> None:
    """Debian and Ubuntu ship Python without what makes a virtual environment."""
    missing = [name for name in ("venv", "ensurepip") if find(name) is None]
    if missing:
        raise SetupError(
            f"{sys.executable} has no module {' and no module '.join(missing)}.\n"
            + _apt_or_another_python("venv")
        )


def check_headers(include: str = sysconfig.get_path("include")) -> None:
    """Our messages are compiled against Python's headers."""
    header = os.path.join(include, "Python.h")
    if not os.path.isfile(header):
        raise SetupError(
            f"{header} is missing: the messages are compiled against Python's headers.\n"
            + _apt_or_another_python("dev")
        )


def _apt_or_another_python(package: str) -> str:
    major, minor = sys.version_info[:2]
    return (
        f"Debian, Ubuntu: `sudo apt install python3-{package}` (or python{major}.{minor}-{package})"
        "; without root: a Python of pyenv or uv, `make setup PYTHON=/path/to/python3`"
    )


def check_disk(folder: str, needed: int = NEEDED_BYTES) -> None:
    """An installation that fills the disk fails late, with messages that do not say so."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder} has {free / 1e9:.1f} GB free and .venv needs {needed / 1e9:.1f} GB.\n"
            "Free some space, or clone the repository to another disk"
        )


def has_compilers(environ: Mapping) -> bool:
    """Whether there are both a C and a C++ compiler. `CC` and `CXX` win, as they do for CMake."""
    path = environ.get("PATH", os.defpath)
    found = []
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        wanted = (environ.get(variable) or "").split()[:1]
        found.append(any(shutil.which(name, path=path) for name in wanted or names))
        if wanted and not found[-1]:
            raise SetupError(
                f"{variable} names {wanted[0]}, which is not on PATH.\n"
                "Unset it, or install that compiler"
            )
    return all(found)
