"""The student in models/: whole, the same on every runtime, small, and able to drive a road."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from student import exported as small

from alpamayo_ros import cli
from alpamayo_ros.deployment.engines import build_engines
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.runtimes import open_runtime
from alpamayo_ros.deployment.spec import GRAPHS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import load_manifest

NAME = "student_light"
TARGETS = ("sm80", "sm86", "sm89", "sm120")
LARGEST_BYTES = 20_000_000
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: make setup installs it")
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs TensorRT for RTX: pip install tensorrt-rtx-cu13",
)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="needs torch and timm: make test installs it"
)


def planner(**options: object) -> StudentPlanner:
    manifest = load_manifest(NAME).with_options(options)
    return StudentPlanner(open_runtime(manifest, StudentOptions.from_manifest(manifest)))


def test_it_is_small_and_free() -> None:
    manifest = load_manifest(NAME)
    files = list(manifest.path.parent.iterdir())
    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES
    names = {file.name for file in files}
    assert {"encoder.onnx", "policy.onnx", "student.safetensors", "README.md"} <= names
    assert manifest.licence == "Apache-2.0" and "Not for public roads" in manifest.note


@needs_torch
def test_pytorch_gives_the_same_plans() -> None:
    """Its trained weights: 1e-4 in normalised action, 5 mm in waypoints."""
    reference, shipped = planner(runtime="torch"), planner()
    for sample in small.drive(5):
        one, two = reference.plan(sample), shipped.plan(sample)
        assert np.abs(one.normalised - two.normalised).max() <= 1e-4
        assert np.abs(one.xyz_in_rig_t0 - two.xyz_in_rig_t0).max() <= 5e-3


def test_an_edited_architecture_is_refused(tmp_path: Path) -> None:
    """Its own runtimes would plan differently."""
    shutil.copytree(load_manifest(NAME).path.parent, tmp_path / "edited")
    path = tmp_path / "edited" / "manifest.yaml"
    path.write_text(path.read_text().replace("smooth: 5", "smooth: 9"))
    manifest = load_manifest(str(path))
    with pytest.raises(ModelError, match="architecture is not the one that the graphs"):
        open_runtime(manifest, StudentOptions.from_manifest(manifest))


def test_it_drives_and_it_looks(tmp_path: Path) -> None:
    """A bend that no training saw: in its lane with eyes, off the road without."""
    cleans = []
    for more in ([], ["--black-cameras"]):
        report = tmp_path / "report.json"
        arguments = ["--model", NAME, "--scenarios", "free", "--seeds", "1", "--seconds", "12"]
        cli.main(
            ["world", "drive", *arguments, "--out", str(tmp_path), "--json", str(report), *more]
        )
        cleans.append(json.loads(report.read_text())["drives"][0]["clean"])
    assert cleans == [True, False]


@needs_rtx
@pytest.mark.parametrize("target", TARGETS)
def test_engines_take_every_layer(target: str, tmp_path: Path) -> None:
    """TensorRT for RTX builds both graphs without the GPU; nothing is run."""
    options = StudentOptions.from_manifest(load_manifest(NAME))
    assert options.encoder is not None and options.policy is not None
    graphs = {"encoder": options.encoder, "policy": options.policy}
    built = build_engines(tmp_path, graphs, "fp32", target, "tensorrt_rtx")
    assert set(built) == set(GRAPHS)
    for one in built.values():
        assert one.sidecar["gpu"] == target and one.sidecar["onnx_nodes_without_layer"] == []
