"""Plots as inline SVG: errors over the horizon, and one error by group."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's colours, then the same again dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 300, 48, 170, 16, 36


def colour(index: int) -> str:
    """The colour of the planner at `index`."""
    return COLOURS[index % len(COLOURS)]


def over_horizons(summary: Mapping[str, Any], metric: str, unit: str) -> str:
    """A line a planner with its interval; planners without the metric are left out."""
    lines = {
        name: (index, [(float(h), entry) for h, entry in metrics[metric].items()])
        for index, (name, metrics) in enumerate(summary.items())
        if metric in metrics and name != "stand_still"
    }
    values = [e["high"] for _, points in lines.values() for _, e in points]
    if not values:
        return ""
    top = _round_up(max(max(values), 1e-3))

    def x(seconds: float) -> float:
        return _LEFT + seconds / 6.4 * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - min(value / top, 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_axis(x, y, top, unit)]
    for row, (name, (index, points)) in enumerate(lines.items()):
        edge = [(x(s), y(e["high"])) for s, e in points]
        edge += [(x(s), y(e["low"])) for s, e in reversed(points)]
        dash = ' stroke-dasharray="5 3"' if index >= len(COLOURS) else ""
        parts.append(f'<polygon points="{_points(edge)}" fill="{colour(index)}" opacity=".13"/>')
        parts.append(
            f'<polyline points="{_points([(x(s), y(e["value"])) for s, e in points])}" '
            f'fill="none" stroke="{colour(index)}" stroke-width="2"{dash}/>'
        )
        parts.append(_key(row, name, colour(index)))
    return _svg(parts, f"{metric} over the horizon")


def by_group(groups: Mapping[str, Any], planners: Sequence[str], metric: str, unit: str) -> str:
    """For each group a dot with its interval a planner, at 6.4 s."""
    shown = [name for name in planners if name != "stand_still"]
    entries = {
        group: {
            name: content["planners"][name][metric]["6.4"]
            for name in shown
            if metric in content["planners"][name]
        }
        for group, content in groups.items()
    }
    values = [entry["high"] for row in entries.values() for entry in row.values()]
    if not values:
        return ""
    top = _round_up(max(max(values), 1e-3))
    step = 10 * len(shown) + 16
    height = step * len(entries) + _BOTTOM + _TOP
    left, right = 130, _WIDTH - _RIGHT

    def x(value: float) -> float:
        return left + min(value / top, 1.0) * (right - left)

    parts = []
    for share in (0.0, 0.5, 1.0):
        at = x(share * top)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}" '
                     'class="grid"/>')  # fmt: skip
        parts.append(_text(at, height - 16, f"{share * top:g} {unit}", "middle"))
    for row, (group, of_planners) in enumerate(entries.items()):
        base = _TOP + row * step + 12
        parts.append(_text(left - 8, base + 4, f"{group} ({groups[group]['instants']})", "end"))
        for name, entry in of_planners.items():
            index, at = planners.index(name), base + 10 * shown.index(name)
            parts.append(
                f'<line x1="{x(entry["low"]):.1f}" x2="{x(entry["high"]):.1f}" y1="{at}" '
                f'y2="{at}" stroke="{colour(index)}" stroke-width="2"/>'
                f'<circle cx="{x(entry["value"]):.1f}" cy="{at}" r="3.5" fill="{colour(index)}"/>'
            )
    for row, name in enumerate(shown):
        parts.append(_key(row, name, colour(planners.index(name))))
    return _svg(parts, f"{metric} at 6.4 s by group", height)


def _axis(x: Any, y: Any, top: float, unit: str) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y(share * top)
        parts.append(f'<line x1="{x(0)}" x2="{x(6.4):.1f}" y1="{at:.1f}" y2="{at:.1f}" '
                     'class="grid"/>')  # fmt: skip
        parts.append(_text(x(0) - 6, at + 4, f"{share * top:g}", "end"))
    for seconds in (1, 2, 3, 4, 5, 6.4):
        parts.append(_text(x(seconds), _HEIGHT - 16, f"{seconds:g} s", "middle"))
    parts.append(_text(x(0) + 4, _TOP + 4, unit, "start"))
    return "".join(parts)


def _key(row: int, name: str, fill: str) -> str:
    at = _TOP + 14 + 18 * row
    left = _WIDTH - _RIGHT + 14
    return f'<rect x="{left}" y="{at - 8}" width="12" height="8" fill="{fill}"/>' + _text(
        left + 18, at, name, "start"
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(parts: Sequence[str], label: str, height: float = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 … times a power of ten."""
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 < value:
        power *= 10
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)
