"""Parameters: every bad value is named, several at once; good ones arrive in the code's units."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros import resources
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.parameter_table import BY_NAME, PARAMETERS, Parameter, check_value
from alpamayo_ros.parameters import SettingsError, read_parameter_file, settings_from
from alpamayo_ros.pipeline import PipelineSettings
from alpamayo_ros.types import DEFAULT_CAMERAS

RANGED = [p for p in PARAMETERS if p.minimum is not None and p.maximum is not None]


def problems(values: dict[str, Any]) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(SettingsError) as error:
        settings_from(values)
    return str(error.value).splitlines()


def test_the_defaults_are_good() -> None:
    """And are those of the pipeline itself."""
    settings = settings_from({})
    assert settings.pipeline == PipelineSettings(cameras=DEFAULT_CAMERAS)
    assert [camera.name for camera in settings.cameras] == list(DEFAULT_CAMERAS)
    assert settings.path_in_odometry and settings.odometry_child_from_rig is None


def test_the_shipped_file_says_the_defaults() -> None:
    """config/planner.yaml chooses the model, which is shipped, and changes nothing else."""
    values = read_parameter_file(resources.resource("config", "planner.yaml"))
    assert len(values) >= 10
    assert load_manifest(str(values.pop("model"))).uses_images
    assert settings_from(values) == settings_from({})


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_a_value_of_another_type(parameter: Parameter) -> None:
    """Each parameter refuses one, by name."""
    wrong: Any = 3 if isinstance(parameter.default, (str, bool)) else "soon"
    (said,) = problems({parameter.name: wrong})
    assert said.startswith(f"{parameter.name} is {wrong!r}, wanted ")


@pytest.mark.parametrize("parameter", RANGED, ids=lambda p: p.name)
def test_ranges_are_inclusive(parameter: Parameter) -> None:
    """Both ends fit; beyond either the refusal gives the range, and so it does for NaN."""
    assert parameter.minimum is not None and parameter.maximum is not None
    whole = isinstance(parameter.default, int)
    low = int(parameter.minimum) if whole else parameter.minimum
    high = int(parameter.maximum) if whole else parameter.maximum
    for value in (low, high):
        assert check_value(parameter, value) is None
    beyond = [low - 1, high + 1] + ([] if whole else [math.nan, math.inf, -math.inf])
    for value in beyond:
        said = check_value(parameter, value)
        assert said is not None and parameter.name in said
        assert f"{parameter.minimum:g} to {parameter.maximum:g}" in said


@pytest.mark.parametrize(
    ("values", "said"),
    (
        ({"path_frame": "map"}, "path_frame is 'map', wanted one of odometry, base"),
        ({"resize_policy": "zoom"}, "resize_policy is 'zoom', wanted one of"),
        ({"decode_threads": 2.0}, "decode_threads is 2.0, wanted a whole number"),
        ({"autostart": "true"}, "autostart is 'true', wanted true or false"),
        ({"odometry_wait_ms": True}, "odometry_wait_ms is True, wanted a number"),
        ({"camera_names": ["front"], "camera_topics": ["/f"]}, "camera_names has 'front'; known"),
        ({"camera_names": []}, "camera_names is empty"),
        ({"camera_names": ["front_wide"]}, "camera_names has 1 entries, camera_topics 4"),
        ({"camera_names": ["front_wide"] * 4}, "camera_names has front_wide more than once"),
        ({"camera_topics": ["/a", "/b", "/a", "/c"]}, "camera_topics has /a more than once"),
        ({"camera_topics": ["/a", "/b", "", "/c"]}, "camera_topics has an empty entry"),
        ({"image_transports": ["raw", "auto"]}, "image_transports has 2 entries, wanted 1 or 4"),
        ({"image_transports": ["h264"]}, "image_transports has 'h264', wanted auto"),
        ({"camera_stamp_offsets_ms": []}, "camera_stamp_offsets_ms has 0 entries, wanted 1 or 4"),
        ({"camera_stamp_offsets_ms": [math.nan]}, "offsets_ms is [nan], wanted finite"),
        ({"camera_stamp_offsets_ms": [math.inf]}, "offsets_ms is [inf], wanted finite"),
        ({"camera_stamp_offsets_ms": [60_001]}, "camera_stamp_offsets_ms has 60001, wanted -60000"),
        ({"camera_stamp_offsets_ms": ["5"]}, "offsets_ms is ['5'], wanted a list of num"),
        ({"odometry_topic": ""}, "odometry_topic is empty"),
        ({"rig_frame": ""}, "rig_frame is empty"),
        ({"odometry_wait_ms": 160.0}, "odometry_wait_ms (160) is above tick_deadline_ms (150)"),
        ({"isolation": "thread", "plan_timeout_s": 2.0}, "plan_timeout_s is 2 with isolation th"),
        ({"isolation": "thread", "load_timeout_s": 60}, "load_timeout_s is 60 with isolation th"),
        ({"odometry_child_from_rig": [1.0, 2.0]}, "child_from_rig is [1.0, 2.0], wanted 7"),
        ({"odometry_child_from_rig": [0.0] * 7}, "a unit quaternion"),
        ({"odometry_child_from_rig": [math.nan, 0, 0, 0, 0, 0, 1]}, "wanted finite numbers"),
        ({"model_options": ["seed"]}, "model_options has 'seed': wanted key=value"),
        ({"model_options": ["a=1", " = 2"]}, "model_options has ' = 2': wanted key=value"),
        ({"model_options": ["a=[1"]}, "model_options has 'a=[1': the value is not YAML"),
        ({"model_options": ["a=" + "[" * 9999]}, "the value is not YAML"),
        ({"model_options": ["a=2001-99-99"]}, "the value is not YAML"),
        ({"frame_tolerance": 50.0}, "frame_tolerance is no parameter of the planner"),
    ),
)  # fmt: skip
def test_each_bad_value_is_named(values: dict[str, Any], said: str) -> None:
    """One bad value, one line that names it, what it is and what is wanted."""
    assert any(said in line for line in problems(values))


def test_several_at_once() -> None:
    """A round of "fix one, restart" costs minutes at the vehicle: all are told."""
    said = problems(
        {"frame_tolerance_ms": 0.0, "path_frame": "up", "decode_threads": 99, "speed": 3}
    )
    assert len(said) == 4
    for name in ("frame_tolerance_ms", "path_frame", "decode_threads", "speed"):
        assert sum(name in line for line in said) == 1
    together = problems({"rig_frame": "", "camera_names": ["nose"], "image_transports": ["x"]})
    assert len(together) == 4  # and the counts of names and topics differ


def test_whole_numbers_will_do_for_floats() -> None:
    """YAML's 40 is 40.0."""
    settings = settings_from({"frame_tolerance_ms": 40, "navigation_timeout_s": 5})
    assert settings.pipeline.limits.frame_tolerance_ns == 40_000_000
    assert settings.navigation_timeout_s == 5.0
    assert isinstance(settings.navigation_timeout_s, float)


def test_units_and_lists() -> None:
    """Milliseconds become nanoseconds, one entry serves all cameras, and each keeps its own."""
    settings = settings_from(
        {
            "camera_stamp_offsets_ms": [0.0, -37_000.0, 1.5, 0.25],
            "image_transports": ["raw"],
            "odometry_stamp_offset_ms": -37_000,
            "odometry_child_from_rig": [1, 2, 3, 0, 0, 0, 1],
            "path_frame": "base",
        }
    )
    assert [c.stamp_offset_ns for c in settings.cameras] == [0, -37 * 10**9, 1_500_000, 250_000]
    assert {c.transport for c in settings.cameras} == {"raw"}
    assert settings.odometry_stamp_offset_ns == -37 * 10**9
    assert settings.odometry_child_from_rig is not None
    np.testing.assert_array_equal(settings.odometry_child_from_rig.translation_m, [1, 2, 3])
    assert not settings.path_in_odometry


def test_model_options() -> None:
    """Values as YAML has them, "=" in a value too; of a key given twice the last counts."""
    given = ["seed=7", "dtype=bfloat16", "steps=[1, 2]", " a.b = {c: x=y}", "none=", "seed=8"]
    assert settings_from({"model_options": given}).model_options == {
        "seed": 8,
        "dtype": "bfloat16",
        "steps": [1, 2],
        "a.b": {"c": "x=y"},
        "none": None,
    }


words = st.sampled_from(("", "base", "raw", "front_wide", "/odom", "nan", "50", "a=&b [*b]"))
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(words, inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), json_like, max_size=4))
def test_no_value_raises_anything_else(values: dict[str, Any]) -> None:
    """Whatever a YAML file holds, it is settings or a SettingsError."""
    try:
        settings_from(values)
    except SettingsError as error:
        assert str(error)


def test_names_are_unique_and_explained() -> None:
    """The table is the README's and the descriptors'."""
    assert len(BY_NAME) == len(PARAMETERS)
    assert all(p.meaning for p in PARAMETERS)
    assert all(check_value(p, p.default) is None for p in PARAMETERS)


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head", ("/**:", "/planner:", "planner:", "/**/planner:", "/fleet:\n  planner:")
)
def test_a_ros_parameter_file(head: str, tmp_path: Path) -> None:
    """Under wildcards, a node's name, or a namespace above it; rclpy's own entries are left out."""
    indent = "  " * (head.count("\n") + 1)
    path = tmp_path / "p.yaml"
    path.write_text(
        f"{head}\n{indent}ros__parameters:\n{indent}  use_sim_time: true\n"
        f"{indent}  path_frame: base\n{indent}  qos_overrides./odom.subscription.depth: 5\n"
    )
    assert read_parameter_file(path) == {"path_frame": "base"}


def test_later_entries_win(tmp_path: Path) -> None:
    """As in ROS: the general one first, the particular one after it."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    path_frame: odometry\n    rig_frame: rear\n"
        "/planner:\n  ros__parameters:\n    path_frame: base\n"
    )
    assert read_parameter_file(path) == {"path_frame": "base", "rig_frame": "rear"}


@pytest.mark.parametrize(
    ("content", "said"),
    (
        (b"path_frame: base\n", "no `ros__parameters:`"),
        (b"", "no `ros__parameters:`"),
        (b"- 1\n- 2\n", "no `ros__parameters:`"),
        (b"a: [1,\n", "parameter file"),
        (b"\xff\xfe\x00", "parameter file"),
        (None, "No such file"),
    ),
)
def test_a_file_that_is_none(content: bytes | None, said: str, tmp_path: Path) -> None:
    """The refusal names the file and what is wrong."""
    path = tmp_path / "p.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as error:
        read_parameter_file(path)
    assert str(path) in str(error.value)
