"""`alpamayo vla export-expert`: the action expert to ONNX, and to a TensorRT engine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json
from alpamayo_ros.errors import UserError

if TYPE_CHECKING:
    from alpamayo_ros.backends.vla_options import VlaOptions
    from alpamayo_ros.manifest import Manifest

DEFAULT_PRECISION = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_DESCRIPTION = """Export the action expert of a checkpoint for another runtime.

Writes FILE.onnx after comparing it with PyTorch; with --to tensorrt also FILE.engine and what it
is, FILE.engine.json. The file is for exactly --samples trajectories and for prompts with reasoning
of at most --prefix tokens. To use it, set in the manifest:
  expert_runtime: onnxruntime (or tensorrt)
  expert_model: FILE.onnx     (or FILE.engine)
"""


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to `alpamayo vla`."""
    parser = actions.add_parser(
        "export-expert",
        help="the action expert to ONNX or TensorRT",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="MANIFEST")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="override an option of the manifest")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--samples", type=int, metavar="N", help="default: the manifest's")
    parser.add_argument("--prefix", type=int, metavar="S", help="default: from the manifest's "
                        "cameras, navigation text and max_new_tokens")  # fmt: skip
    parser.add_argument("--cameras", type=int, metavar="COUNT", help="to choose --prefix for; "
                        "default: as many as the manifest takes")  # fmt: skip
    parser.add_argument("--steps", type=int, default=0, metavar="K", help="unroll K flow steps "
                        "(no guidance then); default: one velocity a call")  # fmt: skip
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"),
                        help="default: as the manifest's dtype")  # fmt: skip
    parser.add_argument("--to", choices=("onnx", "tensorrt"), default="onnx")
    parser.add_argument("--tensorrt", choices=("tensorrt", "tensorrt_rtx"),
                        help="which TensorRT; default: the first that is installed")  # fmt: skip
    parser.add_argument("--target", metavar="SM", help="build for compute capability SM (sm89) "
                        "without its GPU; TensorRT for RTX only")  # fmt: skip
    add_json_argument(parser)
    parser.set_defaults(run_action=run)


def run(args: argparse.Namespace) -> int:
    """Export, compare, and build where asked."""
    from alpamayo_ros.backends.vla_options import VlaOptions
    from alpamayo_ros.manifest import load_manifest
    from alpamayo_ros.vla.expert_export import export_expert, load_expert
    from alpamayo_ros.vla.expert_graph import graph_shape

    if args.out.suffix != ".onnx":
        raise UserError(f"--out {args.out} wants a name that ends in .onnx")
    # The file that is made here need not be there yet.
    overrides = {"expert_runtime": "torch", **dict(map(model_option, args.option))}
    manifest = load_manifest(args.model).with_options(overrides)
    options = VlaOptions.from_manifest(manifest)
    precision = args.precision or DEFAULT_PRECISION[options.dtype]
    prefix = args.prefix or _prefix(manifest, options, args.cameras)
    progress = Progress("reading the expert", 1.0, "of its tensors")
    try:
        model, identity = load_expert(
            options.checkpoint, options.backbone, options.dtype, precision, manifest.name,
            manifest.licence, lambda done, total: progress.update(done / total),
        )  # fmt: skip
    finally:
        progress.close()
    shape = graph_shape(model, args.samples or options.samples, prefix, args.steps)
    exported = export_expert(
        model, identity, shape, args.out, lambda line: print(line, file=sys.stderr)
    )
    print(
        f"wrote {args.out}: {exported.bytes / 1e6:.1f} MB, {precision}, {shape.samples} samples, "
        f"{prefix} places, error {exported.error:.2g} (allowed {exported.tolerance:g})"
    )
    print(f"licence of its weights: {manifest.licence}")
    result = {
        "onnx": str(args.out),
        "metadata": exported.file.metadata(),
        "error": exported.error,
        "tolerance": exported.tolerance,
    }
    if args.to == "tensorrt":
        result["engine"] = _build(args, precision)
    write_json(args.json, result)
    return 0


def _build(args: argparse.Namespace, precision: str) -> str:
    from alpamayo_ros.runtime.tensorrt_build import BuildRequest, build

    engine = args.out.with_suffix(".engine")
    print("building the engine: minutes for the full size", file=sys.stderr)
    built = build(BuildRequest(args.out, engine, precision, args.target, args.tensorrt))
    how = "kept" if built.reused else "wrote"
    print(
        f"{how} {engine}: {built.sidecar['bytes'] / 1e6:.1f} MB for "
        f"{built.sidecar['gpu']} by {built.sidecar['tensorrt']['module']} "
        f"{built.sidecar['tensorrt']['version']}, {built.sidecar['layers']} layers"
    )
    return str(engine)


def _prefix(manifest: Manifest, options: VlaOptions, cameras: int | None) -> int:
    """A bucket for the longest prompt of the manifest and its reasoning."""
    from alpamayo_ros.vla.expert_prefix import default_prefix

    if options.tokenizer is None:
        raise UserError(
            f"{manifest.path} names no tokenizer to count the prompt's tokens with: name one, or "
            "give --prefix"
        )
    count = cameras or manifest.cameras.maximum
    if not manifest.cameras.minimum <= count <= manifest.cameras.maximum:
        raise UserError(
            f"model {manifest.name} takes {manifest.cameras.minimum} to "
            f"{manifest.cameras.maximum} cameras, --cameras is {count}"
        )
    return default_prefix(options, manifest.cameras.allowed, count)
