"""Values as no driver should send them, and good bytes with damage done to them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
REALS = st.one_of(
    st.floats(-100.0, 100.0),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e-160, 1e160, 1.8e308]),
)
TEXTS = st.one_of(
    st.sampled_from(["", "base_link", "odom", "/odom", "map", "rgb8", "jpeg"]), st.text(max_size=40)
)
PLAIN = st.one_of(
    st.none(), st.booleans(), INT32, st.integers(), REALS, TEXTS,
    st.dates(), st.binary(max_size=8),
)  # fmt: skip
TREES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(TEXTS, INT32), inner, max_size=4)
    ),
    max_leaves=8,
)


def xyz(values: st.SearchStrategy[float] = REALS) -> st.SearchStrategy[Any]:
    """A Point or Vector3."""
    return st.builds(SimpleNamespace, x=values, y=values, z=values)


def quaternions() -> st.SearchStrategy[Any]:
    """Wild, or of unit length."""
    unit = st.floats(-math.pi, math.pi).map(
        lambda yaw: SimpleNamespace(x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2))
    )
    return st.one_of(unit, st.builds(SimpleNamespace, x=REALS, y=REALS, z=REALS, w=REALS))


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """`good` with bytes overwritten, cut out, put in, or its end cut off."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["set", "bit", "cut", "insert", "end", "word"]))
        if kind == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "word":
            data[at : at + 4] = draw(UINT32).to_bytes(4, draw(st.sampled_from(["little", "big"])))
        else:
            del data[at:]
    return bytes(data)


@st.composite
def damaged_text(draw: st.DrawFn, good: str) -> str:
    """The same for a text: lines doubled and lost, characters changed."""
    lines = good.split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["drop", "double", "value", "raw"]))
        if kind == "drop":
            lines[at] = ""
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "value":
            key, colon, _ = lines[at].partition(":")
            lines[at] = key + colon + " " + draw(st.one_of(TEXTS, REALS.map(str), PLAIN.map(repr)))
        else:
            lines[at] = draw(st.text(max_size=20))
    text = "\n".join(lines)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.characters(codec="utf-8")) + text[at + draw(st.integers(0, 3)) :]
    return text


def mutated_tree(good: Any) -> st.SearchStrategy[Any]:
    """A JSON-like value with one of its parts replaced, dropped or added to."""

    @st.composite
    def change(draw: st.DrawFn) -> Any:
        return _changed(draw, good, draw(st.integers(0, 5)))

    return change()


def _changed(draw: st.DrawFn, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and value and depth:
        key = draw(st.sampled_from(sorted(value, key=str)))
        rest = {name: item for name, item in value.items() if name != key}
        kind = draw(st.sampled_from(["into", "into", "into", "drop", "add"]))
        if kind == "into":
            return {**value, key: _changed(draw, value[key], depth - 1)}
        return rest if kind == "drop" else {**value, draw(TEXTS): draw(TREES)}
    if isinstance(value, list) and value and depth and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _changed(draw, value[at], depth - 1), *value[at + 1 :]]
    return draw(TREES)
