"""What every subcommand shares: progress on a terminal, a result as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import UserError
from alpamayo_ros.parameters import parsed_option


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """--json PATH, the same for every command."""
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the result to PATH as JSON ('-': stdout)"
    )


def write_json(path: Path | None, result: Any) -> None:
    """Write `result` where --json asked for it; nothing where it did not."""
    if path is None:
        return
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False)
    if str(path) == "-":
        print(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def model_option(entry: str) -> tuple[str, Any]:
    """NAME=VALUE of an --option. Raises UserError."""
    try:
        return parsed_option(entry)
    except ValueError as error:
        raise UserError(f"--option {entry}: {error}") from error


class Progress:
    """One line on stderr that is rewritten on a terminal and thinned out in a log."""

    def __init__(self, label: str, total: float, unit: str = "") -> None:
        self._label, self._total, self._unit = label, max(total, 1e-9), unit
        self._terminal = sys.stderr.isatty()
        self._interval_s = 0.1 if self._terminal else 5.0
        self._shown_at = time.monotonic()

    def update(self, done: float) -> None:
        """Say how far the work is."""
        now = time.monotonic()
        if now - self._shown_at < self._interval_s:
            return
        self._shown_at = now
        share = min(done / self._total, 1.0)
        text = f"{self._label}: {share:4.0%} ({done:.4g}/{self._total:.4g} {self._unit})"
        print(
            f"\r{text}\033[K" if self._terminal else text,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Leave the terminal's line clean."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
