"""Dataclasses of arrays and plain values to JSON and bytes, and back by their declared types.

Nothing in what is read says which class to make, as a pickle would: the reader does.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Made = TypeVar("Made")
PLAIN = (str, int, float, bool)


def pack(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """What JSON can say of `value`; its arrays are appended to `arrays`. Raises TypeError."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return {"dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        return {entry.name: pack(getattr(value, entry.name), arrays) for entry in fields(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: pack(item, arrays) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [pack(item, arrays) for item in value]
    raise TypeError(f"{value!r} cannot be handed to another process")


class ArrayReader:
    """Read-only arrays out of one buffer, in the order in which they were packed."""

    def __init__(self, buffer: bytes | bytearray | memoryview) -> None:
        self._buffer, self._offset = memoryview(buffer), 0

    def take(self, told: Mapping[str, Any]) -> NDArray[Any]:
        """The next array. Raises ValueError where the buffer has less than what is told."""
        dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        if dtype.hasobject:
            raise ValueError(f"an array of {dtype}")
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        piece = self._buffer[self._offset : self._offset + size].toreadonly()
        self._offset += size
        return np.frombuffer(piece, dtype).reshape(shape)


def unpack(kind: type[Made], told: Any, reader: ArrayReader, **given: Any) -> Made:
    """A dataclass of type `kind`; `given` are fields that did not travel with it.

    Raises ValueError where what is told does not fit the class.
    """
    try:
        return _unpacked(kind, told, reader, given)
    except Exception as error:  # strangers' values may be wrong in any way
        raise ValueError(f"no {kind.__name__}: {type(error).__name__}: {error}") from error


def _unpacked(kind: type[Made], told: Any, reader: ArrayReader, given: Mapping[str, Any]) -> Made:
    hints = _hints(kind)  # type: ignore[arg-type]
    values = {
        entry.name: _value(hints[entry.name], told[entry.name], reader)
        for entry in fields(kind)  # type: ignore[arg-type]
        if entry.name not in given
    }
    return kind(**values, **given)


def _value(hint: Any, told: Any, reader: ArrayReader) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if told is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(hint, told, reader)
    if origin is np.ndarray:
        return reader.take(told)
    if origin is tuple:
        items = arguments[:1] * len(told) if arguments[1:] == (Ellipsis,) else arguments
        return tuple(_value(item, entry, reader) for item, entry in zip(items, told, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _value(arguments[1], item, reader) for key, item in told.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return _unpacked(hint, told, reader, {})
    if isinstance(hint, type) and issubclass(hint, (enum.Enum, Path)):
        return hint(told)
    if hint is float:
        return float(told)
    if hint is Any or isinstance(told, hint):
        return told
    raise TypeError(f"{told!r} is no {hint}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
