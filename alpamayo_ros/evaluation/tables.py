"""Rows of an evaluation as parquet files, written whole or not at all.

A row is made as a mapping; from then on rows are columns, and what is not needed stays on disk: an
evaluation of a thousand drives has a million rows.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation.figures import COLUMNS
from alpamayo_ros.types import N_WAYPOINTS

Row = dict[str, Any]
Columns = dict[str, NDArray[Any]]  # (rows,) each; PATHS (rows, 128), NaN where there is no path

GROUPS = ("speed", "curvature", "manoeuvre")
TEXTS = (
    "bag", "planner", "outcome", "detail", "reasoning", "stated_longitudinal", "stated_lateral",
    *(f"group_{name}" for name in GROUPS),
)  # fmt: skip
INTEGERS = ("t0_ns", "candidates")
PATHS = ("path_xy_m", "future_xy_m")  # 64 x 2 flat, in the rig frame at t0
TIMING = "model_ms"  # the one figure that no two runs share: kept out of rows.parquet
PLANNED = "planned"  # `outcome` of a row with figures; else it is the rejection's reason
_TIMED = ("bag", "planner", "t0_ns", TIMING)
_METADATA = b"alpamayo_evaluation"
_BATCH = 20_000  # rows that are written at once: 40 MB


@dataclass(slots=True)
class Shard:
    """What one planner did on one bag."""

    columns: Columns
    notes: dict[str, Any] = field(default_factory=dict)  # counts, warnings, seconds; JSON


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A shard in its file."""

    path: Path
    notes: dict[str, Any]
    models_s: float  # of its plans that were made in one run
    is_kept: bool = False  # from an earlier run that was killed


def need_pyarrow() -> None:
    """Raises UserError where pyarrow is missing; it is imported when the first shard is there."""
    if importlib.util.find_spec("pyarrow") is None:
        raise _missing()


def _missing() -> UserError:
    return UserError(
        "parquet files need pyarrow, which is not installed: "
        "pip install 'alpamayo_ros[evaluate]' (or pyarrow)"
    )


def _parquet() -> Any:
    """pyarrow.parquet. Raises UserError where it is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise _missing() from error
    return pyarrow.parquet


def columns_of(rows: Sequence[Row]) -> Columns:
    """Rows as columns. A path is (128,), or None."""
    columns: Columns = {name: np.array([row[name] for row in rows], dtype=object) for name in TEXTS}
    for name in INTEGERS:
        columns[name] = np.array([row[name] for row in rows], dtype=np.int64)
    for name in (*COLUMNS, TIMING):
        columns[name] = np.array([row[name] for row in rows], dtype=np.float64)
    none = np.full(2 * N_WAYPOINTS, np.nan)
    for name in PATHS:
        paths = [none if row[name] is None else row[name] for row in rows]
        columns[name] = np.array(paths, dtype=np.float64).reshape(-1, len(none))
    return columns


def store(path: Path, shard: Shard) -> StoredShard:
    """Write a shard under `path` at once: a kill leaves the old file or the new one."""
    _parquet()
    import pyarrow

    schema = _schema()
    arrays = [_array(shard.columns[name], schema.field(name)) for name in schema.names]
    table = pyarrow.Table.from_arrays(arrays, schema=schema)
    notes = json.dumps(shard.notes, sort_keys=True).encode()
    table = table.replace_schema_metadata({_METADATA: notes})
    with _writer(path, table.schema) as writer:
        writer.write_table(table)
    models_s = _seconds(shard.columns[TIMING]) - shard.notes.get("reused_s", 0.0)
    return StoredShard(path, shard.notes, models_s)


def stored(path: Path) -> StoredShard | None:
    """A shard of an earlier run; None where there is none, or none that can be read."""
    if not path.is_file():
        return None
    parquet = _parquet()
    import pyarrow

    try:
        table = parquet.read_table(path)
        if not table.schema.equals(_schema()):
            return None
        notes = json.loads(table.schema.metadata[_METADATA])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException):
        return None
    return StoredShard(path, notes, _seconds(_numpy(table[TIMING])), is_kept=True)


def read_columns(shard: StoredShard, names: Collection[str]) -> Columns:
    """Some columns of a shard. Raises UserError where its file is gone."""
    table = _read(shard, list(names))
    return {name: _numpy(table[name]) for name in names}


def read_rows(shard: StoredShard, t0_ns: Collection[int] | None = None) -> list[Row]:
    """The rows of these instants (None: of all). Raises UserError where the file is gone."""
    table = _read(shard)
    if t0_ns is not None:
        table = table.filter(np.isin(_numpy(table["t0_ns"]), list(t0_ns)))
    found: list[Row] = table.to_pylist()
    return found


def write_all(shards: Sequence[StoredShard], rows: Path, timing: Path) -> None:
    """Every row but for its time, and the milliseconds of those with a plan, file by file."""
    import pyarrow

    schema = _schema()
    untimed = pyarrow.schema([column for column in schema if column.name != TIMING])
    timed = pyarrow.schema([schema.field(name) for name in _TIMED])
    with ExitStack() as stack:
        to_rows = stack.enter_context(_writer(rows, untimed))
        to_timing = stack.enter_context(_writer(timing, timed))
        for table in _batches(shards):
            planned = table.filter(_numpy(table["outcome"]) == PLANNED)
            to_rows.write_table(table.select(untimed.names))
            to_timing.write_table(planned.select(timed.names))


def _batches(shards: Sequence[StoredShard]) -> Iterator[Any]:
    """The shards' tables, small ones put together."""
    import pyarrow

    waiting: list[Any] = []
    for k, shard in enumerate(shards):
        waiting.append(_read(shard).replace_schema_metadata(None))
        if k == len(shards) - 1 or sum(table.num_rows for table in waiting) >= _BATCH:
            yield pyarrow.concat_tables(waiting).combine_chunks()
            waiting = []


def _schema() -> Any:
    import pyarrow as pa

    fields = [(name, pa.string()) for name in TEXTS] + [(name, pa.int64()) for name in INTEGERS]
    fields += [(name, pa.float64()) for name in (*COLUMNS, TIMING)]
    fields += [(name, pa.list_(pa.float64())) for name in PATHS]
    return pa.schema(fields)


def _array(values: NDArray[Any], column: Any) -> Any:
    """An Arrow array. NaN, "does not apply", is null: averages of other tools leave it out."""
    import pyarrow as pa

    if column.name not in PATHS:
        return pa.array(values, column.type, from_pandas=True)
    there = np.isfinite(values[:, 0])
    ends = np.concatenate(([0], np.cumsum(there) * values.shape[1])).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values[there].ravel()))


def _numpy(column: Any) -> NDArray[Any]:
    """(rows,) of a number or text column."""
    values: NDArray[Any] = column.to_numpy()
    return values


def _seconds(milliseconds: NDArray[Any]) -> float:
    return float(np.nansum(milliseconds)) / 1e3


def _read(shard: StoredShard, names: list[str] | None = None) -> Any:
    import pyarrow

    try:
        return _parquet().read_table(shard.path, columns=names)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{shard.path} of this evaluation cannot be read: {error}; start it again"
        ) from error


@contextmanager
def _writer(path: Path, schema: Any) -> Iterator[Any]:
    """A parquet file that has its name when it is whole."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _parquet().ParquetWriter(hidden, schema) as writer:
            yield writer
        os.replace(hidden, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)
