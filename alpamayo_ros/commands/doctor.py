"""Say what is wrong with this machine, or with a running graph, and what to do about it.

Exit code 1 where there is an error among the findings.

examples:
  alpamayo doctor
  alpamayo doctor --model alpamayo_1_5 --option checkpoint=/data/Alpamayo-1.5-10B
  alpamayo doctor --live --node /planner --for 3 --json findings.json
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from alpamayo_ros.commands.common import add_json_argument, model_option, write_json
from alpamayo_ros.doctor.findings import Finding, is_sound, report, to_json
from alpamayo_ros.errors import UserError

SECONDS = (0.1, 600.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The machine and its model, or --live and its node."""
    parser.add_argument("--model", default="kinematic", metavar="NAME",
                        help="the one that is to run: a name in models/ or a manifest")  # fmt: skip
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                        help="over the manifest's options")  # fmt: skip
    parser.add_argument("--no-hash", action="store_true", help="do not read the model's files")
    parser.add_argument("--live", action="store_true", help="look at the running graph instead")
    parser.add_argument("--node", default="/planner", help="the planner's name (default /planner)")
    parser.add_argument("--for", dest="seconds", type=float, default=3.0, metavar="SECONDS",
                        help="how long to listen (default 3)")  # fmt: skip
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, write; 1 where something does not work."""
    if not SECONDS[0] <= args.seconds <= SECONDS[1]:
        raise UserError(f"--for is {args.seconds:g}, wanted {SECONDS[0]:g} to {SECONDS[1]:g}")
    found = list(_live(args) if args.live else _machine(args))
    write_json(args.json, to_json(found))
    if str(args.json) != "-":
        print(report(found))
    return 0 if is_sound(found) else 1


def _machine(args: argparse.Namespace) -> Iterable[Finding]:
    from alpamayo_ros.doctor import environment, libraries, model
    from alpamayo_ros.ros import installation

    options = dict(map(model_option, args.option))
    yield from libraries.installed()
    yield from environment.ros(os.environ, installation)
    yield from environment.machine()
    yield from libraries.gpu(model.needs_gpu(args.model, options))
    yield from model.check_model(args.model, options, not args.no_hash)


def _live(args: argparse.Namespace) -> Iterable[Finding]:
    from alpamayo_ros.doctor import live
    from alpamayo_ros.processes import require_ros

    require_ros()
    from alpamayo_ros.ros import probe

    name = args.node if args.node.startswith("/") else f"/{args.node}"
    return live.findings(probe.look(name, args.seconds))
