"""YAML: plain values; aliases where they are taken, and nothing that nests or unfolds for ever."""

from __future__ import annotations

import pytest

from alpamayo_ros.yaml_text import MAX_DEPTH, MAX_UNFOLDED, YamlError, load_yaml

ALIASES = "a: &a {x: [1, 2]}\nb: {<<: *a, y: 3}\nc: *a"
LISTS = "a0: &a0 [1, 1]\n"
MAPPINGS = "a0: &a0 {x: 1}\n"


def chain(first: str, entry: str, count: int) -> str:
    """Lines of which each names the one before it."""
    lines = [f"a{k + 1}: &a{k + 1} {entry.replace('*', f'*a{k}')}" for k in range(count)]
    return first + "\n".join(lines)


def test_aliases() -> None:
    """And merge keys: where they are asked for, and nowhere else."""
    value = {"x": [1, 2]}
    assert load_yaml(ALIASES, aliases=True) == {"a": value, "b": {**value, "y": 3}, "c": value}
    with pytest.raises(YamlError, match="aliases .* are not taken"):
        load_yaml(ALIASES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (chain(LISTS, "[*, *]", 40), f"unfold to more than {MAX_UNFOLDED}"),
        (chain(MAPPINGS, "{<<: [*, *]}", 25), f"unfold to more than {MAX_UNFOLDED}"),
        (chain(LISTS, "[*]", MAX_DEPTH), f"more than {MAX_DEPTH} deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        ("a: &a [*a]", "[*]a names nothing before it"),
        ("a: &a {b: {<<: *a}}", "[*]a names nothing before it"),
        ("a: *b\nb: &b 1", "[*]b names nothing before it"),
        ("a: &a 1\nb: &a 2", "duplicate anchor"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """Long before it costs time or memory."""
    with pytest.raises(YamlError, match=said):
        load_yaml(text, aliases=True)


def test_what_is_just_taken() -> None:
    """The bounds are those that the refusals name."""
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert load_yaml(chain(LISTS, "[*]", MAX_DEPTH - 3), aliases=True)
    assert load_yaml(chain(LISTS, "[*, *]", 9), aliases=True)
