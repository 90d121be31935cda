"""Settings from the planner's parameters (parameter_table.py), checked and in the code's units.

`settings_from` checks values as a whole and reports every problem at once, since at the vehicle
each round of "fix one, restart, read the next" costs minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros import geometry
from alpamayo_ros.camera_policy import CameraPolicy, all_of
from alpamayo_ros.errors import UserError
from alpamayo_ros.manifest import CameraRequirement
from alpamayo_ros.parameter_table import BY_NAME, MAX_OFFSET_MS, PARAMETERS, check_value
from alpamayo_ros.pipeline import PipelineSettings
from alpamayo_ros.safety.limits import load_vehicle
from alpamayo_ros.safety.rulings import SafetySettings
from alpamayo_ros.sampling import SamplingLimits
from alpamayo_ros.types import CAMERA_NAMES, NS_PER_MS, Pose3
from alpamayo_ros.yaml_text import YamlError, load_yaml, read_yaml


class SettingsError(UserError):
    """One or more parameters that cannot be used; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class CameraInput:
    """One configured camera."""

    name: str
    topic: str
    transport: str  # auto, raw, compressed
    stamp_offset_ns: int
    info_topic: str = ""  # of its CameraInfo; empty: beside the image topic


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """Every parameter, checked and in the units that the code uses."""

    model: str
    backend: str
    model_options: Mapping[str, Any]
    chain_of_causation: str
    cameras: tuple[CameraInput, ...]
    odometry_topic: str
    odometry_stamp_offset_ns: int
    rig_frame: str
    odometry_child_from_rig: Pose3 | None
    path_in_odometry: bool
    rig_views: str  # empty: none
    resize_policy: str
    isolation: str
    plan_timeout_s: float
    load_timeout_s: float
    decode_threads: int
    navigation_timeout_s: float
    navigation_max_length: int
    ask_timeout_s: float
    configure_odometry_wait_s: float
    autostart: bool
    pipeline: PipelineSettings
    safety: SafetySettings
    camera_loss: str  # stop, continue
    camera_info: str  # refuse, flag, ignore
    required_cameras: tuple[str, ...]
    image_checks: bool

    def camera_policy(self, requirement: CameraRequirement, model: str) -> CameraPolicy:
        """What to do about a lost camera. Raises SettingsError where the model takes no fewer."""
        names = [camera.name for camera in self.cameras]
        if self.camera_loss == "stop":
            return all_of(names, self.image_checks)
        if requirement.minimum >= len(names):
            raise SettingsError(
                f"camera_loss is continue, but model {model} takes no fewer than "
                f"{requirement.minimum} cameras; set camera_loss to stop"
            )
        return CameraPolicy(
            requirement.minimum, frozenset(self.required_cameras), self.image_checks
        )


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


def _safety(v: Mapping[str, Any]) -> SafetySettings:
    return SafetySettings(
        vehicle=load_vehicle(v["vehicle"], v["vehicle_profile"]),
        enforce=v["safety"] == "enforce",
        recovery_ticks=int(v["fallback_recovery_ticks"]),
        lock_ticks=int(v["fallback_lock_ticks"]),
        repair_ticks=int(v["repair_ticks"]),
        max_plan_age_ns=_ns(v["plan_age_limit_ms"]),
        fallback_on_path=v["fallback_on_path"],
    )


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
    infos = list(v["camera_info_topics"])
    if infos and len(infos) != len(names):
        problems.append(f"camera_info_topics has {len(infos)} entries, wanted none or {len(names)}")
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
    for entry in v["model_options"]:
        try:
            parsed_option(entry)
        except ValueError as error:
            problems.append(f"model_options has {entry!r}: {error}")
    absent = [name for name in v["required_cameras"] if name not in names]
    if absent and v["camera_loss"] == "continue":
        problems.append(
            f"required_cameras has {', '.join(absent)}, which camera_names does not; camera_loss "
            "continue would wait for it for ever"
        )
    if not v["odometry_topic"]:
        problems.append("odometry_topic is empty")
    if not v["rig_frame"]:
        problems.append("rig_frame is empty")
    try:
        load_vehicle(v["vehicle"], v["vehicle_profile"])
    except UserError as error:
        problems.append(f"vehicle or vehicle_profile: {error}")
    if v["odometry_wait_ms"] > v["tick_deadline_ms"]:
        problems.append(
            f"odometry_wait_ms ({v['odometry_wait_ms']:g}) is above tick_deadline_ms "
            f"({v['tick_deadline_ms']:g}): odometry would never be extrapolated"
        )
    for label in ("plan_timeout_s", "load_timeout_s"):
        if v["isolation"] == "thread" and v[label] != BY_NAME[label].default:
            problems.append(
                f"{label} is {v[label]:g} with isolation thread, and no thread can be ended: set "
                "isolation to process, or leave it out"
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
    infos = list(v["camera_info_topics"]) or [""] * len(names)
    offset = list(v["odometry_child_from_rig"])
    return PlannerSettings(
        model=v["model"],
        backend=v["backend"],
        model_options=dict(map(parsed_option, v["model_options"])),
        chain_of_causation=v["chain_of_causation"],
        cameras=tuple(
            CameraInput(name, topic, transport, _ns(stamp_offset), info)
            for name, topic, transport, stamp_offset, info in zip(
                names, v["camera_topics"], transports, offsets, infos
            )
        ),
        odometry_topic=v["odometry_topic"],
        odometry_stamp_offset_ns=_ns(v["odometry_stamp_offset_ms"]),
        rig_frame=v["rig_frame"],
        odometry_child_from_rig=(
            geometry.pose_from_quaternion(offset[:3], offset[3:]) if offset else None
        ),
        path_in_odometry=v["path_frame"] == "odometry",
        rig_views=v["rig_views"],
        resize_policy=v["resize_policy"],
        isolation=v["isolation"],
        plan_timeout_s=float(v["plan_timeout_s"]),
        load_timeout_s=float(v["load_timeout_s"]),
        decode_threads=int(v["decode_threads"]),
        navigation_timeout_s=float(v["navigation_timeout_s"]),
        navigation_max_length=int(v["navigation_max_length"]),
        ask_timeout_s=float(v["ask_timeout_s"]),
        configure_odometry_wait_s=float(v["configure_odometry_wait_s"]),
        autostart=v["autostart"],
        pipeline=PipelineSettings(
            cameras=tuple(names),
            limits=SamplingLimits(
                frame_tolerance_ns=_ns(v["frame_tolerance_ms"]),
                camera_skew_ns=_ns(v["camera_skew_ms"]),
                odometry_gap_ns=_ns(v["odometry_gap_ms"]),
                extrapolation_ns=_ns(v["extrapolation_ms"]),
                speed_tolerance_mps=float(v["odometry_speed_tolerance_mps"]),
                motion_by_poses=v["odometry_twist"] == "poses",
            ),
            tick_deadline_ns=_ns(v["tick_deadline_ms"]),
            odometry_wait_ns=_ns(v["odometry_wait_ms"]),
            future_tolerance_ns=_ns(v["future_tolerance_ms"]),
            transport_slack_ns=_ns(v["transport_slack_ms"]),
        ),
        safety=_safety(v),
        camera_loss=v["camera_loss"],
        camera_info=v["camera_info"],
        required_cameras=tuple(v["required_cameras"]),
        image_checks=v["image_checks"],
    )


def parsed_option(entry: str) -> tuple[str, Any]:
    """`key=value` of model_options, the value as in YAML. Raises ValueError."""
    key, equals, text = entry.partition("=")
    key = key.strip()
    if not (key and equals):
        raise ValueError("wanted key=value")
    try:
        return key, load_yaml(text)
    except YamlError as error:
        raise ValueError(f"the value is {error}") from error


def _each(entries: Sequence[Any], count: int) -> list[Any]:
    return list(entries) if len(entries) == count else [entries[0]] * count


def _ns(milliseconds: float) -> int:
    return round(milliseconds * NS_PER_MS)


def read_parameter_file(path: Path) -> dict[str, Any]:
    """The values of a ROS parameter file, of every node entry that it has.

    Raises SettingsError where it is not such a file.
    """
    try:
        content = read_yaml(path)
    except (OSError, YamlError) as error:
        raise SettingsError(f"parameter file {path}: {error}") from error
    values: dict[str, Any] = {}
    found = _collect(content, values)
    if not found:
        raise SettingsError(f"parameter file {path} has no `ros__parameters:` entry")
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        raise SettingsError(f"parameter file {path}: {unnamed[0]!r} is no parameter's name")
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
