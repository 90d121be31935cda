"""Write the SROS 2 policy of the nodes: which topics and services each may use, and nothing else.

`ros2 security create_keystore`, `create_enclave` and `create_permission` turn it into keys and
permissions; enforcing them needs a distribution that is built with security.

examples:
  alpamayo policy --out policy.xml
  alpamayo policy --params my_planner.yaml --namespace /car1 --out policy.xml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alpamayo_ros.errors import UserError
from alpamayo_ros.parameters import read_parameter_file, settings_from
from alpamayo_ros.policy import nodes, policy_xml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For which planner, and where to."""
    parser.add_argument("--params", type=Path, metavar="FILE",
                        help="the planner's parameter file (default: its defaults)")  # fmt: skip
    parser.add_argument("--namespace", default="/", help="of the planner (default /)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: print it")


def run(args: argparse.Namespace) -> int:
    """Write or print."""
    if not args.namespace.startswith("/"):
        raise UserError(f"--namespace {args.namespace!r} does not start with /")
    values = read_parameter_file(args.params) if args.params is not None else {}
    text = policy_xml(nodes(settings_from(values), args.namespace))
    if args.out is None:
        print(text, end="")
        return 0
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {args.out}: {error.strerror}") from error
    return 0
