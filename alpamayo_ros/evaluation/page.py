"""The README's results: tables out of kept evaluations, between two markers, never typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.evaluation.figures import BASELINES
from alpamayo_ros.manifest import load_manifest

BEGIN = "<!-- results: written by `alpamayo results`, do not edit -->"
END = "<!-- end of results -->"
HORIZONS = ("1", "2", "3", "4", "5", "6.4")
_ABOUT = ("instants", "interval", "models", "notes")


@dataclass(frozen=True, slots=True)
class KeptResult:
    """One evaluation: summary.json as it was written, and what of report.json explains it."""

    name: str
    summary: Mapping[str, Any]  # planner -> metric -> horizon -> {value, low, high}
    about: Mapping[str, Any]


def keep(evaluation: Path, folder: Path) -> None:
    """Copy what the page needs of an `alpamayo evaluate --out` folder. Raises UserError.

    Of report.json no more than is shown: it has the paths of whose machine it was.
    """
    summary, report = evaluation / "summary.json", evaluation / "report.json"
    content = _json(report)
    try:
        about = {name: content[name] for name in _ABOUT}
        about["bags"] = sorted(content["bags"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{report} is not of `alpamayo evaluate`: no {error}") from error
    text = _read(summary)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(text)
        (folder / "about.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


def read_kept(folder: Path) -> list[KeptResult]:
    """Every kept evaluation by name. Raises UserError."""
    return [
        KeptResult(path.parent.name, _json(path), _json(path.parent / "about.json"))
        for path in sorted(folder.glob("*/summary.json"))
    ]


def page(results: Sequence[KeptResult]) -> str:
    """The text between the markers, without them."""
    return "\n\n".join(_section(result) for result in results)


def outdated(results: Sequence[KeptResult]) -> list[str]:
    """Shipped models whose weights or options are no longer those of a kept evaluation."""
    found = []
    for result in results:
        for model, fingerprint in result.about.get("models", {}).items():
            try:
                manifest = load_manifest(model)
            except ModelError:  # a model of whoever evaluated: nothing here to compare it with
                continue
            if manifest.fingerprint != fingerprint:
                found.append(f"{result.name}: {model} is another model now; evaluate it again")
    return found


def replaced(readme: str, text: str) -> str:
    """A README with `text` between its markers. Raises UserError where it has not both, once."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.find(END) < readme.find(BEGIN):
        raise UserError(f"the page wants one line {BEGIN!r} and behind it one line {END!r}")
    head, _, rest = readme.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def _section(result: KeptResult) -> str:
    about = result.about
    bags = ", ".join(f"`{bag}`" for bag in about["bags"])
    many = len(about["bags"]) > 3
    lines = [
        f"**{result.name}**: {about['instants']} instants of "
        + (f"{len(about['bags'])} bags" if many else bags)
        + f"; brackets: {about['interval']['level']:.0%} over {about['interval']['of']}. "
        "In metres:",
        "",
        "| ADE at | " + " | ".join(f"{h} s" for h in HORIZONS) + " | FDE 6.4 s | missed |",
        "|---|" + "---|" * (len(HORIZONS) + 2),
    ]
    for planner in sorted(result.summary, key=_order):
        metrics = result.summary[planner]
        cells = [_number(metrics["ade_m"][horizon]["value"]) for horizon in HORIZONS]
        final, miss = metrics["fde_m"]["6.4"], metrics["miss"]["6.4"]["value"]
        cells.append(f"{_number(final['value'])} [{_number(final['low'])}, "
                     f"{_number(final['high'])}]")  # fmt: skip
        cells.append("" if miss is None else f"{miss:.0%}")
        lines.append(f"| {planner.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [f"\nNote: {note}." for note in about["notes"]]
    return "\n".join(lines)


def _order(planner: str) -> tuple[int, str]:
    """Models first, baselines last, in their own order."""
    return (BASELINES.index(planner) if planner in BASELINES else -1, planner)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
