"""One planner on one bag: every instant whose whole future was recorded, planned and scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_for
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.buffers import LazyImage
from alpamayo_ros.evaluation.figures import (
    COLUMNS,
    ScoredPath,
    Truth,
    baseline_paths,
    figures,
    path_of,
)
from alpamayo_ros.evaluation.scoring import Scorer
from alpamayo_ros.evaluation.tables import PLANNED, TIMING, Row, Shard
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH, Plan, Rejection
from alpamayo_ros.worker import run

BASELINES_LABEL = "baselines"
_BLACK = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8)
_BLACK.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who plans: a model, the same on black images, or (without settings) the baselines."""

    label: str
    settings: PlannerSettings
    is_model: bool = True
    black: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One entrant on one bag."""

    bag: Path
    bag_label: str
    entrant: Entrant


def evaluate(job: Job, progress: Callable[[float], None] = lambda done_s: None) -> Shard:
    """The rows of one job. Raises UserError where the bag or the model cannot be had."""
    settings = job.entrant.settings
    backend = _backend(job.entrant) if job.entrant.is_model else None
    with BagReader(job.bag) as bag:
        check_inputs(bag, settings)
        if backend is not None:
            names = tuple(camera.name for camera in settings.cameras)
            backend.manifest.cameras.check(names, backend.manifest.name)
        context = read_context(bag, settings)
        ticks = Ticks(bag, settings, context, backend.resize if backend else None)
        rejected: Counter[str] = Counter()
        unscored = 0
        rows: list[Row] = []
        for tick in ticks.all(progress):
            if isinstance(tick, Rejection):
                rejected[tick.reason.value] += 1
                continue
            truth = _truth(context.scorer, tick)
            if truth is None:
                unscored += 1
                continue
            rows.extend(_rows(job, tick, truth, backend, ticks))
        notes = {
            "bag": job.bag_label,
            "planner": job.entrant.label,
            "rejections": dict(sorted(rejected.items())),
            "without_future": unscored,
            "warnings": list(bag.warnings),
        }
    return Shard(rows, notes)


def _truth(scorer: Scorer, selection: Selection) -> Truth | None:
    """What was recorded after an instant; None where it is not whole."""
    futures = scorer.futures(np.array([selection.t0_ns], dtype=np.int64))
    if not futures.whole[0]:
        return None
    return Truth(futures.xyz_m[0], futures.headings_rad[0], selection.speed_mps)


def _rows(
    job: Job,
    selection: Selection,
    truth: Truth,
    backend: PlannerBackend | None,
    ticks: Ticks,
) -> Iterator[Row]:
    """The model's row of one instant, or the baselines' three."""
    if backend is None:
        for name, path in baseline_paths(selection.speed_mps, selection.yaw_rate_rps).items():
            yield {**_common(job, selection, truth, name), **_scored(path, truth)}
        return
    row = _common(job, selection, truth, job.entrant.label)
    blind = job.entrant.black or not backend.manifest.uses_images
    outcome = run(backend, _blacked(selection) if blind else selection)
    if outcome.unreadable is not None:
        ticks.discard(outcome.unreadable)
    if outcome.plan is None:
        assert outcome.rejection is not None
        row["outcome"] = outcome.rejection.reason.value
        row["detail"] = outcome.rejection.detail
        yield row
        return
    row.update(_scored(path_of(outcome.plan), truth, outcome.plan))
    row[TIMING] = float(outcome.stage_ms["model"])
    yield row


def _common(job: Job, selection: Selection, truth: Truth, planner: str) -> Row:
    """What every row has, and its figures as long as there is no plan."""
    row: Row = {
        "bag": job.bag_label,
        "planner": planner,
        "t0_ns": selection.t0_ns,
        "outcome": PLANNED,
        "detail": "",
        "reasoning": "",
        "stated_longitudinal": "",
        "stated_lateral": "",
        "candidates": 0,
        "path_xy_m": [],
        "future_xy_m": truth.xyz_m[:, :2].ravel().tolist(),
    }
    row.update({f"group_{kind}": name for kind, name in truth.groups.items()})
    row.update(dict.fromkeys((*COLUMNS, TIMING), float("nan")))
    return row


def _scored(path: ScoredPath, truth: Truth, plan: Plan | None = None) -> Row:
    row: dict[str, Any] = dict(figures(path, truth, plan))
    row["candidates"] = len(path.candidates_xyz_m)
    row["path_xy_m"] = path.xyz_m[:, :2].ravel().tolist()
    if plan is not None:
        row["reasoning"] = plan.reasoning
        row["stated_longitudinal"] = plan.decisions.longitudinal
        row["stated_lateral"] = plan.decisions.lateral
    return row


def _blacked(selection: Selection) -> Selection:
    """The same instant without its pixels, which are then never decoded."""
    black = LazyImage(lambda: _BLACK)
    slots = tuple(tuple(replace(slot, image=black) for slot in row) for row in selection.slots)
    return replace(selection, slots=slots)


# The model of this process: loading one for every bag would take longer than the bags.
_loaded: tuple[PlannerSettings, PlannerBackend] | None = None


def _backend(entrant: Entrant) -> PlannerBackend:
    """The entrant's model, loaded, and with no memory of another bag."""
    global _loaded
    settings = entrant.settings
    if _loaded is None or _key(_loaded[0]) != _key(settings):
        close_model()
        backend = create_for(settings)
        backend.load()
        _loaded = settings, backend
    backend = _loaded[1]
    backend.warm_up([camera.name for camera in settings.cameras])
    return backend


def close_model() -> None:
    """Give back what this process has loaded."""
    global _loaded
    if _loaded is not None:
        _loaded[1].close()
    _loaded = None


def _key(settings: PlannerSettings) -> tuple[Any, ...]:
    options = tuple(sorted((name, repr(value)) for name, value in settings.model_options.items()))
    return settings.model, settings.backend, options, settings.chain_of_causation
