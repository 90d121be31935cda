"""The results page: tables of a README out of evaluations, written between its two markers.

--add keeps an evaluation (summary.json and what explains it) in the folder results/ beside the
page; without it the page is written anew from what is kept. --check writes nothing and ends with
exit code 1 where the page says something else, or a model that ships is no longer the one that was
evaluated.

examples:
  alpamayo evaluate --bags drives/* --out scores
  alpamayo results README.md --add generated=scores
  alpamayo results README.md --check
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from alpamayo_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The page, and what to add to it."""
    parser.add_argument("page", type=Path, help="a text with the two markers")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=DIR",
                        help="keep the evaluation of DIR as NAME; may be repeated")  # fmt: skip
    parser.add_argument("--kept", type=Path, metavar="DIR",
                        help="where they are kept (default: results/ beside it)")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="compare, write nothing")


def run(args: argparse.Namespace) -> int:
    """Write or compare; 1 where --check finds a difference."""
    from alpamayo_ros.evaluation import page

    folder = args.kept or args.page.parent / "results"
    if args.check and args.add:
        raise UserError("--check writes nothing: give it without --add")
    for entry in args.add:
        name, equals, evaluation = entry.partition("=")
        if not (equals and re.fullmatch(r"[\w.-]+", name)):
            raise UserError(f"--add wants NAME=DIR, a name of letters and digits, got {entry}")
        page.keep(Path(evaluation), folder / name)
    kept = page.read_kept(folder)
    if not kept:
        raise UserError(f"{folder} has no evaluation; add one with --add NAME=DIR")
    try:
        before = args.page.read_text(encoding="utf-8")
        after = page.replaced(before, page.page(kept))
        if args.check:
            faults = page.outdated(kept)
            if after != before:
                faults.append(f"{args.page} differs from what {folder} gives: alpamayo results "
                              f"{args.page}")  # fmt: skip
            for fault in faults:
                print(f"alpamayo results: {fault}", file=sys.stderr)
            return int(bool(faults))
        args.page.write_text(after, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {args.page}: {error.strerror}") from error
    print(f"{args.page}: {', '.join(result.name for result in kept)}")
    return 0
