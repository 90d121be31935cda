"""The table of decisions and critical components: the shipped one, and a user's own laid over it.

    decisions, components = load_table("").parse("Stop for the red light.")

`causation_text.py` says how a text is read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpamayo_ros import resources
from alpamayo_ros.causation_text import NONE, WORD_LISTS, Table, phrase_of
from alpamayo_ros.errors import UserError
from alpamayo_ros.phrases import Phrase
from alpamayo_ros.yaml_text import YamlError, read_yaml

SECTIONS = ("longitudinal", "lateral", "critical_components")
LISTS = ("ego", *WORD_LISTS)


class TableError(UserError):
    """A table that cannot be used; the message names the file and the key."""


def load_table(path: str = "") -> Table:
    """The shipped table, with the one at `path` laid over it. Raises TableError."""
    return _user_table(path) if path else shipped_table()


@functools.cache
def shipped_table() -> Table:
    """The table of `config/chain_of_causation.yaml`. Raises TableError, UserError."""
    path = resources.resource("config", "chain_of_causation.yaml")
    return Table(_checked(path, _read(path)))


def _user_table(path: str) -> Table:
    own = _checked(Path(path), _read(Path(path)))
    base = shipped_table().content
    if own["replace"]:
        missing = [name for name in SECTIONS if not own[name]]
        if missing:
            raise TableError(f"{path}: with `replace: true` it needs entries in {missing[0]}")
        base = {**base, **dict.fromkeys(SECTIONS, {}), "ego": []}
    content: dict[str, Any] = {name: [*base[name], *own[name]] for name in LISTS}
    content["spellings"] = {**base["spellings"], **own["spellings"]}
    for name in SECTIONS:
        content[name] = _laid_over(base[name], own[name], content)
    for name in ("longitudinal", "lateral"):
        content[name][NONE] = content[name].pop(NONE, [])  # last, and always there
    return Table(content)


def _laid_over(
    base: Mapping[str, list[str]], own: Mapping[str, list[str]], content: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Both tables' entries; a phrase that both have is the user's."""

    def key(text: str) -> tuple[bool, Phrase]:
        phrase = phrase_of(text, content["ignored_words"], content["spellings"])
        return text.startswith("^"), phrase

    taken = {key(text) for texts in own.values() for text in texts}
    merged = {name: [t for t in texts if key(t) not in taken] for name, texts in base.items()}
    for name, texts in own.items():
        merged[name] = [*merged.get(name, []), *texts]
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except (OSError, YamlError) as error:
        raise TableError(f"chain_of_causation {path}: {error}") from error
    known = (*SECTIONS, *LISTS, "spellings", "replace")
    if not isinstance(content, dict):
        raise TableError(f"{path} is no table: a mapping with {', '.join(SECTIONS)} is wanted")
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise TableError(f"{path}: unknown key {', '.join(unknown)}; known: {', '.join(known)}")
    return content


def _checked(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Every key with a value of its type, words in lower case."""
    checked: dict[str, Any] = {"replace": content.get("replace") or False}
    if not isinstance(checked["replace"], bool):
        raise TableError(f"{path}: replace is {checked['replace']!r}, wanted true or false")
    for name in LISTS:
        checked[name] = [word.casefold() for word in _texts(path, name, content.get(name))]
    spellings = content.get("spellings") or {}
    if not isinstance(spellings, dict) or not all(
        isinstance(word, str) for pair in spellings.items() for word in pair
    ):
        raise TableError(f"{path}: spellings wants a mapping of words to words")
    checked["spellings"] = {k.casefold(): v.casefold() for k, v in spellings.items()}
    for name in SECTIONS:
        checked[name] = _entries(path, name, content.get(name), checked)
    _entries(path, "critical_components", {**checked[SECTIONS[2]], "ego": checked["ego"]}, checked)
    return checked


def _entries(path: Path, section: str, value: Any, checked: Mapping[str, Any]) -> dict[str, Any]:
    """A section's entries; a phrase may stand in one of them only."""
    if not isinstance(value or {}, dict):
        raise TableError(f"{path}: {section} wants a mapping of names to lists of phrases")
    entries: dict[str, list[str]] = {}
    owner: dict[tuple[bool, Phrase], str] = {}
    for name, texts in (value or {}).items():
        where = f"{section}: {name}"
        if not isinstance(name, str) or not name.strip():
            raise TableError(f"{path}: {section} has the name {name!r}, wanted a text")
        entries[name] = _texts(path, where, texts)
        for text in entries[name]:
            phrase = phrase_of(text, checked["ignored_words"], checked["spellings"])
            if not phrase:
                raise TableError(f"{path}: {where} has {text!r}, a phrase without a word")
            other = owner.setdefault((text.startswith("^"), phrase), name)
            if other != name:
                raise TableError(f"{path}: {where} has {text!r}, which {other} has too")
    return entries


def _texts(path: Path, where: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        # YAML reads a bare no, yes, on and off as true or false.
        raise TableError(f"{path}: {where} is {value!r}, wanted a list of (quoted) texts")
    return value
