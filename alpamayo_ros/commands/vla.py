"""Alpamayo R1 and 1.5: random checkpoints, checks, counts, questions, exports, fewer bits.

examples:
  alpamayo vla init --size tiny --version 1.5 --out tiny15
  alpamayo vla check golden --runtime fast
  alpamayo vla ask drive --model tiny15/manifest.yaml --at 5 "Is the lane ahead free?"
  alpamayo vla count --size full --version r1
  alpamayo vla export-expert --model tiny15/manifest.yaml --out expert.onnx
  alpamayo vla quantise --model tiny15/manifest.yaml --weights nf4 --out tiny15_nf4
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from alpamayo_ros.commands import export_expert, quantise_vla
from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.commands.replay import add_planner_arguments
from alpamayo_ros.errors import UserError
from alpamayo_ros.vla.vocabulary import VERSIONS

SIZES = ("tiny", "small", "full")
RUNTIMES = ("eager", "fast")

_INIT = """Write a random checkpoint in the released layout, with a manifest beside it.

tiny (1.1 M parameters) and small (156 M) come with a tokenizer of their own; full (11.1 B,
22 GB) needs Qwen3-VL's, named in its manifest. The plans of random weights mean nothing.
"""
_CHECK = """Compare every stage with arrays of the public reference code, a line a case.

FOLDER holds the cases (.npz) and beside them tiny_r1_weights.safetensors, tiny_r1_config.json,
tiny_r15_config.json and tiny_backbone_config.json. Exit code 1 if a stage is out of tolerance.
"""
_ASK = """Ask Alpamayo 1.5 a question about one instant of a recording.

SECONDS count from the first camera frame. The answer goes to stdout.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a use."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    raw = argparse.RawDescriptionHelpFormatter

    init = actions.add_parser("init", help="write a random checkpoint", description=_INIT,
                              formatter_class=raw)  # fmt: skip
    init.add_argument("--size", choices=SIZES, default="tiny")
    init.add_argument("--version", choices=VERSIONS, default="1.5")
    init.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    init.add_argument("--seed", type=int, default=0)
    init.add_argument("--device", default="cpu", help="where to draw the numbers (default cpu)")
    init.set_defaults(run_action=_init)

    check = actions.add_parser("check", help="compare with the reference's arrays",
                               description=_CHECK, formatter_class=raw)  # fmt: skip
    check.add_argument("folder", type=Path, metavar="FOLDER")
    check.add_argument("--runtime", choices=RUNTIMES, default="eager")
    check.add_argument("--device", default="cpu")
    check.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    check.add_argument("--tokenizer", type=Path, metavar="DIR",
                       help="Qwen3-VL's tokenizer, to compare full_prompts' ids")  # fmt: skip
    add_json_argument(check)
    check.set_defaults(run_action=_check)

    count = actions.add_parser("count", help="count parameters from the configuration alone")
    count.add_argument("checkpoint", type=Path, nargs="?", metavar="FOLDER",
                       help="a release's folder; or give --size")  # fmt: skip
    count.add_argument("--size", choices=SIZES, default="full")
    count.add_argument("--version", choices=VERSIONS, default="r1")
    add_json_argument(count)
    count.set_defaults(run_action=_count)

    ask = actions.add_parser("ask", help="ask about one instant of a recording",
                             description=_ASK, formatter_class=raw)  # fmt: skip
    ask.add_argument("bag", type=Path, metavar="BAG")
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument("--at", type=float, required=True, metavar="SECONDS")
    add_planner_arguments(ask)
    add_json_argument(ask)
    ask.set_defaults(run_action=_ask)

    export_expert.add_parser(actions)
    quantise_vla.add_parser(actions)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    from alpamayo_ros.vla.libraries import require_transformers

    require_transformers()
    return int(args.run_action(args))


def _init(args: argparse.Namespace) -> int:
    from alpamayo_ros.vla.initialise import write_checkpoint

    progress = Progress("writing", 1.0, "of the tensors")
    try:
        manifest = write_checkpoint(
            args.out, args.size, args.version, args.seed, args.device,
            progress=lambda done, total: progress.update(done / total),
        )  # fmt: skip
    finally:
        progress.close()
    print(f"wrote {args.out}: random weights, manifest {manifest}")
    if args.size == "full":
        print("Name a folder with Qwen3-VL's tokenizer in the manifest before you load it.")
    return 0


def _check(args: argparse.Namespace) -> int:
    from alpamayo_ros.vla.golden.run import GoldenFolder, as_json

    folder = GoldenFolder(args.folder, args.device, args.tokenizer, args.runtime)
    results = []
    for result in folder.run(args.only):
        print(result.line(), flush=True)
        results.append(result)
    if not results:
        raise UserError(f"no case in {args.folder} has {args.only!r} in its name")
    failed = sum(not result.ok for result in results)
    print(f"{len(results) - failed} of {len(results)} cases within tolerance")
    write_json(args.json, {"runtime": args.runtime, "cases": [as_json(r) for r in results]})
    return 1 if failed else 0


def _count(args: argparse.Namespace) -> int:
    from alpamayo_ros.vla.backbone import read_backbone
    from alpamayo_ros.vla.config_reader import parse_config
    from alpamayo_ros.vla.load import read_head
    from alpamayo_ros.vla.model import parameter_counts
    from alpamayo_ros.vla.sizes import backbone_shape, head_config

    if args.checkpoint is not None:
        own = args.checkpoint / "backbone"
        config = read_head(args.checkpoint)
        shape = read_backbone(own if own.is_dir() else None)
    else:
        config = parse_config(head_config(args.size, args.version), args.size)
        shape = backbone_shape(args.size)
    counts = parameter_counts(config, shape)
    counts["all"] = sum(counts.values())
    for name, number in counts.items():
        print(f"{name:16} {number:>16,}")
    write_json(args.json, counts)
    return 0


def _ask(args: argparse.Namespace) -> int:
    from alpamayo_ros.backends.registry import create_for
    from alpamayo_ros.bags.instants import sample_at
    from alpamayo_ros.commands.replay import planner_settings
    from alpamayo_ros.questions import check_question, unavailable

    settings = planner_settings(args)
    backend = create_for(settings)
    cameras = tuple(camera.name for camera in settings.cameras)
    backend.manifest.cameras.check(cameras, backend.manifest.name)
    refusal = unavailable(backend.manifest, "active")
    if refusal:
        raise UserError(refusal)
    question = check_question(args.question)
    print(backend.manifest.introduction(), file=sys.stderr)
    backend.load()
    try:
        sample = sample_at(args.bag, settings, args.at, backend.resize)
        steps = backend.ask(sample, question)
        progress = Progress("answering", float("inf"), "tokens")
        try:
            count = 0
            while True:
                next(steps)
                count += 1
                progress.update(count)
        except StopIteration as end:
            answer = end.value
        finally:
            progress.close()
    finally:
        backend.close()
    if not answer.text:
        print("alpamayo vla ask: the model's answer has no words", file=sys.stderr)
    print(answer.text)
    write_json(args.json, {
        "question": question,
        "answer": answer.text,
        "t0_ns": answer.t0_ns,
        "model": answer.model,
        "licence": backend.manifest.licence,
        "note": backend.manifest.note,
        "stage_ms": dict(answer.stage_ms),
    })  # fmt: skip
    return 0
