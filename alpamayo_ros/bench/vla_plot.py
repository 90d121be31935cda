"""Stages of every row as bars, in SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from alpamayo_ros.evaluation.charts import colour

_LEFT, _WIDTH, _BAR, _GAP, _TOP = 190, 620, 18, 8, 30


def plot(rows: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> str:
    """A bar a row, its stages' medians end to end in ms; what is left to the whole plan is grey."""
    longest = max(row["stages_ms"]["plan"]["p50"] for row in rows)
    height = _TOP + len(rows) * (_BAR + _GAP) + 40
    parts = [_key(stages)]
    for number, row in enumerate(rows):
        y, x = _TOP + number * (_BAR + _GAP), float(_LEFT)
        name = f"{row['runtime']}, n = {row['samples']}, {row['reasoning_tokens']} tokens"
        whole = row["stages_ms"]["plan"]["p50"]
        rest = whole
        parts.append(_text(_LEFT - 6, y + 13, name, "end"))
        for index, stage in enumerate(stages):
            took = row["stages_ms"][stage]["p50"] or 0.0
            rest -= took
            parts.append(
                _bar(x, y, took / longest * _WIDTH, colour(index), f"{stage} {took:.1f} ms")
            )
            x += took / longest * _WIDTH
        parts.append(_bar(x, y, max(rest, 0.0) / longest * _WIDTH, "#999", f"rest {rest:.1f} ms"))
        parts.append(
            _text(_LEFT + whole / longest * _WIDTH + 6, y + 13, f"{whole:.0f} ms", "start")
        )
    width = _LEFT + _WIDTH + 80
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="ms by stage">'
        f"{''.join(parts)}</svg>\n"
    )


def _key(stages: Sequence[str]) -> str:
    found = []
    for index, stage in enumerate(stages):
        x = _LEFT + index * 100
        found.append(_bar(x, 8, 10, colour(index), stage) + _text(x + 14, 20, stage, "start"))
    return "".join(found)


def _bar(x: float, y: float, width: float, fill: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{fill}">'
        f"<title>{html.escape(title)}</title></rect>"
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{html.escape(words)}</text>'
