"""Files that parameters may name while the node runs: below the roots, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros.file_roots import NAMING_FILES, ROOTS, FileRoots
from alpamayo_ros.parameter_table import BY_NAME
from alpamayo_ros.resources import resource

DEFAULTS = {name: parameter.default for name, parameter in BY_NAME.items()}
START = {
    "model": "/data/models/mine.yaml",
    "model_options": ["checkpoint=/weights/release", "seed=3"],
    "chain_of_causation": "/tables/own.yaml",
    "rig_views": "/rigs/mine.yaml",
    "file_roots": ["/more"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "kinematic"),
        ("model", str(resource("models") / "kinematic.yaml")),
        ("model", "/data/models/other.yaml"),
        ("model", "/more/deep/down/other.yaml"),
        ("model_options", ["checkpoint=weights", "expert_model=/weights/x.onnx", "dtype=float32"]),
        ("model_options", ["checkpoint=/more/release", "sha256={a.safetensors: 0f}", "malformed"]),
        ("chain_of_causation", ""),
        ("chain_of_causation", "/tables/other.yaml"),
        ("rig_views", "world"),
        ("rig_views", str(resource("config") / "views" / "world.yaml")),
        ("rig_views", "/rigs/other.yaml"),
        ("rig_frame", "/etc/passwd"),  # names no file
    ],
)
def test_below_the_roots(name: str, value: object) -> None:
    """The package's, those of the files named at the start, and the parameter's."""
    assert FileRoots(START).refusal(name, value, str(START["model"])) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "/etc/passwd"),
        ("model", "/data/models/../../etc/model.yaml"),
        ("model", "~/model.yaml"),
        ("model", "/data/modelsextra/other.yaml"),
        ("model_options", ["checkpoint=/etc"]),
        ("model_options", ["checkpoint=../../etc"]),
        ("model_options", ["checkpoint=.."]),
        ("model_options", ["nested={a: [/etc/shadow]}"]),
        ("model_options", ["checkpoint=~root/x"]),
        ("chain_of_causation", "/etc/hosts"),
        ("rig_views", "/etc/views.yaml"),
        ("rig_views", "views/../../../etc/views.yml"),
        ("file_roots", ["/"]),
    ],
)
def test_elsewhere(name: str, value: object) -> None:
    """Refused, with the parameter and the remedy."""
    refusal = FileRoots(START).refusal(name, value, str(START["model"]))
    assert name in refusal and ("file_roots" in refusal)


def test_a_bad_path_at_the_start_ends_nothing() -> None:
    """It is refused at configure, which can be put right."""
    roots = FileRoots({**DEFAULTS, "model": "/a\0/b.yaml", "file_roots": ["~no_such_user/x"]})
    assert roots.refusal("model", "kinematic", "kinematic") == ""


def test_links_are_followed(tmp_path: Path) -> None:
    """A link below a root that leads out of it is out."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("/etc")
    roots = FileRoots({**DEFAULTS, "file_roots": [str(tmp_path / "inside")]})
    assert roots.refusal("model", str(tmp_path / "inside" / "model.yaml"), "kinematic") == ""
    assert roots.refusal("model", str(tmp_path / "inside" / "link" / "model.yaml"), "kinematic")


def test_every_file_parameter_is_held() -> None:
    """Those whose meaning speaks of a file, a manifest or a table, but for what is in it."""
    words = re.compile(r"\b(files?|manifest|table)\b")
    named = {name for name, parameter in BY_NAME.items() if words.search(parameter.meaning)}
    assert named - {"backend", "vehicle_profile", ROOTS} == set(NAMING_FILES)
    assert set(NAMING_FILES) >= {"model", "model_options", "chain_of_causation", "rig_views"}


@given(st.sampled_from(NAMING_FILES), st.text(max_size=30))
def test_absolute_paths_without_roots(name: str, text: str) -> None:
    """No text leads out of the package's own folders to the root of the machine's."""
    value = [f"a='{text}'"] if name == "model_options" else f"/etc/{text}"
    refusal = FileRoots(DEFAULTS).refusal(name, value, "kinematic")
    if name != "model_options":
        assert refusal
