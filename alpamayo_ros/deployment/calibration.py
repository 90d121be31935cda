"""Recordings for calibration: what ranges come from, and what shows the cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.errors import BagError
from alpamayo_ros.evaluation.metrics import displacement
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.types import NS_PER_S, PlannerSample

PLAN_PERIOD_S = 0.1
WARM_UP_S = 1.8  # of each recording, before its first plan
Done = Callable[[float], None]
Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Instant:
    """One sample of a recording, and where the vehicle then drove, where it is known."""

    sample: PlannerSample
    future_xyz: NDArray[np.float64] | None  # (64, 3) in the rig frame at t0


@dataclass(slots=True)
class Feeds:
    """Inputs of both graphs."""

    encoder: list[Feed] = field(default_factory=list)
    policy: list[Feed] = field(default_factory=list)


def instants(
    bags: Sequence[Path], settings: PlannerSettings, count: int, done: Done = lambda share: None
) -> Iterator[Instant]:
    """About `count` instants, evenly over all bags. Raises BagError where a bag has none."""
    lengths = [max(_length_s(path) - WARM_UP_S, PLAN_PERIOD_S) for path in bags]
    every = max(1, round(sum(lengths) / PLAN_PERIOD_S / count))
    given = 0
    for number, path in enumerate(bags):
        before = given
        with BagReader(path) as bag:
            context = read_context(bag, settings)
            ticks = Ticks(bag, settings, context)
            selections = (tick for tick in ticks.all() if isinstance(tick, Selection))
            for index, selection in enumerate(selections):
                if index % every or given >= count:
                    continue
                try:
                    sample = materialise(selection)
                except UnreadableFrame as unreadable:
                    ticks.discard(unreadable)
                    continue
                given += 1
                yield Instant(sample, context.scorer.true_future(sample.t0_ns))
                done(min(given / count, 1.0))
        if given == before and given < count:
            raise BagError(f"{path} has no instant to calibrate on: its topics lack a camera or "
                           f"odometry for 1.5 s (bag {number + 1} of {len(bags)})")  # fmt: skip


def collect(planner: StudentPlanner, chosen: Iterator[Instant]) -> Feeds:
    """What the graphs were given in planning: the newest frames and the policy's call of each.

    Images are kept as float16: 500 instants of four cameras fit in memory, and ranges do not
    depend on their fourth digit.
    """
    feeds = Feeds()
    for instant in chosen:
        inputs = planner.plan(instant.sample).inputs
        feeds.policy.append({name: np.array(array) for name, array in inputs.items()})
        newest = planner.cache.newest_images(instant.sample)
        feeds.encoder.append({"images": newest.astype(np.float16)})
    return feeds


def accuracy(
    reference: StudentPlanner, other: StudentPlanner, chosen: Iterator[Instant]
) -> dict[str, Any]:
    """Average displacement errors of both over the same instants, and of one from the other.

    `ade_change` is the relative change of the error against where the vehicle drove; None where no
    instant's 6.4 s are in the recording. Metres.
    """
    apart: list[float] = []
    errors: dict[str, list[float]] = {"reference": [], "other": []}
    for instant in chosen:
        plans = {"reference": reference.plan(instant.sample), "other": other.plan(instant.sample)}
        one, two = (plan.xyz_in_rig_t0 for plan in plans.values())
        apart.append(float(displacement(two, one).mean()))
        if instant.future_xyz is not None:
            for name, plan in plans.items():
                error = displacement(plan.xyz_in_rig_t0, instant.future_xyz).mean()
                errors[name].append(float(error))
    scored = len(errors["reference"])
    ade = {name: float(np.mean(values)) if scored else None for name, values in errors.items()}
    before, after = ade["reference"], ade["other"]
    change = None
    if before is not None and after is not None:
        change = (after - before) / max(before, 1e-9)
    return {
        "instants": len(apart),
        "scored": scored,
        "ade_fp32_m": before,
        "ade_m": after,
        "ade_change": change,
        "from_fp32_mean_m": float(np.mean(apart)) if apart else None,
        "from_fp32_max_m": float(np.max(apart)) if apart else None,
    }


def _length_s(path: Path) -> float:
    with BagReader(path) as bag:
        return (bag.end_ns - bag.start_ns) / NS_PER_S
