"""YAML of files and parameters: plain values of bounded depth, one error for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent
from yaml.nodes import Node

MAX_DEPTH = 32  # the deepest file of ours has 5
MAX_CHARACTERS = 1 << 20  # ours have 30 thousand
MAX_UNFOLDED = 10_000  # values of a text with every alias written out; a chain of ours has 300


class YamlError(ValueError):
    """No YAML, or more than is taken; the message fits on a line."""


class _Loader(yaml.SafeLoader):
    """No endless nesting. Aliases, where they are taken, name what is complete, and count as what
    they stand for: they neither nest for ever nor unfold to gigabytes."""

    def __init__(self, text: str, takes_aliases: bool) -> None:
        super().__init__(text)
        self._takes_aliases = takes_aliases
        self._depth = self._deepest = self._nodes = 0
        self._extents: dict[str, tuple[int, int]] = {}  # of complete anchors: nodes, levels

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(event, AliasEvent):
            self._count_alias(event)
            return super().compose_node(parent, index)
        before, deepest = self._nodes, self._deepest
        self._nodes += 1
        self._depth = self._deepest = self._depth + 1
        self._check_depth(self._depth, event.start_mark)
        node = super().compose_node(parent, index)
        if anchor := getattr(event, "anchor", None):
            self._extents[anchor] = (self._nodes - before, self._deepest - self._depth + 1)
        self._depth, self._deepest = self._depth - 1, max(deepest, self._deepest)
        return node

    def _count_alias(self, event: AliasEvent) -> None:
        mark: Any = event.start_mark
        if not self._takes_aliases:
            raise ComposerError(None, None, "aliases (*name) are not taken", mark)
        if event.anchor not in self._extents:
            raise ComposerError(None, None, f"*{event.anchor} names nothing before it", mark)
        nodes, levels = self._extents[event.anchor]
        self._nodes += nodes
        self._deepest = max(self._deepest, self._depth + levels)
        self._check_depth(self._depth + levels, mark)
        if self._nodes > MAX_UNFOLDED:
            raise ComposerError(None, None, f"aliases unfold to more than {MAX_UNFOLDED}", mark)

    def _check_depth(self, depth: int, mark: Any) -> None:
        if depth > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)


def load_yaml(text: str, aliases: bool = False) -> Any:
    """The value of a YAML text; with `aliases`, of one that may repeat itself by *name and <<.

    Raises YamlError.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"{len(text)} characters, at most {MAX_CHARACTERS} are taken")
    try:
        loader = _Loader(text, aliases)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML's constructors raise what Python raises on a bad date
        detail = " ".join(str(error).split()) or type(error).__name__
        raise YamlError(f"not YAML: {detail}") from error


def read_yaml(path: Path, aliases: bool = False) -> Any:
    """The value of a YAML file in UTF-8. Raises YamlError, and OSError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:  # not UTF-8, or a path with a NUL
        raise YamlError(f"not YAML: {error}") from error
    return load_yaml(text, aliases)
