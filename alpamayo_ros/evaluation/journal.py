"""The rows of a job under way, on disk now and then: a run that is killed loses half a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation import tables
from alpamayo_ros.evaluation.figures import COLUMNS
from alpamayo_ros.evaluation.tables import PATHS, PLANNED, TIMING, Row, Shard, columns_of

LOGGER = logging.getLogger(__name__)

EVERY_S = 30.0
_SHARE = 20.0  # all rows are written each time: no more than this part of the time goes into it


class Journal:
    """One job's. Without a path it keeps nothing.

    Plans alone are taken up again. What failed is tried again: a frame that does not decode has to
    be found anew, or later instants would select it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.reused_s = 0.0  # what the models took for the plans that were taken up
        shard = tables.stored(path) if path is not None else None
        rows = tables.read_rows(shard) if shard is not None else []
        self._known = {row["t0_ns"]: _as_made(row) for row in rows if row["outcome"] == PLANNED}
        self._next_s = time.monotonic() + EVERY_S

    def plan_at(self, t0_ns: int) -> Row | None:
        """The row of an instant that the killed run had planned."""
        row = self._known.pop(t0_ns, None)
        if row is not None:
            self.reused_s += row[TIMING] / 1e3
        return row

    def keep(self, rows: Sequence[Row]) -> None:
        """All rows so far; written if it is time, with those that are still to be taken up."""
        started_s = time.monotonic()
        if self._path is None or started_s < self._next_s:
            return
        try:
            tables.store(self._path, Shard(columns_of([*rows, *self._known.values()])))
        except UserError as error:  # a worker of a cluster may see no folder of the caller's
            self._path = None
            LOGGER.warning("%s; a kill loses what this worker has planned", error)
        ended_s = time.monotonic()
        self._next_s = ended_s + max(EVERY_S, _SHARE * (ended_s - started_s))


def _as_made(row: Row) -> Row:
    """A row from a file as `columns_of` takes it."""
    for name in (*COLUMNS, TIMING):
        if row[name] is None:
            row[name] = float("nan")
    for name in PATHS:
        row[name] = np.array(row[name]) if row[name] else None
    return row
