"""A trained student to a folder that a vehicle runs: graphs or engines, manifest, losses."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alpamayo_ros.deployment import calibration, quantise
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.spec import GRAPHS, OPSET, StudentSpec
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import UserError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.runtime.tensorrt_build import sidecar_path

if TYPE_CHECKING:
    from alpamayo_ros.parameters import PlannerSettings

Say = Callable[[str], None]
MANIFEST = "manifest.yaml"
FP8 = (
    "fp8 needs float8 in QuantizeLinear, which ONNX has from opset 19 on; graphs are written in "
    f"opset {OPSET}, the one that both runtimes are known to take: use --precision int8, or fp16"
)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to make of a student."""

    to: str  # "onnx" or "tensorrt"
    precision: str  # of spec.PRECISIONS
    out: Path
    bags: tuple[Path, ...] = ()  # for int8's ranges, and to measure what a precision costs
    samples: int = 500
    target: str | None = None  # compute capability, as "sm89"; None: this machine's GPU
    tensorrt: str | None = None
    build: bool = True  # False: the engine is built at configure, on the vehicle
    weights: bool = False  # PyTorch's weights too, so that the folder is all there is of a model


@dataclass(slots=True)
class Exported:
    """What was written and measured."""

    manifest: Path
    files: list[Path]
    errors: dict[str, float]  # fp32 graphs against PyTorch
    accuracy: dict[str, Any] | None  # as `calibration.accuracy`; None: fp32, or no recording
    quantised: dict[str, int] = field(default_factory=dict)  # layers by graph
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)  # sidecars by graph


def export(
    manifest: Manifest,
    request: ExportRequest,
    settings: PlannerSettings | None = None,
    say: Say = lambda _line: None,
    done: Callable[[float], None] = lambda share: None,
) -> Exported:
    """Write `request.out`. Raises UserError and ModelError before anything is put there.

    `settings` say how recordings are read; needed with `request.bags`.
    """
    check_request(request)
    from alpamayo_ros.deployment.graphs import require_onnx, write_graphs
    from alpamayo_ros.deployment.torch_runtime import load_student

    require_onnx()
    options = StudentOptions.from_manifest(manifest.with_options({"runtime": "torch"}))
    student, spec = load_student(manifest, options)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.out.parent, prefix=".export.") as folder:
        draft, plain = Path(folder) / "out", Path(folder) / "fp32"
        draft.mkdir()
        plain.mkdir()
        errors = write_graphs(student, spec, plain, say)
        exported = Exported(request.out / MANIFEST, [], errors, None)
        final = dataclasses.replace(spec, precision=request.precision)
        _at_precision(request, final, plain, draft, settings, exported, say, done)
        files = {graph: draft / f"{graph}.onnx" for graph in GRAPHS}
        if request.to == "tensorrt" and request.build:
            files = _engines(request, files, exported, say)
        written = _write_manifest(manifest, request, files, draft)
        request.out.mkdir(parents=True, exist_ok=True)
        for path in written:
            shutil.move(path, request.out / path.name)
            exported.files.append(request.out / path.name)
    return exported


def check_request(request: ExportRequest) -> None:
    """Raises UserError for what cannot be had, with what can."""
    if request.precision == "fp8":
        raise UserError(FP8)
    if request.precision == "int8" and not request.bags:
        raise UserError(
            "int8 needs --calibration BAG: the ranges of its numbers come from a recording"
        )
    if request.to == "onnx" and (request.target or request.tensorrt or not request.build):
        raise UserError("--target, --tensorrt and --no-build are for --to tensorrt")
    if request.target and not request.build:
        raise UserError("--no-build leaves the engine to the vehicle: leave --target out")
    if request.samples < 1:
        raise UserError(f"--samples is {request.samples}, wanted 1 or more")
    if request.out.exists() and not request.out.is_dir():
        raise UserError(f"--out {request.out} is a file; name a folder")


def _at_precision(
    request: ExportRequest,
    spec: StudentSpec,
    plain: Path,
    draft: Path,
    settings: PlannerSettings | None,
    exported: Exported,
    say: Say,
    done: Callable[[float], None],
) -> None:
    """The fp32 graphs in `plain` to the wanted precision in `draft`, and what that costs."""
    if request.precision == "fp32":
        for graph in GRAPHS:
            shutil.copy(plain / f"{graph}.onnx", draft / f"{graph}.onnx")
        return
    reference = _planner(plain)

    def chosen(what: str) -> Iterator[calibration.Instant]:
        assert settings is not None
        say(what)
        return calibration.instants(request.bags, settings, request.samples, done)

    if request.precision == "fp16":
        for graph in GRAPHS:
            quantise.to_fp16(plain / f"{graph}.onnx", draft / f"{graph}.onnx", graph, spec)
    else:
        feeds = calibration.collect(reference, chosen("reading the calibration's instants"))
        reference.cache.clear()
        for graph, given in (("encoder", feeds.encoder), ("policy", feeds.policy)):
            say(f"quantising the {graph} by {len(given)} instants")
            exported.quantised[graph] = quantise.to_int8(
                plain / f"{graph}.onnx", draft / f"{graph}.onnx", graph, spec, given,
                request.to == "tensorrt",
            )  # fmt: skip
    if request.bags:
        planners = reference, _planner(draft)
        exported.accuracy = calibration.accuracy(*planners, chosen("measuring what it costs"))


def _planner(folder: Path) -> StudentPlanner:
    """Both graphs of a folder on ONNX Runtime's CPU."""
    from alpamayo_ros.deployment.onnx_runtime import OnnxRuntime

    return StudentPlanner(
        OnnxRuntime(StudentOptions(encoder=folder / "encoder.onnx", policy=folder / "policy.onnx"))
    )


def _engines(
    request: ExportRequest, graphs: dict[str, Path], exported: Exported, say: Say
) -> dict[str, Path]:
    """Engines in the output folder, kept between exports where all they depend on is the same."""
    from alpamayo_ros.deployment.engines import build_engines

    say(f"building engines for {request.target or 'the GPU of this machine'}")
    built = build_engines(request.out, graphs, request.precision, request.target, request.tensorrt)
    for graph, one in built.items():
        exported.engines[graph] = {**one.sidecar, "reused": one.reused}
        exported.files += [one.engine, sidecar_path(one.engine)]
        left = one.sidecar["onnx_nodes_without_layer"]
        if left:
            say(f"note: {len(left)} nodes of the {graph} have no layer of their own: {left[:5]}")
    return {graph: one.engine for graph, one in built.items()}


def _write_manifest(
    manifest: Manifest, request: ExportRequest, files: dict[str, Path], draft: Path
) -> list[Path]:
    """The manifest beside the graphs; every file in `draft` that belongs to the export.

    ONNX files stay beside engines: an engine is of one GPU and one TensorRT, and is built again of
    them elsewhere.
    """
    runtime = "tensorrt" if request.to == "tensorrt" else "onnxruntime"
    graphs = {graph: draft / f"{graph}.onnx" for graph in GRAPHS}
    others, for_torch = _weights(manifest, draft) if request.weights else ([], {})
    listed = {*files.values(), *graphs.values(), *others}
    hashed = {path.name: file_sha256(path) for path in listed}
    options: dict[str, Any] = {
        "runtime": runtime,
        "precision": request.precision,
        "encoder": files["encoder"].name,
        "policy": files["policy"].name,
        **for_torch,
        "sha256": dict(sorted(hashed.items())),
    }
    if runtime == "tensorrt":
        options["engines"] = "."
    content = {
        "name": manifest.name,
        "backend": "student",
        "licence": manifest.licence,
        "cameras": {
            "minimum": manifest.cameras.minimum,
            "maximum": manifest.cameras.maximum,
            "allowed": list(manifest.cameras.allowed),
        },
        "takes_navigation": manifest.takes_navigation,
        "note": manifest.note,
        "options": options,
    }
    path = draft / MANIFEST
    path.write_text(
        f"# Written by `alpamayo export --to {request.to} --precision {request.precision}`.\n"
        + yaml.safe_dump(content, sort_keys=False, width=100)
    )
    return [*graphs.values(), *others, path]


def _weights(manifest: Manifest, draft: Path) -> tuple[list[Path], dict[str, Any]]:
    """A copy of the safetensors, and the options with which runtime torch reads it."""
    options = StudentOptions.from_manifest(manifest)
    assert options.weights is not None  # the student was loaded from it
    copy = draft / options.weights.name
    shutil.copyfile(options.weights, copy)
    return [copy], {"weights": copy.name, "architecture": dict(options.architecture)}
