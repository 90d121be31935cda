"""report.html: one file without links, to be looked at anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alpamayo_ros.evaluation import charts
from alpamayo_ros.evaluation.metrics import EVALUATION_HORIZONS
from alpamayo_ros.evaluation.worst import WorstPicture

Json = Mapping[str, Any]

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1f252e;background:#fafbfc;margin:2rem auto;
max-width:1180px;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse}th,td{padding:.25rem .7rem;text-align:right;
border-bottom:1px solid #e2e6eb}th:first-child,td:first-child{text-align:left}
small,figcaption,.muted{color:#66707d}.row{display:flex;flex-wrap:wrap;gap:1.2rem}
svg text{font:11px system-ui,sans-serif;fill:#66707d}.grid{stroke:#e2e6eb}
figure{margin:0 0 1rem;max-width:760px}img{max-width:100%}
"""
# metric -> title, the number of digits, factor
_WHOLE_PLAN = {
    "miss": ("missed %", 1, 100.0),
    "along_m": ("along m", 2, 1.0),
    "across_m": ("across m", 2, 1.0),
    "heading_deg": ("heading °", 2, 1.0),
    "min_ade_6_m": ("minADE6 m", 2, 1.0),
    "min_ade_16_m": ("minADE16 m", 2, 1.0),
    "comfortable": ("comfortable %", 1, 100.0),
    "max_braking_mps2": ("braking m/s²", 2, 1.0),
    "max_lateral_mps2": ("sideways m/s²", 2, 1.0),
    "max_jerk_mps3": ("jerk m/s³", 2, 1.0),
    "agrees_longitudinally": ("says = does, speed %", 1, 100.0),
    "agrees_laterally": ("says = does, side %", 1, 100.0),
}


def write_html(path: Path, content: Json, pictures: Mapping[str, Sequence[WorstPicture]]) -> None:
    """Write the report; `pictures` by planner. Raises OSError."""
    summary, shown = content["summary"], ", ".join(pictures)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>",
        f"<style>{_STYLE}</style><h1>{_text(shown)} and others on "
        f"{len(content['bags'])} recordings</h1>",
        f"<p>{content['instants']} instants at which every planner has a plan and the recording "
        f"its whole 6.4 s future. In brackets and shaded: {content['interval']['level']:.0%} of a "
        f"bootstrap over {_text(content['interval']['of'])}.</p>",
        f"<p class=muted>{_text(took(content['duration']))}</p>",
        _faults(content),
    ]
    if content["instants"]:
        parts += [
            "<h2>Displacement</h2><div class=row>",
            charts.over_horizons(summary, "ade_m", "ADE, m"),
            charts.over_horizons(summary, "fde_m", "FDE, m"),
            "</div><p class=muted>stand_still is in the tables only.</p>",
            _horizons(summary, "ade_m", "ADE, m"),
            _horizons(summary, "fde_m", "FDE, m"),
            "<h2>The whole 6.4 s</h2>",
            _whole(summary, content["latency_ms"]),
            "<h2>By group, ADE at 6.4 s</h2><div class=row>",
        ]
        for kind, groups in content["groups"].items():
            chart = charts.by_group(groups, content["planners"], "ade_m", "m")
            parts.append(f"<div><b>{_text(kind)}</b><br>{chart}</div>")
        parts.append("</div>")
        for planner, of_planner in pictures.items():
            parts += _worst(planner, of_planner)
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _worst(planner: str, pictures: Sequence[WorstPicture]) -> list[str]:
    parts = [
        f"<h2>Where {_text(planner)} was farthest off</h2>"
        "<p class=muted>Blue and the ribbon: planned. Orange: driven.</p>"
    ]
    for picture in pictures:
        data = base64.b64encode(picture.jpeg).decode()
        parts.append(f'<figure><img src="data:image/jpeg;base64,{data}" alt="">'
                     f"<figcaption>{_text(picture.caption)}</figcaption></figure>")  # fmt: skip
    return parts


def took(duration: Json) -> str:
    """How long the run was, beside the time that the models themselves needed."""
    text = f"took {duration['run_s']:.1f} s"
    if duration["models_s"] >= 1.0:  # below, a start of Python is longer
        share = duration["run_s"] / duration["models_s"]
        text += f", {share:.2f} times the {duration['models_s']:.1f} s of the models' own plans"
    if duration["kept_shards"]:
        text += f"; results of an earlier run that were kept: {duration['kept_shards']}"
    return text


def not_scored(content: Json) -> list[str]:
    """A line a bag that has instants which do not count: how many, and why; the first of each
    reason in full, where no bag has an instant that does."""
    lines = []
    for label in content["bags"]:
        reasons = dict(content["rejections"].get(label, {}))
        if content["without_future"].get(label):
            reasons["no 6.4 s of odometry behind them"] = content["without_future"][label]
        if reasons:
            listing = ", ".join(f"{count} {why}" for why, count in reasons.items())
            lines.append(f"{label}, instants not scored: {listing}")
            if not content["instants"]:
                lines += [f"  first {text}" for text in content["why"].get(label, {}).values()]
        elif not content["instants"]:
            lines.append(f"{label} has no instant: no time at which every camera has a picture")
    return lines


def _faults(content: Json) -> str:
    lines = [f"{label} left out: {reason}" for label, reason in content["failed_bags"].items()]
    lines += not_scored(content)
    for planner, reasons in content["without_plan"].items():
        counts = ", ".join(f"{why} {count}" for why, count in reasons.items())
        lines.append(f"{planner} has no plan at some instants: {counts}")
    lines += content["notes"]
    return "<ul>" + "".join(f"<li>{_text(line)}" for line in lines) + "</ul>" if lines else ""


def _horizons(summary: Json, metric: str, title: str) -> str:
    head = "".join(f"<th>{horizon} s" for horizon in EVALUATION_HORIZONS)
    rows = []
    for name, metrics in summary.items():
        cells = "".join(
            f"<td>{e['value']:.3f} <small>({e['low']:.3f}–{e['high']:.3f})</small>"
            for e in metrics[metric].values()
        )
        rows.append(f"<tr><td>{_text(name)}{cells}")
    return f"<table><tr><th>{title}{head}{''.join(rows)}</table><br>"


def _whole(summary: Json, latency_ms: Json) -> str:
    shown = {m: entry for m, entry in _WHOLE_PLAN.items() if any(m in v for v in summary.values())}
    head = "".join(f"<th>{title}" for title, _, _ in shown.values())
    rows = []
    for name, metrics in summary.items():
        cells = ""
        for metric, (_, digits, factor) in shown.items():
            entry = metrics.get(metric, {}).get("6.4")
            cells += f"<td>{entry['value'] * factor:.{digits}f}" if entry else "<td>"
        timed = latency_ms.get(name)
        cells += f"<td>{timed['p50']:.1f}, {timed['p99']:.1f}" if timed else "<td>"
        rows.append(f"<tr><td>{_text(name)}{cells}")
    return f"<table><tr><th>{head}<th>model ms p50, p99{''.join(rows)}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
