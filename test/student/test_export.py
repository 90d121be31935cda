"""Exported students against PyTorch: graphs, what they say of themselves, int8, engines."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from student import exported as small

from alpamayo_ros import cli
from alpamayo_ros.deployment import calibration, engines, quantise
from alpamayo_ros.deployment.calibration import Instant
from alpamayo_ros.deployment.engines import build_engines
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.runtimes import check_files, open_runtime
from alpamayo_ros.deployment.spec import GRAPHS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import load_manifest

NORMALISED, METRES = 1e-4, 5e-3  # the bars of PyTorch against fp32
INT8_ADE = 0.02
TARGETS = ("sm80", "sm86", "sm89", "sm120")
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs TensorRT for RTX: pip install tensorrt-rtx-cu13",
)


def planner(manifest: Path, **options: Any) -> StudentPlanner:
    """A loaded student."""
    chosen = small.manifest_of(manifest, **options)
    return StudentPlanner(open_runtime(chosen, StudentOptions.from_manifest(chosen)))


def export(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """`alpamayo export … --json -`."""
    code = cli.main(["export", *arguments, "--json", "-"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it says, with exit code 2."""
    assert cli.main(["export", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("torch", "onnx"), [("torch", "onnxruntime"), ("flow_torch", "flow")])
def test_onnx_runtime_gives_pytorchs_plans(
    manifests: dict[str, Path], torch: str, onnx: str
) -> None:
    """Within 1e-4 in normalised action and 5 mm, over a drive; either head."""
    reference, exported = planner(manifests[torch]), planner(manifests[onnx])
    for sample in small.drive(6):
        one, two = reference.plan(sample), exported.plan(sample)
        assert np.abs(one.normalised - two.normalised).max() <= NORMALISED
        assert np.abs(one.xyz_in_rig_t0 - two.xyz_in_rig_t0).max() <= METRES


def test_the_files_say_whose_they_are(manifests: dict[str, Path]) -> None:
    """Licence, name, preparation and sha256 in ONNX's metadata; opset 18; static shapes."""
    import onnx

    weights = small.file_sha256(manifests["flow_torch"].parent / "student.safetensors")
    for graph in GRAPHS:
        model = onnx.load(manifests["flow"].parent / f"{graph}.onnx")
        said = {entry.key: entry.value for entry in model.metadata_props}
        assert said["alpamayo.licence"] == small.LICENCE
        assert said["alpamayo.model"] == "tiny_flow"
        assert said["alpamayo.source_sha256"] == weights
        config = json.loads(said["alpamayo.config"])
        assert config["input_size"] == [64, 112] and config["pixel_mean"] and config["cameras"]
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        for value in (*model.graph.input, *model.graph.output):
            sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
            assert all(size > 0 for size in sizes), value.name
        kinds = {node.op_type for node in model.graph.node}
        assert not kinds & {"Loop", "If", "Scan", "RandomNormalLike"}
    assert load_manifest(str(manifests["flow"])).licence == small.LICENCE


def instants() -> list[Instant]:
    """A drive with where the vehicle then went."""
    return [Instant(sample, small.true_future(sample)) for sample in small.drive(16)]


def quantised(manifest: Path, out: Path, chosen: list[Instant], for_tensorrt: bool) -> None:
    """Both graphs of an fp32 export in int8."""
    plain = planner(manifest, threads=1)
    feeds = calibration.collect(plain, iter(chosen))
    spec = dataclasses.replace(plain.runtime.spec, precision="int8")
    for graph, given in (("encoder", feeds.encoder), ("policy", feeds.policy)):
        source = manifest.parent / f"{graph}.onnx"
        count = quantise.to_int8(source, out / f"{graph}.onnx", graph, spec, given, for_tensorrt)
        assert count >= 8


@pytest.fixture(scope="session")
def int8(manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both graphs of the regression student, symmetric as TensorRT takes them."""
    folder = tmp_path_factory.mktemp("int8")
    quantised(manifests["onnxruntime"], folder, instants(), for_tensorrt=True)
    return folder


@pytest.mark.parametrize("for_tensorrt", [False, True])
def test_int8_costs_little(
    manifests: dict[str, Path], int8: Path, tmp_path: Path, for_tensorrt: bool
) -> None:
    """The ADE changes by at most 2 %, either kind of int8, and its numbers are int8's."""
    chosen = instants()
    folder = int8 if for_tensorrt else tmp_path
    if not for_tensorrt:
        quantised(manifests["onnxruntime"], folder, chosen, for_tensorrt)
    for graph in GRAPHS:
        _check_int8(folder / f"{graph}.onnx", for_tensorrt)
    hashes = {f"{graph}.onnx": small.file_sha256(folder / f"{graph}.onnx") for graph in GRAPHS}
    files = {graph: str(folder / f"{graph}.onnx") for graph in GRAPHS}
    rounded = planner(manifests["onnxruntime"], **files, sha256=hashes, precision="int8", threads=1)
    plain = planner(manifests["onnxruntime"], threads=1)
    result = calibration.accuracy(plain, rounded, iter(chosen))
    print({"for_tensorrt": for_tensorrt, **result})
    assert result["scored"] == len(chosen)
    assert 0 < result["from_fp32_mean_m"] < 0.2
    assert abs(result["ade_change"]) <= INT8_ADE


def _check_int8(path: Path, for_tensorrt: bool) -> None:
    """Signed and symmetric for TensorRT; for ONNX Runtime unsigned, with weights of 7 bits."""
    import onnx

    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["alpamayo.precision"] == "int8" and said["alpamayo.licence"] == small.LICENCE
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    points = [array for name, array in arrays.items() if name.endswith("_zero_point")]
    kinds = {point.dtype.name for point in points}
    if for_tensorrt:
        assert kinds == {"int8"} and not any(point.any() for point in points)
        return
    assert "uint8" in kinds
    weights = [a for n, a in arrays.items() if n.endswith("_quantized") and a.dtype == np.int8]
    # What a CPU without VNNI adds without saturation.
    assert weights and max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


@pytest.mark.usefixtures("graphs_kept")
def test_int8_and_fp16_by_the_command(
    manifests: dict[str, Path], calibration_bag: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Calibrated on a recording, measured on it, loaded by the backend; the licence goes along."""
    for precision in ("int8", "fp16"):
        out = tmp_path / precision
        result = export(
            capsys, str(manifests["torch"]), "--to", "onnx", "--precision", precision,
            "--calibration", str(calibration_bag), "--samples", "6", "--out", str(out),
        )  # fmt: skip
        accuracy = result["accuracy"]
        assert accuracy["instants"] in (5, 6) and accuracy["from_fp32_mean_m"] > 0
        assert result["licence"] == small.LICENCE
        student = planner(out / "manifest.yaml")
        assert student.runtime.spec.precision == precision
        assert np.isfinite(student.plan(small.sample(small.START_NS)).xyz_in_rig_t0).all()


@needs_rtx
@pytest.mark.usefixtures("graphs_kept")
def test_engines_for_gpus_that_are_not_here(
    manifests: dict[str, Path], int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT for RTX builds both graphs for four GPUs in fp16 and int8 and takes every node;
    nothing is run."""
    graphs = {}
    for graph in GRAPHS:
        graphs["fp16", graph] = tmp_path / f"{graph}.fp16.onnx"
        source = manifests["flow"].parent / f"{graph}.onnx"
        spec = planner(manifests["flow"]).runtime.spec
        quantise.to_fp16(source, graphs["fp16", graph], graph, spec)
        graphs["int8", graph] = int8 / f"{graph}.onnx"
    for target in TARGETS:
        for precision in ("fp16", "int8"):
            chosen = {graph: graphs[precision, graph] for graph in GRAPHS}
            built = build_engines(tmp_path, chosen, precision, target, "tensorrt_rtx")
            for graph, one in built.items():
                assert one.sidecar["gpu"] == target and one.engine.stat().st_size > 0
                assert one.sidecar["onnx_nodes_without_layer"] == [], (target, precision, graph)
                assert one.sidecar["metadata"]["alpamayo.licence"] == small.LICENCE
    assert len(list(tmp_path.glob("*.engine"))) == len(TARGETS) * len(graphs)


@needs_rtx
@pytest.mark.usefixtures("graphs_kept")
def test_an_engine_is_built_once(
    manifests: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with a manifest that names it; the same again reuses it, another GPU's or
    another precision's is another file."""

    def made(*arguments: str) -> dict[str, Any]:
        return export(
            capsys, str(manifests["flow_torch"]), "--to", "tensorrt", "--tensorrt", "tensorrt_rtx",
            "--out", str(tmp_path), *arguments,
        )  # fmt: skip

    first = made("--target", "sm89", "--precision", "fp16")
    assert not any(first["engines"][graph]["reused"] for graph in GRAPHS)
    manifest = load_manifest(str(tmp_path / "manifest.yaml"))
    assert manifest.licence == small.LICENCE and manifest.options["runtime"] == "tensorrt"
    options = StudentOptions.from_manifest(manifest)
    assert options.encoder is not None and options.encoder.suffix == ".engine"
    check_files(manifest, options)
    again = made("--target", "sm89", "--precision", "fp16")
    assert all(again["engines"][graph]["reused"] for graph in GRAPHS)
    other = made("--target", "sm120", "--precision", "fp16")
    assert not any(other["engines"][graph]["reused"] for graph in GRAPHS)
    assert len(list(tmp_path.glob("*.engine"))) == 2 * len(GRAPHS)


def test_a_damaged_sidecar_is_built_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short in its writing, or of another engine: built again, not an error at every
    configure; what is whole is taken as it is, and no draft stays."""
    from alpamayo_ros.runtime import tensorrt_build

    def in_subprocess(request: tensorrt_build.BuildRequest, module: str, draft: Path) -> Any:
        draft.write_bytes(b"engine")
        return {"metadata": {}}

    stand_in = types.SimpleNamespace(__name__="tensorrt_rtx", __version__="1")
    monkeypatch.setattr(tensorrt_build, "find_module", lambda name=None: stand_in)
    monkeypatch.setattr(engines, "find_module", lambda name=None: stand_in)
    monkeypatch.setattr(tensorrt_build, "_in_subprocess", in_subprocess)
    graphs = {graph: tmp_path / f"{graph}.onnx" for graph in GRAPHS}
    for path in graphs.values():
        path.write_bytes(path.name.encode())

    def reused() -> list[bool]:
        built = build_engines(tmp_path / "kept", graphs, "fp16", "sm89", "tensorrt_rtx")
        for one in built.values():
            assert tensorrt_build.read_sidecar(one.engine) == one.sidecar
        return [one.reused for one in built.values()]

    assert reused() == [False, False] and reused() == [True, True]
    sidecar, other = sorted((tmp_path / "kept").glob("*.json"))
    sidecar.write_text(sidecar.read_text()[:40])
    other.write_text(other.read_text().replace('"engine_sha256": "', '"engine_sha256": "0'))
    assert reused() == [False, False] and reused() == [True, True]
    assert len(list((tmp_path / "kept").iterdir())) == 4


@pytest.mark.usefixtures("graphs_kept")
def test_an_engine_left_to_the_vehicle(
    manifests: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest names the ONNX files, which runtime tensorrt builds of at configure."""
    export(capsys, str(manifests["torch"]), "--to", "tensorrt", "--no-build",
           "--out", str(tmp_path))  # fmt: skip
    options = StudentOptions.from_manifest(load_manifest(str(tmp_path / "manifest.yaml")))
    assert options.runtime == "tensorrt" and options.engines is not None
    assert options.encoder is not None and options.encoder.suffix == ".onnx"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "int8"], "int8 needs --calibration"),
        (["--precision", "fp8"], "use --precision int8"),
        (["--target", "sm89"], "are for --to tensorrt"),
        (["--samples", "0"], "--samples is 0"),
    ],
)
def test_what_cannot_be_exported(
    manifests: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    """Said before anything is made, with what can be."""
    out = tmp_path / "out"
    model = str(manifests["torch"])
    assert said in refusal(capsys, model, "--to", "onnx", "--out", str(out), *arguments)
    assert not out.exists()


def test_only_a_student_with_weights_is_exported(
    manifests: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another backend, and an export of an export."""
    rest = ["--to", "onnx", "--out", str(tmp_path / "out")]
    assert "is of backend kinematic" in refusal(capsys, "kinematic", *rest)
    assert "runtime torch needs option weights" in refusal(
        capsys, str(manifests["onnxruntime"]), *rest
    )


@pytest.mark.usefixtures("graphs_kept")
def test_an_export_that_does_not_agree_is_not_left_behind(
    manifests: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with PyTorch comes before the files are put in place."""
    from alpamayo_ros.deployment import graphs

    monkeypatch.setattr(graphs, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="differ by .*: it is not written"):
        small.export_onnx(manifests["torch"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())


def test_bench_model_with_its_layers(
    manifests: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Percentiles of each stage, and the layers of both graphs; figures are not judged here."""
    assert cli.main(["bench", "model", str(manifests["onnxruntime"]), "--repeats", "5",
                     "--profile", "--option", "threads=1", "--json", "-"]) == 0  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert result["stages_ms"]["total"]["count"] == 5
    assert {"Conv"} <= {layer["kind"] for layer in result["layers"]["encoder"]}
    assert all(layer["ms"] >= 0 for layer in result["layers"]["policy"])
    assert "1 threads" in result["runtime"]
    assert cli.main(["bench", "model", str(manifests["onnxruntime"]), "--repeats", "1",
                     "--profile", "--option", "threads=1"]) == 0  # fmt: skip
    assert "encoder, by layer" in capsys.readouterr().out
