"""The vehicle file: what it gives, and errors that name file, key and what was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpamayo_ros.safety.limits import (
    ChoiceWeights,
    StopSettings,
    VehicleError,
    VehicleLimits,
    load_vehicle,
)


def test_shipped_file_is_the_defaults_of_the_code() -> None:
    """config/vehicle.yaml and the classes say the same, so that a file may leave things out."""
    vehicle = load_vehicle()
    assert vehicle.limits == VehicleLimits()
    assert vehicle.weights == ChoiceWeights()
    assert vehicle.stop == StopSettings()


def test_a_profile_is_laid_over_the_default(tmp_path: Path) -> None:
    """What a profile leaves out is as in `default` of its own file."""
    path = tmp_path / "car.yaml"
    path.write_text("profiles: {default: {width_m: 2.2}, slow: {max_speed_mps: 5}}")
    limits = load_vehicle(str(path), "slow").limits
    assert (limits.width_m, limits.max_speed_mps) == (2.2, 5.0)
    assert limits.max_lateral_mps2 == VehicleLimits().max_lateral_mps2
    assert load_vehicle(profile="comfort").limits.max_speed_mps == 15.0


@pytest.mark.parametrize(
    "text, said",
    [
        ("profiles: {default: {max_speed_mps: -3}}", "profiles.default.max_speed_mps is -3"),
        ("profiles: {default: {max_sped_mps: 3}}", "profiles.default.max_sped_mps"),
        ("profiles: {default: {max_speed_mps: .nan}}", "max_speed_mps is nan"),
        ("profiles: {default: {max_speed_mps: fast}}", "'fast', wanted a number above 0"),
        ("profiles: {slow: {}}", "no profile 'default'; it has slow"),
        ("profiles: [1]", "profiles is [1]"),
        ("limits: {}", "unknown key 'limits'"),
        ("profiles: {default: {}}\nstop: {deceleration_mps2: 7}", "stop.deceleration_mps2 is 7"),
        ("profiles: {default: {max_braking_mps2: 3}}", "stop.max_deceleration_mps2 is 6, above 3"),
        ("profiles: {default: {}}\nchoice: {risk: -1}", "choice.risk is -1"),
        ("{", "vehicle file"),
        ("", "the file is None"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The path and the key are in every message."""
    path = tmp_path / "car.yaml"
    path.write_text(text)
    with pytest.raises(VehicleError) as caught:
        load_vehicle(str(path))
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_a_missing_file_is_named() -> None:
    """With the reason of the system."""
    with pytest.raises(VehicleError, match="nowhere.yaml: No such file"):
        load_vehicle("nowhere.yaml")
