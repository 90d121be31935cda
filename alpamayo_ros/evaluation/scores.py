"""The figures of all rows as arrays, planner by planner: what is held in memory of an evaluation.

About 1.4 KB a row; texts and paths stay in the shards' files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.evaluation.figures import COLUMNS
from alpamayo_ros.evaluation.tables import (
    GROUPS,
    PLANNED,
    TIMING,
    Columns,
    StoredShard,
    read_columns,
)

Array = NDArray[np.float64]
Instant = tuple[str, int]  # bag, t0 in ns

DETAILS = 20  # different ones of a planner that are kept: every row may have its own
_NAMES = (
    "bag", "planner", "outcome", "detail", "t0_ns", *(f"group_{kind}" for kind in GROUPS),
    *COLUMNS, TIMING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scores:
    """One planner's rows, in the order of bags and time."""

    instants: list[Instant]
    groups: Mapping[str, NDArray[Any]]  # kind -> (n,) the group of each
    figures: Array  # (n, COLUMNS), NaN where one does not apply
    model_ms: Array  # (n,), NaN of baselines
    planned: NDArray[np.bool_]  # (n,)
    without_plan: Counter[str]  # why -> instants
    details: list[str]  # of the failures, the first DETAILS different ones

    def of(self, instants: Container[Instant]) -> NDArray[np.intp]:
        """The places of the instants that are among these."""
        return np.flatnonzero([instant in instants for instant in self.instants])


def read_scores(shards: Sequence[StoredShard]) -> dict[str, Scores]:
    """Planner -> its rows in all shards, which are read one after the other. Raises UserError."""
    return scores_of(read_columns(shard, _NAMES) for shard in shards)


def scores_of(tables: Iterable[Columns]) -> dict[str, Scores]:
    """As `read_scores`, of tables at hand, of one or more planners each."""
    parts: dict[str, list[Scores]] = {}
    words: dict[str, str] = {}  # the same few, in every row of every file
    for table in tables:
        names = table["planner"]
        for planner in dict.fromkeys(names):
            own = {name: values[names == planner] for name, values in table.items()}
            parts.setdefault(planner, []).append(_part(own, words))
    return {planner: _joined(of_planner) for planner, of_planner in parts.items()}


def _part(own: Columns, words: dict[str, str]) -> Scores:
    planned = own["outcome"] == PLANNED

    def one(values: NDArray[Any]) -> list[str]:
        return [words.setdefault(text, text) for text in values]

    return Scores(
        list(zip(one(own["bag"]), own["t0_ns"].tolist())),
        {kind: np.array(one(own[f"group_{kind}"]), dtype=object) for kind in GROUPS},
        np.stack([own[name] for name in COLUMNS], axis=1),
        own[TIMING],
        planned,
        Counter(own["outcome"][~planned].tolist()),
        [text for text in dict.fromkeys(own["detail"].tolist()) if text][:DETAILS],
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    details = dict.fromkeys(text for part in parts for text in part.details)
    return Scores(
        [instant for part in parts for instant in part.instants],
        {kind: np.concatenate([part.groups[kind] for part in parts]) for kind in GROUPS},
        np.concatenate([part.figures for part in parts]),
        np.concatenate([part.model_ms for part in parts]),
        np.concatenate([part.planned for part in parts]),
        sum((part.without_plan for part in parts), Counter()),
        list(details)[:DETAILS],
    )
