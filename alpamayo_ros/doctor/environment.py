"""ROS and DDS on this machine, from environment variables and what is installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from alpamayo_ros.bench.processes import SHM, shm_warning
from alpamayo_ros.doctor.findings import Finding, error, note, ok, warning
from alpamayo_ros.errors import UserError
from alpamayo_ros.processes import PROFILE_VARIABLES
from alpamayo_ros.resources import resource

SAFE_DOMAINS = range(0, 102)  # above, DDS's ports reach into Linux's ephemeral ones
VALID_DOMAINS = range(0, 233)  # by the port formula of DDS-RTPS
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
RMEM_WANTED_BYTES = 4_194_304  # config/fastdds_shm.xml asks for as much
SET_UP = "run `make setup` and use .venv, or source the workspace that has alpamayo_ros"


class Installation(Protocol):
    """alpamayo_ros/ros/installation.py, which loads ROS when it is asked."""

    def middleware(self) -> str:
        """Its name; raises what loading it raises."""

    def built_fields(self, kind: str) -> dict[str, set[str]]:
        """Of each built message or service by its name; `kind` is msg or srv."""


def ros(environ: Mapping[str, str], installation: Installation) -> Iterable[Finding]:
    """rclpy and its middleware, domain, discovery, the package's messages."""
    if importlib.util.find_spec("rclpy") is None:
        yield error(
            "ros", "rclpy is not installed: no node can run (replay and evaluate can)", SET_UP
        )
        return
    yield ok("ros", f"distribution {environ.get('ROS_DISTRO', 'not named (ROS_DISTRO)')}")
    try:
        middleware = installation.middleware()
        yield ok("ros", f"middleware {middleware}")
    except Exception as failure:  # whatever loading a middleware's libraries raises
        middleware = ""
        wanted = environ.get("RMW_IMPLEMENTATION", "the default one")
        yield error(
            "ros",
            f"middleware {wanted} does not load: {failure}",
            "install it, or unset RMW_IMPLEMENTATION",
        )
    yield from _domain(environ.get("ROS_DOMAIN_ID", ""))
    yield from _discovery(environ)
    yield from _messages(installation)
    if middleware.startswith("rmw_fastrtps"):
        yield from profile(environ)
    elif middleware:
        yield note(
            "dds",
            f"config/fastdds_shm.xml is for Fast DDS, and this is {middleware}",
            "see its manual for messages of 6 MB and more",
        )


def _domain(text: str) -> Iterable[Finding]:
    if not text:
        yield ok("ros", "ROS_DOMAIN_ID is not set: domain 0")
    elif not text.isdecimal() or int(text) not in VALID_DOMAINS:
        yield error("ros", f"ROS_DOMAIN_ID is {text!r}", "set a number from 0 to 101")
    elif int(text) not in SAFE_DOMAINS:
        yield warning(
            "ros",
            f"ROS_DOMAIN_ID is {text}: its ports are among Linux's ephemeral ones",
            "choose 0 to 101",
        )
    else:
        yield ok("ros", f"ROS_DOMAIN_ID is {text}")


def _discovery(environ: Mapping[str, str]) -> Iterable[Finding]:
    old = environ.get("ROS_LOCALHOST_ONLY", "")
    if old not in ("", "0"):
        yield warning(
            "ros",
            "ROS_LOCALHOST_ONLY is set, which overrides the newer variables",
            "unset it and set ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
        )
    reach = environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if reach and reach not in RANGES:
        yield error(
            "ros", f"ROS_AUTOMATIC_DISCOVERY_RANGE is {reach!r}", f"set one of {', '.join(RANGES)}"
        )
    elif reach == "OFF":
        yield error(
            "ros",
            "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nodes do not find each other",
            "set LOCALHOST or SUBNET",
        )
    elif reach == "LOCALHOST":
        yield note(
            "ros", "ROS_AUTOMATIC_DISCOVERY_RANGE is LOCALHOST: other machines are not heard"
        )
    if peers := environ.get("ROS_STATIC_PEERS", ""):
        yield note("ros", f"ROS_STATIC_PEERS is {peers}")


def _messages(installation: Installation) -> Iterable[Finding]:
    """Whether what msg/ and srv/ declare was built, and built from these very files."""
    stale, count = [], 0
    for kind, suffix in (("msg", "*.msg"), ("srv", "*.srv")):
        try:
            built = installation.built_fields(kind)
            declared = sorted(resource(kind).glob(suffix))
        except (ImportError, UserError) as failure:
            yield error("messages", f"alpamayo_ros.{kind} cannot be had: {failure}", SET_UP)
            return
        for path in declared:
            count += 1
            if built.get(path.stem) != _fields(path):
                stale.append(path.stem)
    if stale:
        yield error(
            "messages",
            f"not built from the files that are here: {', '.join(stale)}",
            "`make setup`, or colcon build and source install/setup.bash",
        )
    else:
        yield ok("messages", f"{count} of the package's own are built")


def _fields(path: Path) -> set[str]:
    """Names of the fields of a .msg, or of a .srv's request; constants are none."""
    lines = path.read_text(encoding="utf-8").split("\n---")[0].splitlines()
    words = [line.split("#")[0].split() for line in lines]
    return {parts[1] for parts in words if len(parts) >= 2 and not _is_constant(parts)}


def _is_constant(parts: list[str]) -> bool:
    return "=" in parts[1] or (len(parts) > 2 and parts[2].startswith("="))


def profile(environ: Mapping[str, str]) -> Iterable[Finding]:
    """Fast DDS's profile: there, both names of it, and no larger than shared memory."""
    named = {name: environ.get(name, "") for name in PROFILE_VARIABLES}
    shipped = resource("config", "fastdds_shm.xml")
    remedy = f"export both {' and '.join(PROFILE_VARIABLES)} as {shipped}, in every process"
    if not any(named.values()):
        yield warning("dds", "no shared-memory profile: most frames of 1080p are lost", remedy)
        return
    for name, path in named.items():
        if not path:
            yield warning(
                "dds", f"{name} is not set, and some versions of Fast DDS read only that", remedy
            )
        elif not Path(path).is_file():
            yield error("dds", f"{name} names {path}, which does not exist", remedy)
        else:
            yield from _segment(name, Path(path))


def _segment(name: str, path: Path) -> Iterable[Finding]:
    try:
        found = re.search(r"<segment_size>\s*(\d+)\s*</segment_size>", path.read_text())
    except (OSError, UnicodeDecodeError) as failure:
        yield error(
            "dds",
            f"{name} names {path}, which cannot be read: {failure}",
            "name a readable XML file",
        )
        return
    size = f"segments of {int(found[1]) / 2**20:.0f} MiB" if found else "no shared-memory segment"
    yield ok("dds", f"{name} is {path}: {size}")


def machine() -> Iterable[Finding]:
    """Shared memory and socket buffers."""
    problem = shm_warning()
    if problem:
        yield warning(
            "shared memory", problem, "mount a larger one: mount -o remount,size=2g /dev/shm"
        )
    else:
        yield ok("shared memory", f"{SHM} has room for large images")
    try:
        receive = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return
    if receive < RMEM_WANTED_BYTES:
        yield note(
            "network",
            f"net.core.rmem_max is {receive}: large images from other machines may be lost",
            f"sysctl -w net.core.rmem_max={RMEM_WANTED_BYTES}",
        )
    else:
        yield ok("network", f"net.core.rmem_max is {receive}")
