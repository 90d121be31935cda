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


class YamlError(ValueError):
    """No YAML, or more than is taken; the message fits on a line."""


class _Loader(yaml.SafeLoader):
    """No aliases, which can nest for ever or unfold to gigabytes, and no endless nesting."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not taken", mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def load_yaml(text: str) -> Any:
    """The value of a YAML text. Raises YamlError."""
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"{len(text)} characters, at most {MAX_CHARACTERS} are taken")
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # PyYAML's constructors raise what Python raises on a bad date
        detail = " ".join(str(error).split()) or type(error).__name__
        raise YamlError(f"not YAML: {detail}") from error


def read_yaml(path: Path) -> Any:
    """The value of a YAML file in UTF-8. Raises YamlError, and OSError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:  # not UTF-8, or a path with a NUL
        raise YamlError(f"not YAML: {error}") from error
    return load_yaml(text)
