"""`alpamayo vla quantise`: a checkpoint's weights in fewer bits, as a checkpoint of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json

_DESCRIPTION = """Write the checkpoint of a manifest in fewer bits.

DIR takes the place of the manifest's `checkpoint`; what else the manifest says stays. It says how
far the weights are off by part: what that does to a drive has to be measured (README, Fewer bits).
"""


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to `alpamayo vla`."""
    parser = actions.add_parser(
        "quantise", help="a checkpoint in fewer bits", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", required=True, metavar="MANIFEST")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="override an option of the manifest")  # fmt: skip
    parser.add_argument("--weights", required=True, metavar="NAME",
                        help="int8, fp8, nf4, int4, int2 or ternary")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="PART=NAME", dest="parts",
                        help="another for vision, backbone, expert or lm_head")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    add_json_argument(parser)
    parser.set_defaults(run_action=run)


def run(args: argparse.Namespace) -> int:
    """Quantise while reading, write, and say what it costs."""
    from dataclasses import asdict, replace

    from alpamayo_ros.backends.vla_options import VlaOptions
    from alpamayo_ros.manifest import load_manifest
    from alpamayo_ros.vla.config_reader import read_json
    from alpamayo_ros.vla.load import CheckpointSource, load
    from alpamayo_ros.vla.quant.checkpoint import manifest_lines, origin_of, save
    from alpamayo_ros.vla.quant.precisions import changes, choice

    manifest = load_manifest(args.model).with_options(dict(map(model_option, args.option)))
    options = VlaOptions.from_manifest(manifest)
    chosen = replace(choice(args.weights, options.dtype), **changes(args.parts))
    source = CheckpointSource(
        options.checkpoint, options.tokenizer, options.backbone, options.sha256, options.device,
        options.dtype, asdict(chosen),
    )  # fmt: skip
    progress = Progress("quantising", 1.0, "of the tensors")
    try:
        loaded = load(source, lambda done, total: progress.update(done / total))
        head = read_json(options.checkpoint / "config.json")
        origin = origin_of(options.checkpoint, manifest.licence, options.sha256)
        sha256 = save(loaded.model, chosen, loaded.errors, args.out, head, origin=origin)
    finally:
        progress.close()
    size = sum(path.stat().st_size for path in args.out.glob("*.safetensors"))
    print(f"wrote {args.out}: {size / 1024**3:.3f} GiB; name it in the manifest's `checkpoint`")
    print(f"in place of the manifest's sha256:\n{manifest_lines(sha256)}")
    for part, error in loaded.errors.items():
        print(f"{part:9} {getattr(chosen, part):8} weights off by {error:.2g}")
    for name, price in chosen.prices.items():
        print(f"{name}: {price}")
    print(f"licence of its weights: {manifest.licence}")
    write_json(args.json, {
        "folder": str(args.out), "bytes": size, "sha256": sha256, "weights": asdict(chosen),
        "relative_error": dict(loaded.errors), "usable_without_training": chosen.is_usable,
    })  # fmt: skip
    return 0
