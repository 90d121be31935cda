"""The planner's parameters: names, defaults, ranges, meaning; for node, replay and README."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from alpamayo_ros.images import FIT_POLICIES
from alpamayo_ros.model_text import MAX_NAVIGATION_LENGTH
from alpamayo_ros.odometry import TWIST_SOURCES
from alpamayo_ros.types import DEFAULT_CAMERAS

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
    names_files: bool = False  # its values are held to `file_roots`, see file_roots.py


def _ms(name: str, default: float, meaning: str, maximum: float, minimum: float = 0.0) -> Parameter:
    return Parameter(name, default, meaning, minimum, maximum)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "model",
        "kinematic",
        "model: a name in models/ or the path of a manifest",
        names_files=True,
    ),
    Parameter("backend", "", "runtime of the model; empty: as its manifest says"),
    Parameter(
        "model_options",
        [],
        "`key=value` each, the value as in YAML: overrides the `options` of the model's manifest",
        names_files=True,
    ),
    Parameter(
        "chain_of_causation",
        "",
        "a table of decisions and phrases of your own, laid over the shipped one; empty: that one",
        names_files=True,
    ),
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
        "odometry_twist",
        "message",
        "speed and yaw rate: odometry's own (message), or by its poses of the last half second "
        "(poses: where its twist is never filled); nothing confirms the poses then, and they are "
        "refused only where no vehicle's speed changes so: stuck below 3 m/s they pass for a stop",
        choices=TWIST_SOURCES,
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
        "rig_views",
        "",
        "reproject images to these views: a name in config/views/ or the path of such a file; "
        "empty: images are taken as they are",
        names_files=True,
    ),
    Parameter(
        "camera_info_topics",
        [],
        "sensor_msgs/CameraInfo of each camera, for rig_views; empty: beside the image topics",
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
    Parameter(
        "odometry_speed_tolerance_mps",
        1.0,
        "odometry's speed from that of its poses, and a fifth of it on top; with odometry_twist "
        "poses: its change, and 10 m/s a second on top",
        0.1,
        100.0,
    ),
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
    Parameter(
        "isolation",
        "auto",
        "the model in a process of its own, which may hang or crash, or in a thread of the node's; "
        "auto: as the backend asks (Alpamayo: process)",
        choices=("auto", "process", "thread"),
    ),
    Parameter(
        "plan_timeout_s",
        10.0,
        "a model's process that takes longer for a plan, or a step of an answer, is killed and "
        "started anew; a thread cannot be: while it hangs the vehicle is stopped, and setting this "
        "with isolation thread is refused",
        0.1,
        600.0,
    ),
    Parameter("load_timeout_s", 600.0, "the same for loading and for warming up", 1.0, 7200.0),
    Parameter(
        "camera_loss",
        "stop",
        "a camera lost, frozen, black or unreadable: stop, or continue with the others where the "
        "model takes so few, flagged",
        choices=("stop", "continue"),
    ),
    Parameter(
        "required_cameras", ["front_wide"], "cameras that no plan is made without, whatever is lost"
    ),
    Parameter(
        "image_checks",
        True,
        "black, overexposed and frozen pictures count as lost; false for pictures that may be so",
    ),
    Parameter(
        "camera_info",
        "refuse",
        "CameraInfo and mountings that are not as the model was trained: refuse to configure, flag "
        "in /diagnostics, or ignore",
        choices=("refuse", "flag", "ignore"),
    ),
    Parameter(
        "safety",
        "enforce",
        "a plan that breaks a limit: enforce (repaired, or the vehicle is stopped) or observe "
        "(named in the status, and published; for models on the bench)",
        choices=("enforce", "observe"),
    ),
    Parameter(
        "vehicle",
        "",
        "its limits: a file like config/vehicle.yaml; empty: that one",
        names_files=True,
    ),
    Parameter("vehicle_profile", "default", "which profile of that file is in force"),
    _ms(
        "plan_age_limit_ms",
        500.0,
        "a plan older than this does not go out; nothing sent for as long: the vehicle is stopped",
        10000.0,
        100.0,
    ),
    Parameter(
        "repair_ticks",
        10,
        "repaired plans in a row that go out; a model that exceeds a limit for longer wants to, "
        "and the vehicle is stopped; 0: any number",
        0,
        1000,
    ),
    Parameter(
        "fallback_recovery_ticks",
        3,
        "good plans in a row after which they are driven again",
        1,
        100,
    ),
    Parameter(
        "fallback_lock_ticks",
        10,
        "unsafe plans in a row after which the stop stays until the planner is activated anew, or "
        "somebody else has driven (~/engaged); 0: never",
        0,
        1000,
    ),
    Parameter(
        "fallback_on_path",
        True,
        "~/path has the fallback too; false for consumers that drive it at a speed of their own",
    ),
    Parameter("decode_threads", 2, "threads that decode images", 1, 16),
    Parameter("navigation_timeout_s", 60.0, "navigation text is forgotten after", 0.1, 86400.0),
    Parameter(
        "navigation_max_length",
        MAX_NAVIGATION_LENGTH,
        "characters of a navigation text; a longer one is refused, and none is in force then",
        1,
        MAX_NAVIGATION_LENGTH,
    ),
    Parameter(
        "ask_timeout_s",
        30.0,
        "a question not answered by then, since planning goes first, is given up",
        0.1,
        3600.0,
    ),
    Parameter(
        "configure_odometry_wait_s",
        1.0,
        "how long configure waits for a first odometry to check its frame",
        0.0,
        60.0,
    ),
    Parameter(
        "file_roots",
        [],
        "folders below which parameters set at run time may name files, beside the package's own "
        "and those of files named at the start; not to be changed at run time",
    ),
    Parameter("hardware_id", "", "of the entries in /diagnostics; empty: the host's name"),
    Parameter("autostart", False, "configure and activate without being asked"),
)
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


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
