"""List the faults that the planner is made for, and what it does about each.

examples:
  alpamayo faults
  alpamayo faults --markdown
"""

from __future__ import annotations

import argparse

from alpamayo_ros.commands.common import add_json_argument, write_json
from alpamayo_ros.safety.faults import BEHAVIOUR, markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--markdown", action="store_true", help="as the table of README.md")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    write_json(
        args.json,
        {
            fault.value: {
                "within_ms": done.within_ms,
                "noticed": done.when,
                "published": done.published.value,
                "level": done.level.name,
                "entry": done.entry,
                "says": done.says,
                "recovery": done.recovery,
            }
            for fault, done in BEHAVIOUR.items()
        },
    )
    if args.markdown:
        print(markdown_table())
    elif str(args.json) != "-":
        for fault, done in BEHAVIOUR.items():
            noticed = done.when if done.within_ms is None else f"within {done.within_ms} ms"
            print(f"{fault}\n    {noticed}; meanwhile {done.published.value}; {done.recovery}")
    return 0
