"""Message types for recordings: ROS 2 Jazzy's own and this package's, without ROS.

A rosbags `Typestore` serialises messages and holds their classes. Types of the standard packages
are the same bytes in Humble, Jazzy and Kilted, so that one store serves bags of all three.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from alpamayo_ros.errors import BagError
from alpamayo_ros.resources import resource

_DTYPES = {"byte": "uint8", "char": "uint8"}  # every other ROS number is named as in numpy


@functools.lru_cache(maxsize=1)
def package_typestore() -> Typestore:
    """The shared store of Jazzy's types and alpamayo_ros/msg/*; never register into it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    definitions: dict[str, Any] = {}
    for path in sorted(resource("msg").glob("*.msg")):
        name = f"alpamayo_ros/msg/{path.stem}"
        definitions.update(get_types_from_msg(path.read_text(encoding="utf-8"), name))
    store.register(definitions)
    return store


def make_message(store: Typestore, msgtype: str, fields: dict[str, Any]) -> Any:
    """A message of `msgtype`; fields not named are zero, empty or default messages.

    Number sequences may come as lists, bytes or arrays of any number type: they are brought to the
    field's type here, since rosbags would write the memory of another type as it is. Raises
    BagError for an unknown type or field, or a wrong length.
    """
    if msgtype not in store.fielddefs:
        raise BagError(f"{msgtype} is not a known message type")
    definition = dict(store.fielddefs[msgtype][1])
    if unknown := sorted(set(fields) - set(definition)):
        raise BagError(
            f"{msgtype} has no field {', '.join(unknown)}; its fields: {', '.join(definition)}"
        )
    values = {
        name: _coerced(f"{msgtype}.{name}", kind, fields[name])
        if name in fields
        else _default(store, kind)
        for name, kind in definition.items()
    }
    return store.types[msgtype](**values)


def _default(store: Typestore, kind: Any) -> Any:
    """The value that a ROS 2 constructor gives a field of this kind."""
    node, detail = kind
    if node == Nodetype.NAME:
        return make_message(store, detail, {})
    if node == Nodetype.BASE:
        return {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(detail[0], 0)
    element, length = detail
    count = length if node == Nodetype.ARRAY else 0  # a sequence's length is only its bound
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        return np.zeros(count, _dtype(element))
    return [_default(store, element) for _ in range(count)]


def _coerced(name: str, kind: Any, value: Any) -> Any:
    """`value` for a field; number sequences as contiguous arrays of the field's type."""
    node, detail = kind
    if node not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return value
    element, length = detail
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        dtype = _dtype(element)
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = np.frombuffer(value, dtype)
        value = np.ascontiguousarray(value, dtype).reshape(-1)
    if node == Nodetype.ARRAY and len(value) != length:
        raise BagError(f"{name} has {len(value)} values, wanted {length}")
    return value


def _dtype(element: Any) -> Any:
    name = element[1][0]
    return np.dtype(_DTYPES.get(name, name))
