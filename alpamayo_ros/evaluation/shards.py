"""One planner on one bag: every instant whose whole future was recorded, planned and scored."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_for
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.errors import BagError, UserError
from alpamayo_ros.evaluation.figures import (
    COLUMNS,
    ScoredPath,
    Truth,
    baseline_paths,
    figures,
    path_of,
)
from alpamayo_ros.evaluation.journal import Journal
from alpamayo_ros.evaluation.scoring import Scorer
from alpamayo_ros.evaluation.tables import PLANNED, TIMING, Row, Shard, columns_of
from alpamayo_ros.jobs import cores
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import Selection, UnreadableFrame
from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH, Plan, Rejection
from alpamayo_ros.worker import run

BASELINES_LABEL = "baselines"
_BLACK = LazyImage(lambda: np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8))


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
    part: Path | None = None  # for its rows so far, lest they are lost in a kill


@dataclass(frozen=True, slots=True)
class Instant:
    """One that is scored: what was there to plan from, and what the vehicle then did."""

    selection: Selection
    truth: Truth
    common: Row  # what the rows of all planners share


@dataclass(slots=True)
class Pass:
    """What one reading of a bag gave, without pixels."""

    bag: Path
    instants: list[Instant] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)  # the first of each reason, in full
    without_future: int = 0
    warnings: list[str] = field(default_factory=list)
    view_coverage: dict[str, float] = field(default_factory=dict)  # of cameras, with rig_views


class Evaluator:
    """Does jobs one after the other: keeps its model, and the last bag's instants for planners
    that do not look, which are most of the work of a bag and the same for all of them.

    The jobs' settings may differ in the model alone.
    """

    def __init__(self) -> None:
        self._loaded: tuple[PlannerSettings, PlannerBackend] | None = None
        self._kept: Pass | None = None

    def evaluate(self, job: Job) -> Shard:
        """The rows of one job. Raises UserError where the bag or the model cannot be had."""
        started = time.perf_counter()
        backend = self._backend(job.entrant) if job.entrant.is_model else None
        if backend is not None:
            names = tuple(camera.name for camera in job.entrant.settings.cameras)
            backend.manifest.cameras.check(names, backend.manifest.name)
        looks = backend is not None and backend.manifest.uses_images and not job.entrant.black
        rows: list[Row] = []
        journal = Journal(job.part if backend is not None else None)
        if not looks and self._kept is not None and self._kept.bag == job.bag:
            seen = self._kept
            for instant in seen.instants:
                rows.extend(_rows(job, instant, backend, journal)[0])
                journal.keep(rows)
        else:
            self._kept = None  # the memory of one bag at a time
            seen = self._read(job, backend, looks, rows, journal)
        notes = {
            "bag": job.bag_label,
            "planner": job.entrant.label,
            "rejections": dict(sorted(seen.rejected.items())),
            "why": seen.why,
            "view_coverage": seen.view_coverage,
            "without_future": seen.without_future,
            "warnings": seen.warnings,
            "seconds": time.perf_counter() - started,
            "reused_s": journal.reused_s,
        }
        return Shard(columns_of(rows), notes)

    def close(self) -> None:
        """Give back what is loaded."""
        if self._loaded is not None:
            self._loaded[1].close()
        self._loaded = self._kept = None

    def _read(
        self,
        job: Job,
        backend: PlannerBackend | None,
        looks: bool,
        rows: list[Row],
        journal: Journal,
    ) -> Pass:
        """Read the bag and plan on the way, while its pixels are there; adds to `rows`."""
        settings = job.entrant.settings
        seen = Pass(job.bag)
        discarded = False
        with BagReader(job.bag) as bag, _decoding(looks) as decode_soon:
            check_inputs(bag, settings)
            try:
                context = read_context(bag, settings)
                resize = backend.resize if backend else None
                ticks = Ticks(bag, settings, context, resize, decode_soon)
            except UserError as error:  # frames that nothing relates: the next bag may be better
                raise BagError(f"{job.bag}: {error}") from error
            for tick in ticks.all():
                if isinstance(tick, Rejection):
                    seen.rejected[tick.reason.value] += 1
                    seen.why.setdefault(tick.reason.value, str(tick))
                    continue
                truth = _truth(context.scorer, tick)
                if truth is None:
                    seen.without_future += 1
                    continue
                instant = Instant(_blacked(tick), truth, _common(job, tick, truth))
                seen.instants.append(instant)
                given = replace(instant, selection=tick) if looks else instant
                made, unreadable = _rows(job, given, backend, journal)
                rows.extend(made)
                journal.keep(rows)
                if unreadable is not None:
                    discarded = True
                    ticks.discard(unreadable)
            seen.view_coverage = ticks.view_coverage
            seen.warnings = [*bag.warnings, *_masked(job.bag_label, seen.view_coverage)]
        # A frame that does not decode is selected no more, and only who looks can know: others have
        # ticks of their own then, whatever this process did before.
        self._kept = None if discarded else seen
        return seen

    def _backend(self, entrant: Entrant) -> PlannerBackend:
        """The entrant's model, loaded, and with no memory of another bag."""
        settings = entrant.settings
        if self._loaded is None or _key(self._loaded[0]) != _key(settings):
            if self._loaded is not None:
                self._loaded[1].close()
                self._loaded = None
            backend = create_for(settings)
            backend.load()
            self._loaded = settings, backend
        backend = self._loaded[1]
        backend.warm_up([camera.name for camera in settings.cameras])
        return backend


@contextmanager
def _decoding(looks: bool) -> Iterator[Callable[[LazyImage], object]]:
    """Decodes images beside the reading of others; never beside the model, whose time counts."""
    if not looks or cores() == 1:
        yield lambda image: None
        return
    with ThreadPoolExecutor(1) as pool:
        yield lambda image: pool.submit(image.get)


def _masked(label: str, view_coverage: Mapping[str, float]) -> list[str]:
    """What the model is not shown of a bag."""
    return [
        f"{label}: {name} sees {share:.0%} of the model's view, the rest is black"
        for name, share in view_coverage.items()
        if share < 0.995
    ]


def _truth(scorer: Scorer, selection: Selection) -> Truth | None:
    """What was recorded after an instant; None where it is not whole."""
    futures = scorer.futures(np.array([selection.t0_ns], dtype=np.int64))
    if not futures.whole[0]:
        return None
    return Truth(futures.xyz_m[0], futures.headings_rad[0], selection.speed_mps)


def _rows(
    job: Job, instant: Instant, backend: PlannerBackend | None, journal: Journal
) -> tuple[list[Row], UnreadableFrame | None]:
    """The model's row of one instant, or the baselines' three; a frame that does not decode."""
    selection, truth = instant.selection, instant.truth
    if backend is None:
        paths = baseline_paths(selection.speed_mps, selection.yaw_rate_rps)
        return [
            {**instant.common, "planner": name, **_scored(path, truth)}
            for name, path in paths.items()
        ], None
    known = journal.plan_at(selection.t0_ns)
    if known is not None:
        return [known], None
    row = {**instant.common, "planner": job.entrant.label}
    outcome = run(backend, selection)
    if outcome.plan is None:
        assert outcome.rejection is not None
        row["outcome"] = outcome.rejection.reason.value
        row["detail"] = outcome.rejection.detail
        return [row], outcome.unreadable
    row.update(_scored(path_of(outcome.plan), truth, outcome.plan))
    row[TIMING] = float(outcome.stage_ms["model"])
    return [row], outcome.unreadable


def _common(job: Job, selection: Selection, truth: Truth) -> Row:
    """What every row has, and its figures as long as there is no plan."""
    row: Row = {
        "bag": job.bag_label,
        "t0_ns": selection.t0_ns,
        "outcome": PLANNED,
        "detail": "",
        "reasoning": "",
        "stated_longitudinal": "",
        "stated_lateral": "",
        "candidates": 0,
        "path_xy_m": None,
        "future_xy_m": truth.xyz_m[:, :2].ravel(),
    }
    row.update({f"group_{kind}": name for kind, name in truth.groups.items()})
    row.update(dict.fromkeys((*COLUMNS, TIMING), float("nan")))
    return row


def _scored(path: ScoredPath, truth: Truth, plan: Plan | None = None) -> Row:
    row: dict[str, Any] = dict(figures(path, truth, plan))
    row["candidates"] = len(path.candidates_xyz_m)
    row["path_xy_m"] = path.xyz_m[:, :2].ravel()
    if plan is not None:
        row["reasoning"] = plan.reasoning
        row["stated_longitudinal"] = plan.decisions.longitudinal
        row["stated_lateral"] = plan.decisions.lateral
    return row


def _blacked(selection: Selection) -> Selection:
    """The same instant without its pixels, which are then never decoded."""
    slots = tuple(
        tuple(FrameSlot(slot.camera, slot.stamp_ns, slot.arrival_ns, _BLACK) for slot in row)
        for row in selection.slots
    )
    return replace(selection, slots=slots)


def _key(settings: PlannerSettings) -> tuple[Any, ...]:
    options = tuple(sorted((name, repr(value)) for name, value in settings.model_options.items()))
    return settings.model, settings.backend, options, settings.chain_of_causation
