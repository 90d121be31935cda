"""Rows of an evaluation as parquet files, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation.figures import COLUMNS

Row = dict[str, Any]

GROUPS = ("speed", "curvature", "manoeuvre")
TEXTS = (
    "bag", "planner", "outcome", "detail", "reasoning", "stated_longitudinal", "stated_lateral",
    *(f"group_{name}" for name in GROUPS),
)  # fmt: skip
INTEGERS = ("t0_ns", "candidates")
PATHS = ("path_xy_m", "future_xy_m")  # 64 x 2 flat, in the rig frame at t0
TIMING = "model_ms"  # the one figure that no two runs share: kept out of rows.parquet
PLANNED = "planned"  # `outcome` of a row with figures; else it is the rejection's reason
_METADATA = b"alpamayo_evaluation"


@dataclass(slots=True)
class Shard:
    """What one planner did on one bag."""

    rows: list[Row] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)  # counts, warnings, seconds; JSON
    is_kept: bool = False  # from an earlier run that was killed


def need_pyarrow() -> None:
    """Raises UserError where pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError(
            "parquet files need pyarrow, which is not installed: "
            "pip install 'alpamayo_ros[evaluate]' (or pyarrow)"
        ) from error


def write_rows(
    path: Path, rows: Sequence[Row], notes: Mapping[str, Any] | None = None, *, timing: bool = True
) -> None:
    """Write rows under `path` at once: a kill leaves the old file or the new one."""
    import pyarrow

    columns = _schema()
    if not timing:
        columns = columns.remove(columns.get_field_index(TIMING))
    _write(path, pyarrow.Table.from_pylist([_nulls(row) for row in rows], columns), notes or {})


def write_timing(path: Path, rows: Sequence[Row]) -> None:
    """Bag, planner, t0 and milliseconds of the planned rows."""
    import pyarrow

    names = ("bag", "planner", "t0_ns", TIMING)
    schema = pyarrow.schema([_schema().field(name) for name in names])
    timed = [_nulls(row) for row in rows if row["outcome"] == PLANNED]
    _write(path, pyarrow.Table.from_pylist(timed, schema), {})


def read_shard(path: Path) -> Shard | None:
    """A shard of an earlier run; None where there is none, or none that can be read."""
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        return None
    try:
        table = pyarrow.parquet.read_table(path)
        if not table.schema.equals(_schema()):
            return None
        notes = json.loads(table.schema.metadata[_METADATA])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException):
        return None
    return Shard([_nans(row) for row in table.to_pylist()], notes, is_kept=True)


def _schema() -> Any:
    import pyarrow as pa

    fields = [(name, pa.string()) for name in TEXTS] + [(name, pa.int64()) for name in INTEGERS]
    fields += [(name, pa.float64()) for name in (*COLUMNS, TIMING)]
    fields += [(name, pa.list_(pa.float64())) for name in PATHS]
    return pa.schema(fields)


def _write(path: Path, table: Any, notes: Mapping[str, Any]) -> None:
    import pyarrow.parquet

    metadata = {_METADATA: json.dumps(notes, sort_keys=True).encode()}
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), hidden)
        os.replace(hidden, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)


def _nulls(row: Row) -> Row:
    """NaN, "does not apply", is null in the file: averages of other tools leave it out."""
    return {
        name: None if isinstance(value, float) and value != value else value
        for name, value in row.items()
    }


def _nans(row: Row) -> Row:
    for name in (*COLUMNS, TIMING):
        if row[name] is None:
            row[name] = float("nan")
    return row
