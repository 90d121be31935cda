"""List the planner node's parameters: default, range, meaning.

examples:
  alpamayo parameters
  alpamayo parameters --markdown
"""

from __future__ import annotations

import argparse
from typing import Any

from alpamayo_ros.commands.common import add_json_argument, write_json
from alpamayo_ros.parameter_table import PARAMETERS, Parameter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--markdown", action="store_true", help="as the table of README.md")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    write_json(
        args.json,
        {
            p.name: {"default": p.default, "range": range_text(p), "meaning": p.meaning}
            for p in PARAMETERS
        },
    )
    if args.markdown:
        print(markdown_table())
    elif str(args.json) != "-":
        for p in PARAMETERS:
            print(f"{p.name} = {default_text(p.default)}")
            print(f"    {p.meaning}" + (f" ({range_text(p)})" if range_text(p) else ""))
    return 0


def markdown_table() -> str:
    """The parameter table of README.md."""
    rows = ["| parameter | default | range | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{p.name}` | {f'`{default_text(p.default)}`'} | {range_text(p)} | {p.meaning} |"
        for p in PARAMETERS
    ]
    return "\n".join(rows)


def default_text(value: Any) -> str:
    """A default as YAML would have it; long lists are cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = ", ".join(str(item) for item in value)
        return f"[{text}]" if len(text) <= 45 else f"[{value[0]}, …]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def range_text(parameter: Parameter) -> str:
    """The range or the choices; empty where anything goes."""
    if parameter.choices:
        return ", ".join(parameter.choices)
    if parameter.minimum is None or parameter.maximum is None:
        return ""
    return f"{parameter.minimum:g} to {parameter.maximum:g}"
