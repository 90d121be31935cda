"""`alpamayo …`: everything off the vehicle. One module of `commands/` a subcommand.

Exit codes: 0 done, 1 the thing measured or checked failed, 2 wrong use.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from alpamayo_ros.errors import UserError
from alpamayo_ros.memory import MODEL_BYTES, keep_freed_memory

# name -> what it does, in the order of --help. The module is imported when its command is used,
# so that one command never waits for another's libraries.
COMMANDS = {
    "demo": "drive a world (or play a bag) with real nodes, score and draw",
    "replay": "plan on a recording at full speed, without ROS",
    "evaluate": "score planners on recordings, beside baselines; tables and an HTML report",
    "results": "write a README's tables out of evaluations",
    "render": "a recording and its plans as a video, or an instant as a picture",
    "convert": "recordings of other kinds to bags; one instant to a model's arrays",
    "world": "render or drive a generated world",
    "vla": "Alpamayo R1 and 1.5: random checkpoints, checks, questions",
    "fit": "which model, precision and samples fit which device's memory",
    "distill": "label with a teacher, train a student",
    "export": "a trained student to ONNX or TensorRT",
    "parameters": "list the planner node's parameters",
    "doctor": "say what is wrong with this machine or a running graph",
    "policy": "write the SROS 2 policy of the nodes",
    "faults": "list the faults that the planner is made for, and what it does",
    "bench": "measure ingest, latency and tick rate on this machine",
}


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="alpamayo",
        usage="alpamayo COMMAND [options]",
        description="Alpamayo planners off the vehicle; on it: "
        f"ros2 launch alpamayo_ros planner.launch.py\n\ncommands:\n{commands}",
        epilog="`alpamayo COMMAND --help` shows a command's options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        _parser().print_help(sys.stderr)
        return 2
    if arguments[0] not in COMMANDS:
        _parser().parse_args(arguments[:1])  # prints help or the error, and exits
    name = arguments[0]
    command = importlib.import_module(f"alpamayo_ros.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"alpamayo {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    options = parser.parse_args(arguments[1:])
    keep_freed_memory(MODEL_BYTES)
    try:
        code = int(command.run(options))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"alpamayo {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `alpamayo … | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"alpamayo {name}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
