"""From the rows of all bags and planners to the files of an evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import BagError, UserError
from alpamayo_ros.evaluation import summary, tables
from alpamayo_ros.evaluation.campaign import Result
from alpamayo_ros.evaluation.figures import BASELINES, COMFORT_BOUNDS, MISS_M
from alpamayo_ros.evaluation.html import write_html
from alpamayo_ros.evaluation.scores import Instant, Scores, read_scores
from alpamayo_ros.evaluation.shards import BASELINES_LABEL, Job
from alpamayo_ros.evaluation.tables import Row, StoredShard
from alpamayo_ros.evaluation.worst import worst_instants, worst_pictures
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.parameters import PlannerSettings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was planned, in the order of planners, bags and time."""

    shards: list[StoredShard]
    planners: tuple[str, ...]  # models first, baselines last
    bags: Mapping[str, Path]  # those that could be read
    failed_bags: Mapping[str, str]  # label -> why
    models: Mapping[str, str]  # name -> its manifest's fingerprint

    def rows_at(self, planner: str, instants: Sequence[Instant]) -> list[Row]:
        """A planner's rows of these instants, in their order."""
        found: dict[Instant, Row] = {}
        for bag in dict.fromkeys(bag for bag, _ in instants):
            wanted = [t0_ns for label, t0_ns in instants if label == bag]
            for shard in self.shards:
                if (shard.notes["bag"], shard.notes["planner"]) == (bag, _place(planner)):
                    rows = tables.read_rows(shard, wanted)
                    found.update({(bag, r["t0_ns"]): r for r in rows if r["planner"] == planner})
        return [found[instant] for instant in instants]


def _place(planner: str) -> str:
    """The label of the shards that have a planner's rows."""
    return BASELINES_LABEL if planner in BASELINES else planner


def collect(
    jobs: Sequence[Job],
    results: Sequence[Result],
    bags: Mapping[str, Path],
    models: Sequence[str],
) -> Evaluation:
    """The rows of all jobs in the order of `models`; a bag that failed for one counts for none.

    Raises BagError where no bag could be read.
    """
    failed: dict[str, str] = {}
    for job, result in zip(jobs, results):
        if isinstance(result, str):
            failed.setdefault(job.bag_label, result)
    if len(failed) == len(bags):
        raise BagError("no bag can be evaluated:\n" + "\n".join(failed.values()))
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
        if isinstance(result, StoredShard) and job.bag_label not in failed
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
    planners, scores = evaluation.planners, read_scores(evaluation.shards)
    instants = summary.shared_instants(scores, planners)
    result = summary.summarise(scores, planners, instants, seed)
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
        "without_plan": {
            planner: dict(sorted(of_planner.without_plan.items()))
            for planner, of_planner in scores.items()
            if of_planner.without_plan
        },
        "without_future": _of_first(evaluation, "without_future"),
        "rejections": _of_first(evaluation, "rejections"),
        "why": _of_first(evaluation, "why"),
        "view_coverage": _of_first(evaluation, "view_coverage"),
        "notes": [*_notes(evaluation, scores), *summary.doubts(instants, seed)],
        "latency_ms": summary.latency(scores, planners),
        "groups": summary.by_group(scores, planners, instants, seed),
        "definitions": {"miss_m": MISS_M, "comfort_bounds": COMFORT_BOUNDS},
    }
    tables.write_all(evaluation.shards, out / "rows.parquet", out / "timing.parquet")
    pictures = {}
    for planner in pictured(planners):
        worst = worst_instants(scores[planner], instants) if instants else []
        rows = evaluation.rows_at(planner, worst)
        pictures[planner] = worst_pictures(rows, evaluation.bags, settings)
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
    return {
        "run_s": run_s,
        "models_s": sum(shard.models_s for shard in fresh),
        "shards_s": sum(shard.notes["seconds"] for shard in fresh),
        "kept_shards": len(evaluation.shards) - len(fresh),
    }


def _of_first(evaluation: Evaluation, name: str) -> Json:
    """Bag -> a note that all its shards share, since ticks do not depend on the planner."""
    found: Json = {}
    for notes in (shard.notes for shard in evaluation.shards):
        found.setdefault(notes["bag"], notes[name])
    return found


def _notes(evaluation: Evaluation, scores: Mapping[str, Scores]) -> list[str]:
    """What the reader should know: bags in doubt, models that failed and how."""
    warnings = [text for shard in evaluation.shards for text in shard.notes["warnings"]]
    failures = [f"{planner}: {detail}" for planner, of in scores.items() for detail in of.details]
    return list(dict.fromkeys([*warnings, *failures]))[:20]
