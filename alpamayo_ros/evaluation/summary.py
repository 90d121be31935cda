"""Means with bootstrap intervals, over all instants and by group.

Neighbouring instants share most of their future, so that they are not resampled one by one: the
unit is a bag where there are enough, else a stretch of a bag. All planners are resampled alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.evaluation.figures import COLUMNS, HORIZON_METRICS, PLAN_METRICS
from alpamayo_ros.evaluation.metrics import EVALUATION_HORIZONS
from alpamayo_ros.evaluation.scores import Instant, Scores
from alpamayo_ros.evaluation.tables import GROUPS
from alpamayo_ros.types import NS_PER_S

Array = NDArray[np.float64]
Json = dict[str, Any]

ENOUGH_BAGS = 20
STRETCH_S = 8.0  # futures are 6.4 s long: instants nearer than that share some of theirs
SHORT_S = 2.0  # of one short drive, where else there were a single stretch, and no interval at all
FEW_UNITS = 10  # with fewer, resampling understates how much another drive would differ
RESAMPLES = 1000
LEVEL = 0.95
_BOUNDS = (50 * (1 - LEVEL), 50 * (1 + LEVEL))  # percentiles
_WHOLE = "6.4"  # the horizon under which figures of the whole plan stand
# Metric and horizon of each of COLUMNS.
_ENTRIES = [
    *((metric, horizon) for metric in HORIZON_METRICS for horizon in EVALUATION_HORIZONS),
    *((metric, _WHOLE) for metric in PLAN_METRICS),
]
assert len(_ENTRIES) == len(COLUMNS)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How often each unit is drawn in each resample, the same for every figure."""

    unit_of: dict[Instant, int]
    draws: Array  # (resamples, units)
    description: str


def shared_instants(scores: Mapping[str, Scores], planners: Sequence[str]) -> list[Instant]:
    """Those at which every planner has a plan, in the order of the first one's rows."""
    if not all(planner in scores for planner in planners):
        return []
    planned = [
        [scores[name].instants[k] for k in np.flatnonzero(scores[name].planned)]
        for name in planners
    ]
    common = set(planned[0]).intersection(*planned[1:])
    return [instant for instant in planned[0] if instant in common]


def resampling(instants: Sequence[Instant], seed: int) -> Resampling:
    """The units of these instants and their seeded draws."""
    first: dict[str, int] = {}
    for bag, t0_ns in instants:
        first[bag] = min(t0_ns, first.get(bag, t0_ns))
    by_bag = len(first) >= ENOUGH_BAGS

    def units(stretch_s: float) -> dict[Instant, int]:
        keys: dict[Instant, int] = {}
        return {
            (bag, t0_ns): keys.setdefault((bag, int((t0_ns - first[bag]) / NS_PER_S / stretch_s)),
                                          len(keys))
            for bag, t0_ns in instants
        }  # fmt: skip

    stretch_s = math.inf if by_bag else STRETCH_S
    unit_of = units(stretch_s)
    if len(set(unit_of.values())) < 2:
        stretch_s = SHORT_S
        unit_of = units(stretch_s)
    count = len(set(unit_of.values()))
    draws = np.zeros((RESAMPLES, count))
    if count:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    what = "bags" if by_bag else f"stretches of {stretch_s:g} s"
    return Resampling(unit_of, draws, f"{count} {what}, {RESAMPLES} resamples, seed {seed}")


def doubts(instants: Sequence[Instant], seed: int) -> list[str]:
    """What to say where the intervals rest on too little."""
    count = len(set(resampling(instants, seed).unit_of.values()))
    if count >= FEW_UNITS or not instants:
        return []
    return [f"the intervals rest on no more than {count} stretches: take them for a hint only"]


def summarise(
    scores: Mapping[str, Scores], planners: Sequence[str], instants: Sequence[Instant], seed: int
) -> Json:
    """Planner -> metric -> horizon -> value, low, high; only what applies.

    Over `instants`, at each of which every planner has a plan. Figures of the whole plan stand
    under horizon 6.4.
    """
    sampling = resampling(instants, seed)
    return {planner: _of_planner(scores.get(planner), sampling) for planner in planners}


def by_group(
    scores: Mapping[str, Scores], planners: Sequence[str], instants: Sequence[Instant], seed: int
) -> Json:
    """Kind of group -> group -> instants, and planner -> metric -> horizon -> value, low, high."""
    result: Json = {kind: {} for kind in GROUPS}
    if not instants:
        return result
    first = scores[planners[0]]  # a group is the drive's, the same for all planners
    places = first.of(set(instants))
    for kind in GROUPS:
        members: dict[str, list[Instant]] = {}
        for place in places:
            members.setdefault(first.groups[kind][place], []).append(first.instants[place])
        for name in sorted(members):
            result[kind][name] = {
                "instants": len(members[name]),
                "planners": summarise(scores, planners, members[name], seed),
            }
    return result


def latency(scores: Mapping[str, Scores], planners: Sequence[str]) -> Json:
    """Planner -> p50, p99 and maximum of a model's own milliseconds; baselines have none."""
    result = {}
    for planner in planners:
        values = scores[planner].model_ms if planner in scores else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values):
            p50, p99, top = np.percentile(values, (50, 99, 100))
            result[planner] = {"p50": float(p50), "p99": float(p99), "max": float(top)}
    return result


def _of_planner(scores: Scores | None, sampling: Resampling) -> Json:
    result: Json = {}
    if scores is None:
        return result
    places = scores.of(sampling.unit_of)
    units = np.array([sampling.unit_of[scores.instants[k]] for k in places], dtype=int)
    entries = _means(scores.figures[places], units, sampling.draws)
    for (metric, horizon), entry in zip(_ENTRIES, entries):
        if entry is not None:
            result.setdefault(metric, {})[horizon] = entry
    return result


def _means(values: Array, units: NDArray[Any], draws: Array) -> list[Json | None]:
    """Mean and interval of each column of (rows, columns); NaN is left out, None without any."""
    there = np.isfinite(values)
    sums = np.zeros((draws.shape[1], values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, units, np.where(there, values, 0.0))
    np.add.at(counts, units, there)
    weight = draws @ counts
    drawn = (draws @ sums) / np.where(weight > 0, weight, 1.0)
    bounds = np.percentile(drawn, _BOUNDS, axis=0)
    for column in np.flatnonzero((weight == 0).any(axis=0) & there.any(axis=0)):
        # A resample without any value of this figure has no mean, and is no resample of it.
        bounds[:, column] = np.percentile(drawn[weight[:, column] > 0, column], _BOUNDS)
    return [
        {
            "value": float(values[there[:, column], column].mean()),
            "low": float(bounds[0, column]),
            "high": float(bounds[1, column]),
        }
        if there[:, column].any()
        else None
        for column in range(values.shape[1])
    ]
