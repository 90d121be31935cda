"""What the vehicle can do and may be asked for: `config/vehicle.yaml`, or a file like it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from alpamayo_ros.errors import UserError
from alpamayo_ros.resources import resource
from alpamayo_ros.yaml_text import YamlError, read_yaml

DEFAULT_PROFILE = "default"
SECTIONS = ("profiles", "choice", "stop")


class VehicleError(UserError):
    """A vehicle file that cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class VehicleLimits:
    """One profile. Magnitudes, all positive."""

    length_m: float = 4.6
    width_m: float = 1.9
    wheelbase_m: float = 2.8
    rear_overhang_m: float = 0.95  # behind the rear axle, which is the rig's origin
    max_speed_mps: float = 40.0
    max_acceleration_mps2: float = 4.0
    max_braking_mps2: float = 8.0
    max_jerk_mps3: float = 20.0
    max_lateral_mps2: float = 5.0
    max_curvature_1pm: float = 0.2
    max_curvature_rate_1pms: float = 0.4


@dataclass(frozen=True, slots=True)
class ChoiceWeights:
    """How much each cost of a candidate counts."""

    risk: float = 1.0
    comfort: float = 0.3
    progress: float = 0.3


@dataclass(frozen=True, slots=True)
class StopSettings:
    """The fallback's braking: comfortable at first, up to the bounds where room runs out."""

    deceleration_mps2: float = 1.0
    jerk_mps3: float = 0.3
    max_deceleration_mps2: float = 6.0
    max_jerk_mps3: float = 20.0
    patience_s: float = 0.5  # of the stop until it grows harder, up to:
    blind_deceleration_mps2: float = 3.0


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle file under one profile."""

    limits: VehicleLimits = field(default_factory=VehicleLimits)
    weights: ChoiceWeights = field(default_factory=ChoiceWeights)
    stop: StopSettings = field(default_factory=StopSettings)


def load_vehicle(file: str = "", profile: str = DEFAULT_PROFILE) -> Vehicle:
    """The vehicle of a file under one of its profiles; an empty name is the shipped file.

    Raises VehicleError naming the file, the key and what was wanted.
    """
    path = Path(file) if file else resource("config", "vehicle.yaml")
    content = _read(path)
    profiles = _mapping(content.get("profiles", {}), path, "profiles")
    if profile not in profiles:
        known = ", ".join(map(str, profiles)) or "none"
        raise VehicleError(f"{path}: no profile {profile!r}; it has {known}")
    values: dict[str, Any] = {}
    for name in (DEFAULT_PROFILE, profile):
        values.update(_mapping(profiles.get(name, {}), path, f"profiles.{name}"))
    limits = _section(VehicleLimits, values, path, f"profiles.{profile}")
    stop = _section(StopSettings, _mapping(content.get("stop", {}), path, "stop"), path, "stop")
    choice = _mapping(content.get("choice", {}), path, "choice")
    weights = _section(ChoiceWeights, choice, path, "choice", zero_is_fine=True)
    for name, asked, bound in (
        ("max_deceleration_mps2", stop.max_deceleration_mps2, limits.max_braking_mps2),
        ("blind_deceleration_mps2", stop.blind_deceleration_mps2, stop.max_deceleration_mps2),
        ("deceleration_mps2", stop.deceleration_mps2, stop.blind_deceleration_mps2),
        ("max_jerk_mps3", stop.max_jerk_mps3, limits.max_jerk_mps3),
        ("jerk_mps3", stop.jerk_mps3, stop.max_jerk_mps3),
    ):
        if asked > bound:
            raise VehicleError(
                f"{path}: stop.{name} is {asked:g}, above {bound:g}, which profile {profile!r} or "
                "the stop itself allows"
            )
    return Vehicle(limits, weights, stop)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise VehicleError(f"vehicle file {path}: {error.strerror or error}") from error
    except YamlError as error:
        raise VehicleError(f"vehicle file {path}: {error}") from error
    content = _mapping(content, path, "the file")
    for key in content:
        if key not in SECTIONS:
            raise VehicleError(f"{path}: unknown key {key!r}; known: {', '.join(SECTIONS)}")
    return content


def _mapping(value: Any, path: Path, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise VehicleError(f"{path}: {key} is {value!r}, wanted `key: value` lines")
    return value


Section = TypeVar("Section", VehicleLimits, ChoiceWeights, StopSettings)


def _section(
    kind: type[Section],
    values: Mapping[str, Any],
    path: Path,
    where: str,
    zero_is_fine: bool = False,
) -> Section:
    known = [entry.name for entry in fields(kind)]
    for name, value in values.items():
        if name not in known:
            raise VehicleError(f"{path}: unknown key {where}.{name}; known: {', '.join(known)}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf or (value == 0 and not zero_is_fine):
            wanted = "a number from 0 on" if zero_is_fine else "a number above 0"
            raise VehicleError(f"{path}: {where}.{name} is {value!r}, wanted {wanted}")
    return kind(**{name: float(value) for name, value in values.items()})
