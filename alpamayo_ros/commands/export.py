"""A trained student for the vehicle: ONNX files or TensorRT engines, with a manifest beside them.

Writes encoder.onnx (the newest frame of all cameras) and policy.onnx (the features of four frames),
compared with PyTorch, and manifest.yaml; with --to tensorrt also an engine of each. int8 takes its
ranges from recordings; int8 and fp16 report what they cost in ADE where a recording is given.

examples:
  alpamayo export student/manifest.yaml --to onnx --out exported
  alpamayo export student/manifest.yaml --to onnx --precision int8 --calibration drive --out int8
  alpamayo export student/manifest.yaml --to tensorrt --precision fp16 --target sm89 --out sm89
  alpamayo export student/manifest.yaml --to tensorrt --no-build --out vehicle
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.deployment.spec import PRECISIONS
from alpamayo_ros.errors import UserError

if TYPE_CHECKING:
    from alpamayo_ros.deployment.exporting import Exported
    from alpamayo_ros.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which student, to what, and where to."""
    parser.add_argument("model", metavar="MODEL", help="a student's name, or its manifest")
    parser.add_argument("--to", choices=("onnx", "tensorrt"), required=True)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default fp32")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("--calibration", {"type": Path, "action": "append", "default": [], "metavar": "BAG"},
         "a recording; may be given repeatedly"),
        ("--samples", {"type": int, "default": 500, "metavar": "N"},
         "instants of them in all (default 500)"),
        ("--max-ade-change", {"type": float, "metavar": "SHARE"},
         "exit code 1 where the ADE rises by more than SHARE, such as 0.02"),
        ("--params", {"type": Path, "metavar": "FILE"},
         "a ROS parameter file that says how the recordings are read"),
        ("--tensorrt", {"choices": ("tensorrt", "tensorrt_rtx")},
         "which TensorRT; default: the first that is installed"),
        ("--target", {"metavar": "SM"},
         "build for compute capability SM (sm89) without its GPU; TensorRT for RTX only"),
        ("--with-weights", {"action": "store_true"},
         "keep the safetensors too: runtime torch by option, and further exports"),
        ("--no-build", {"action": "store_true"},
         "leave the engine to the vehicle, which builds it at configure"),
    )  # fmt: skip
    for flag, settings, text in options:
        parser.add_argument(flag, help=text, **settings)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Export and report; 1 where the ADE rose by more than was allowed."""
    from alpamayo_ros.deployment.exporting import ExportRequest, check_request, export
    from alpamayo_ros.manifest import load_manifest

    request = ExportRequest(
        args.to,
        args.precision,
        args.out,
        tuple(args.calibration),
        args.samples,
        args.target,
        args.tensorrt,
        not args.no_build,
        args.with_weights,
    )
    check_request(request)
    manifest = load_manifest(args.model)
    if manifest.backend != "student":
        raise UserError(
            f"model {manifest.name} is of backend {manifest.backend}, and students are exported "
            "here; the VLA's expert is by `alpamayo vla export-expert`"
        )
    progress = Progress("instants", 1.0, "of them")
    try:
        exported = export(manifest, request, _settings(args, manifest), _say, progress.update)
    finally:
        progress.close()
    result = _result(exported, manifest)
    if str(args.json) != "-":
        _print(exported, manifest)
    write_json(args.json, result)
    change = (exported.accuracy or {}).get("ade_change")
    if args.max_ade_change is None or change is None or change <= args.max_ade_change:
        return 0
    print(f"alpamayo export: the ADE rose by {change:.1%}, allowed is {args.max_ade_change:.1%}",
          file=sys.stderr)  # fmt: skip
    return 1


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _settings(args: argparse.Namespace, manifest: Manifest) -> Any:
    """How the recordings are read: the parameters' defaults, or those of --params."""
    from alpamayo_ros.parameters import read_parameter_file, settings_from

    settings = settings_from(read_parameter_file(args.params) if args.params else {})
    if args.calibration:
        cameras = tuple(camera.name for camera in settings.cameras)
        manifest.cameras.check(cameras, manifest.name)
    return settings


def _print(exported: Exported, manifest: Manifest) -> None:
    for path in exported.files:
        print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")
    errors = ", ".join(f"{graph} {error:.1e}" for graph, error in exported.errors.items())
    print(f"fp32 graphs against PyTorch: {errors}")
    for graph, sidecar in exported.engines.items():
        how = "kept" if sidecar["reused"] else "built"
        print(
            f"{how} the {graph}'s engine for {sidecar['gpu']} by {sidecar['tensorrt']['module']} "
            f"{sidecar['tensorrt']['version']}: {sidecar['layers']} layers"
        )
    if exported.quantised:
        layers = ", ".join(f"{count} of the {g}" for g, count in exported.quantised.items())
        print(f"layers in int8: {layers}")
    if exported.accuracy is not None:
        _print_accuracy(exported.accuracy)
    print(f"licence of the weights: {manifest.licence}")


def _print_accuracy(accuracy: dict[str, Any]) -> None:
    print(
        f"plans at {accuracy['instants']} instants lie {accuracy['from_fp32_mean_m']:.3f} m from "
        f"fp32's (at most {accuracy['from_fp32_max_m']:.3f} m)"
    )
    if accuracy["ade_change"] is None:
        print("no instant has its whole 6.4 s future in the recordings: the ADE is not measured")
        return
    print(
        f"ADE over {accuracy['scored']} instants: {accuracy['ade_m']:.3f} m, fp32 "
        f"{accuracy['ade_fp32_m']:.3f} m ({accuracy['ade_change']:+.2%})"
    )


def _result(exported: Exported, manifest: Manifest) -> dict[str, Any]:
    return {
        "manifest": str(exported.manifest),
        "files": [str(path) for path in exported.files],
        "errors": exported.errors,
        "accuracy": exported.accuracy,
        "quantised": exported.quantised,
        "engines": exported.engines,
        "licence": manifest.licence,
    }
