"""The planner's parameters: names, defaults, ranges, meaning. One table for node, replay, README.

`settings_from` checks values as a whole and reports every problem at once, since at the vehicle
each round of "fix one, restart, read the next" costs minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alpamayo_ros import geometry
from alpamayo_ros.errors import UserError
from alpamayo_ros.images import FIT_POLICIES
from alpamayo_ros.pipeline import PipelineSettings
from alpamayo_ros.sampling import SamplingLimits
from alpamayo_ros.types import CAMERA_NAMES, DEFAULT_CAMERAS, NS_PER_MS, Pose3

MAX_OFFSET_MS = 60_000.0  # a clock on TAI is 37 s ahead of UTC

Value = bool | int | float | str | list[str] | list[float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the planner node."""

    name: str
    default: Value
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


def _ms(name: str, default: float, meaning: str, maximum: float, minimum: float = 0.0) -> Parameter:
    return Parameter(name, default, meaning, minimum, maximum)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "kinematic", "model: a name in models/ or the path of a manifest"),
    Parameter("backend", "", "runtime of the model; empty: as its manifest says"),
    Parameter("camera_names", list(DEFAULT_CAMERAS), "which of the model's cameras there are"),
    Parameter(
        "camera_topics",
        [f"/camera/{name}/image/compressed" for name in DEFAULT_CAMERAS],
        "their topics, in the same order",
    ),
    Parameter(
        "image_transports",
        ["auto"],
        "auto, raw or compressed: one for all cameras or one each; auto goes by the topic's type",
    ),
    Parameter(
        "camera_stamp_offsets_ms", [0.0], "added to each camera's stamps; one for all or each"
    ),
    Parameter("odometry_topic", "/odom", "nav_msgs/Odometry"),
    Parameter(
        "odometry_stamp_offset_ms",
        0.0,
        "added to odometry's stamps",
        -MAX_OFFSET_MS,
        MAX_OFFSET_MS,
    ),
    Parameter(
        "rig_frame", "base_link", "the rear axle's centre on the ground, x forward (REP 103)"
    ),
    Parameter(
        "odometry_child_from_rig",
        [],
        "the rig in odometry's child frame: x, y, z (m), qx, qy, qz, qw; empty: from /tf_static",
    ),
    Parameter(
        "path_frame",
        "odometry",
        "frame of the published path: odometry (right even when late) or base (the rig at t0)",
        choices=("odometry", "base"),
    ),
    Parameter(
        "resize_policy",
        "crop",
        "images of another shape than the model's: crop, letterbox or stretch",
        choices=FIT_POLICIES,
    ),
    _ms("frame_tolerance_ms", 50.0, "a frame from its grid time t0 - k * 100 ms", 100.0, 1.0),
    _ms("camera_skew_ms", 50.0, "the frames of one instant from each other", 200.0, 1.0),
    _ms("odometry_gap_ms", 150.0, "neighbouring poses that are interpolated between", 1000.0, 1.0),
    _ms("extrapolation_ms", 50.0, "odometry carried forward to t0 at most", 200.0),
    _ms(
        "odometry_wait_ms", 100.0, "after due: odometry is extrapolated instead of awaited", 1000.0
    ),
    _ms(
        "tick_deadline_ms", 150.0, "after due: the tick is refused, the laggard named", 2000.0, 10.0
    ),
    _ms("future_tolerance_ms", 100.0, "a stamp ahead of the clock", 10000.0),
    _ms(
        "transport_slack_ms", 250.0, "frames are kept this long beyond what a sample spans", 5000.0
    ),
    Parameter("decode_threads", 2, "threads that decode images", 1, 16),
    Parameter("navigation_timeout_s", 60.0, "navigation text is forgotten after", 0.1, 86400.0),
    Parameter(
        "configure_odometry_wait_s",
        1.0,
        "how long configure waits for a first odometry to check its frame",
        0.0,
        60.0,
    ),
    Parameter("autostart", False, "configure and activate without being asked"),
)
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


class SettingsError(UserError):
    """One or more parameters that cannot be used; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class CameraInput:
    """One configured camera."""

    name: str
    topic: str
    transport: str  # auto, raw, compressed
    stamp_offset_ns: int


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """Every parameter, checked and in the units that the code uses."""

    model: str
    backend: str
    cameras: tuple[CameraInput, ...]
    odometry_topic: str
    odometry_stamp_offset_ns: int
    rig_frame: str
    odometry_child_from_rig: Pose3 | None
    path_in_odometry: bool
    resize_policy: str
    decode_threads: int
    navigation_timeout_s: float
    configure_odometry_wait_s: float
    autostart: bool
    pipeline: PipelineSettings


def check_value(parameter: Parameter, value: Any) -> str | None:
    """What is wrong with one value by itself, or None."""
    default = parameter.default
    if isinstance(default, list):
        kind = float if parameter.name.endswith(("_ms", "_from_rig")) else str
        if not isinstance(value, (list, tuple)) or not all(_is(kind, item) for item in value):
            what = "numbers" if kind is float else "strings"
            return f"{parameter.name} is {value!r}, wanted a list of {what}"
        if kind is float and not all(math.isfinite(item) for item in value):
            return f"{parameter.name} is {value!r}, wanted finite numbers"
        return None
    if not _is(type(default), value):
        return f"{parameter.name} is {value!r}, wanted {_KINDS[type(default)]}"
    if parameter.choices and value not in parameter.choices:
        return f"{parameter.name} is {value!r}, wanted one of {', '.join(parameter.choices)}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = parameter.minimum, parameter.maximum
        if not math.isfinite(value) or (low is not None and not low <= value <= (high or value)):
            return f"{parameter.name} is {value!r}, wanted {low:g} to {high:g}"
    return None


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def _is(kind: type, value: Any) -> bool:
    if kind is float:  # a YAML "50" is as good as "50.0"
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def settings_from(values: Mapping[str, Any]) -> PlannerSettings:
    """Checked settings from parameter values; what is absent has its default.

    Raises SettingsError with a line for every problem.
    """
    unknown = [f"{name} is no parameter of the planner" for name in values if name not in BY_NAME]
    chosen = {p.name: values.get(p.name, p.default) for p in PARAMETERS}
    problems = unknown + [
        problem for p in PARAMETERS if (problem := check_value(p, chosen[p.name])) is not None
    ]
    if not problems:
        problems = _check_together(chosen)
    if problems:
        raise SettingsError("\n".join(problems))
    return _assemble(chosen)


def _check_together(v: Mapping[str, Any]) -> list[str]:
    names, topics = list(v["camera_names"]), list(v["camera_topics"])
    problems = []
    for name in names:
        if name not in CAMERA_NAMES:
            problems.append(f"camera_names has {name!r}; known are {', '.join(CAMERA_NAMES)}")
    for label, entries in (("camera_names", names), ("camera_topics", topics)):
        twice = sorted({entry for entry in entries if entries.count(entry) > 1})
        if twice:
            problems.append(f"{label} has {', '.join(twice)} more than once")
        if "" in entries:
            problems.append(f"{label} has an empty entry")
    if not names:
        problems.append("camera_names is empty; a planner needs at least one camera")
    if len(names) != len(topics):
        problems.append(f"camera_names has {len(names)} entries, camera_topics {len(topics)}")
    for label in ("image_transports", "camera_stamp_offsets_ms"):
        if len(v[label]) not in (1, len(names)):
            problems.append(f"{label} has {len(v[label])} entries, wanted 1 or {len(names)}")
    for offset_ms in v["camera_stamp_offsets_ms"]:
        if abs(offset_ms) > MAX_OFFSET_MS:
            problems.append(
                f"camera_stamp_offsets_ms has {offset_ms:g}, wanted {-MAX_OFFSET_MS:g} to "
                f"{MAX_OFFSET_MS:g}"
            )
    for transport in v["image_transports"]:
        if transport not in ("auto", "raw", "compressed"):
            problems.append(f"image_transports has {transport!r}, wanted auto, raw or compressed")
    if not v["odometry_topic"]:
        problems.append("odometry_topic is empty")
    if not v["rig_frame"]:
        problems.append("rig_frame is empty")
    if v["odometry_wait_ms"] > v["tick_deadline_ms"]:
        problems.append(
            f"odometry_wait_ms ({v['odometry_wait_ms']:g}) is above tick_deadline_ms "
            f"({v['tick_deadline_ms']:g}): odometry would never be extrapolated"
        )
    offset = list(v["odometry_child_from_rig"])
    if offset and (len(offset) != 7 or not geometry.is_unit_quaternion(offset[3:])):
        problems.append(
            f"odometry_child_from_rig is {offset}, wanted 7 numbers: x, y, z and a unit quaternion "
            "qx, qy, qz, qw"
        )
    return problems


def _assemble(v: Mapping[str, Any]) -> PlannerSettings:
    names = list(v["camera_names"])
    transports = _each(v["image_transports"], len(names))
    offsets = _each(v["camera_stamp_offsets_ms"], len(names))
    offset = list(v["odometry_child_from_rig"])
    return PlannerSettings(
        model=v["model"],
        backend=v["backend"],
        cameras=tuple(
            CameraInput(name, topic, transport, _ns(stamp_offset))
            for name, topic, transport, stamp_offset in zip(
                names, v["camera_topics"], transports, offsets
            )
        ),
        odometry_topic=v["odometry_topic"],
        odometry_stamp_offset_ns=_ns(v["odometry_stamp_offset_ms"]),
        rig_frame=v["rig_frame"],
        odometry_child_from_rig=(
            geometry.pose_from_quaternion(offset[:3], offset[3:]) if offset else None
        ),
        path_in_odometry=v["path_frame"] == "odometry",
        resize_policy=v["resize_policy"],
        decode_threads=int(v["decode_threads"]),
        navigation_timeout_s=float(v["navigation_timeout_s"]),
        configure_odometry_wait_s=float(v["configure_odometry_wait_s"]),
        autostart=v["autostart"],
        pipeline=PipelineSettings(
            cameras=tuple(names),
            limits=SamplingLimits(
                frame_tolerance_ns=_ns(v["frame_tolerance_ms"]),
                camera_skew_ns=_ns(v["camera_skew_ms"]),
                odometry_gap_ns=_ns(v["odometry_gap_ms"]),
                extrapolation_ns=_ns(v["extrapolation_ms"]),
            ),
            tick_deadline_ns=_ns(v["tick_deadline_ms"]),
            odometry_wait_ns=_ns(v["odometry_wait_ms"]),
            future_tolerance_ns=_ns(v["future_tolerance_ms"]),
            transport_slack_ns=_ns(v["transport_slack_ms"]),
        ),
    )


def _each(entries: Sequence[Any], count: int) -> list[Any]:
    return list(entries) if len(entries) == count else [entries[0]] * count


def _ns(milliseconds: float) -> int:
    return round(milliseconds * NS_PER_MS)


def read_parameter_file(path: Path) -> dict[str, Any]:
    """The values of a ROS parameter file, of every node entry that it has.

    Raises SettingsError where it is not such a file.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"parameter file {path}: {error}") from error
    values: dict[str, Any] = {}
    found = _collect(content, values)
    if not found:
        raise SettingsError(f"parameter file {path} has no `ros__parameters:` entry")
    values.pop("use_sim_time", None)
    for name in [name for name in values if name.startswith("qos_overrides")]:
        del values[name]
    return values


def _collect(node: Any, values: dict[str, Any]) -> bool:
    if not isinstance(node, dict):
        return False
    found = False
    for key, child in node.items():
        if key == "ros__parameters" and isinstance(child, dict):
            values.update(child)
            found = True
        else:
            found = _collect(child, values) or found
    return found
