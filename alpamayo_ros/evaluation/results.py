"""From the rows of all bags and planners to the files of an evaluation."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import BagError, UserError
from alpamayo_ros.evaluation import summary, tables
from alpamayo_ros.evaluation.campaign import Result
from alpamayo_ros.evaluation.figures import BASELINES, COMFORT_BOUNDS, MISS_M
from alpamayo_ros.evaluation.html import write_html
from alpamayo_ros.evaluation.shards import BASELINES_LABEL, Job
from alpamayo_ros.evaluation.tables import PLANNED, TIMING, Row, Shard
from alpamayo_ros.evaluation.worst import worst_pictures, worst_rows
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.parameters import PlannerSettings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was planned, in the order of planners, bags and time."""

    shards: list[Shard]
    planners: tuple[str, ...]  # models first, baselines last
    bags: Mapping[str, Path]  # those that could be read
    failed_bags: Mapping[str, str]  # label -> why
    models: Mapping[str, str]  # name -> its manifest's fingerprint

    @property
    def rows(self) -> list[Row]:
        """Of all shards."""
        return [row for shard in self.shards for row in shard.rows]

    @property
    def notes(self) -> list[Json]:
        """Of each shard."""
        return [shard.notes for shard in self.shards]


def collect(jobs: Sequence[Job], results: Sequence[Result], bags: Mapping[str, Path]) -> Evaluation:
    """The rows of all jobs; a bag that failed for one planner counts for none.

    Raises BagError where no bag could be read.
    """
    failed: dict[str, str] = {}
    for job, result in zip(jobs, results):
        if isinstance(result, str):
            failed.setdefault(job.bag_label, result)
    if len(failed) == len(bags):
        raise BagError("no bag can be evaluated:\n" + "\n".join(failed.values()))
    models = list(dict.fromkeys(job.entrant.label for job in jobs if job.entrant.is_model))
    places = {label: place for place, label in enumerate(bags)}
    kept = [
        result
        for job, result in sorted(
            zip(jobs, results),
            key=lambda pair: (
                [*models, BASELINES_LABEL].index(pair[0].entrant.label),
                places[pair[0].bag_label],
            ),
        )
        if isinstance(result, Shard) and job.bag_label not in failed
    ]
    return Evaluation(
        shards=kept,
        planners=(*models, *BASELINES),
        bags={label: path for label, path in bags.items() if label not in failed},
        failed_bags=failed,
        models=_fingerprints(jobs),
    )


def write_results(
    evaluation: Evaluation, out: Path, seed: int, settings: PlannerSettings, started_s: float
) -> Json:
    """Write every file under `out`; returns report.json's content with the summary in it.

    `started_s`: when the run began, by time.perf_counter.
    """
    rows, planners = evaluation.rows, evaluation.planners
    instants = summary.shared_instants(rows, planners)
    result = summary.summarise(rows, planners, seed)
    report: Json = {
        "bags": {label: str(path) for label, path in evaluation.bags.items()},
        "failed_bags": dict(evaluation.failed_bags),
        "planners": list(planners),
        "models": dict(evaluation.models),
        "instants": len(instants),
        "interval": {
            "level": summary.LEVEL,
            "of": summary.resampling(instants, seed).description,
        },
        "without_plan": _without_plan(rows),
        "without_future": _of_first(evaluation, "without_future"),
        "rejections": _of_first(evaluation, "rejections"),
        "why": _of_first(evaluation, "why"),
        "view_coverage": _of_first(evaluation, "view_coverage"),
        "notes": [*_notes(evaluation), *summary.doubts(instants, seed)],
        "latency_ms": summary.latency(rows, planners),
        "groups": summary.by_group(rows, planners, seed),
        "definitions": {"miss_m": MISS_M, "comfort_bounds": COMFORT_BOUNDS},
    }
    tables.write_rows(out / "rows.parquet", rows, timing=False)
    tables.write_timing(out / "timing.parquet", rows)
    pictures = {
        planner: worst_pictures(worst_rows(rows, instants, planner), evaluation.bags, settings)
        for planner in pictured(planners)
    }
    report["duration"] = _duration(evaluation, time.perf_counter() - started_s)
    content = {**report, "summary": result}
    try:
        for name, part in (("summary.json", result), ("report.json", report)):
            text = json.dumps(part, indent=2, sort_keys=True, allow_nan=False)
            (out / name).write_text(text + "\n")
        write_html(out / "report.html", content, pictures)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or out}: {error.strerror}") from error
    return content


def pictured(planners: Sequence[str]) -> list[str]:
    """Whose worst instants are shown: every model that looks, else the first."""
    return [name for name in planners if f"{name}_black" in planners] or list(planners[:1])


def _fingerprints(jobs: Sequence[Job]) -> dict[str, str]:
    """Of the models, with the options that were given for this run."""
    entrants = [job.entrant for job in jobs if job.entrant.is_model]
    given = {entrant.settings.model: entrant.settings for entrant in entrants}
    manifests = [load_manifest(name).with_options(s.model_options) for name, s in given.items()]
    return {manifest.name: manifest.fingerprint for manifest in manifests}


def _duration(evaluation: Evaluation, run_s: float) -> Json:
    """What this run took, and how much of it the models' own plans: sums over all processes."""
    fresh = [shard for shard in evaluation.shards if not shard.is_kept]
    plans_ms = [row[TIMING] for shard in fresh for row in shard.rows if row[TIMING] == row[TIMING]]
    return {
        "run_s": run_s,
        "models_s": sum(plans_ms) / 1e3,
        "shards_s": sum(shard.notes["seconds"] for shard in fresh),
        "kept_shards": len(evaluation.shards) - len(fresh),
    }


def _without_plan(rows: Sequence[Row]) -> Json:
    """Planner -> why -> instants that have a future and no plan."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if row["outcome"] != PLANNED:
            counts.setdefault(row["planner"], Counter())[row["outcome"]] += 1
    return {planner: dict(sorted(reasons.items())) for planner, reasons in counts.items()}


def _of_first(evaluation: Evaluation, name: str) -> Json:
    """Bag -> a note that all its shards share, since ticks do not depend on the planner."""
    found: Json = {}
    for notes in evaluation.notes:
        found.setdefault(notes["bag"], notes[name])
    return found


def _notes(evaluation: Evaluation) -> list[str]:
    """What the reader should know: bags in doubt, models that failed and how."""
    warnings = [text for notes in evaluation.notes for text in notes["warnings"]]
    failures = [f"{row['planner']}: {row['detail']}" for row in evaluation.rows if row["detail"]]
    return list(dict.fromkeys([*warnings, *failures]))[:20]
