"""What a model's free text names of a table's decisions and critical components.

Reading a text is a heuristic over words (`config/chain_of_causation.yaml` says how phrases are
compared): what the table does not know stays text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alpamayo_ros import phrases
from alpamayo_ros.phrases import Phrase, PhraseBook, Words
from alpamayo_ros.types import CriticalComponent, Decisions

WORD_LISTS = (
    "ignored_words", "clause_breaks", "auxiliaries", "negations", "decision_negations",
)  # fmt: skip
NONE = "none"
OBJECTS = "objects"  # what acts by itself: its doings are not the vehicle's decisions
NEGATION_REACH = 8  # words
MAX_COMPONENT_CHARACTERS = 80
_EGO = ""  # the category of the vehicle itself, which is no component


@dataclass(frozen=True, slots=True)
class _Axis:
    """One kind of decision: its phrases, and those that only count where a clause begins."""

    anywhere: PhraseBook
    at_start: PhraseBook

    def longest_at(self, words: Words, start: int, begins: bool) -> tuple[int, str] | None:
        found = [self.anywhere.longest_at(words, start)]
        if begins:
            found.append(self.at_start.longest_at(words, start))
        return max((f for f in found if f is not None), default=None, key=lambda f: f[0])


@dataclass(frozen=True, slots=True)
class _Context:
    """What surrounds each word of a text; all sequences have one entry a word."""

    begins: list[bool]  # a clause begins here
    negated: list[bool]
    avoided: list[bool]  # negated as a decision; as a component it counts
    component: list[tuple[int, int] | None]  # the component's first word and end, where in one
    object_ends: list[bool]  # an object's last word


class Table:
    """The decisions and components that there are, and their phrases. See `chain_of_causation`."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content  # as in the file
        self.longitudinal = tuple(content["longitudinal"])
        self.lateral = tuple(content["lateral"])
        self.categories = tuple(content["critical_components"])
        self._spellings: Mapping[str, str] = content["spellings"]
        self._ignored, self._breaks, self._auxiliaries, self._negations, self._avoidances = (
            frozenset(content[name]) for name in WORD_LISTS
        )
        self._axes = tuple(self._axis(content[name]) for name in ("longitudinal", "lateral"))
        components = {_EGO: content["ego"], **content["critical_components"]}
        self._components = PhraseBook(
            (self._phrase(text), category)
            for category, texts in components.items()
            for text in texts
        )

    def parse(self, text: str) -> tuple[Decisions, tuple[CriticalComponent, ...]]:
        """The decisions that a text comes to, and the causes that it names, in its order.

        "none" where it has no phrase for a decision. Takes any text, in time linear in its length.
        """
        words = phrases.split(text, self._ignored, self._spellings)
        context = self._context(words)
        longitudinal, lateral = (self._first(axis, words, context) for axis in self._axes)
        return Decisions(longitudinal, lateral), tuple(self._named(words, context))

    def _axis(self, entries: Mapping[str, list[str]]) -> _Axis:
        listed = {text for texts in entries.values() for text in texts}
        names = [(f"^{name}", name) for name in entries if name != NONE and name not in listed]
        given = [(text, name) for name, texts in entries.items() for text in texts]
        both = [(text.startswith("^"), self._phrase(text), name) for text, name in names + given]
        return _Axis(
            PhraseBook((phrase, name) for anchored, phrase, name in both if not anchored),
            PhraseBook((phrase, name) for anchored, phrase, name in both if anchored),
        )

    def _phrase(self, text: str) -> Phrase:
        return phrase_of(text, self._ignored, self._spellings)

    def _context(self, words: Words) -> _Context:
        count = len(words.roots)
        no = [False] * count
        context = _Context([*no], [*no], [*no], [None] * count, [*no])
        reach = avoidance = 0
        for index, word in enumerate(words.plain):
            broken = words.after_stop[index] or word in self._breaks
            context.begins[index] = (
                words.after_stop[index] or words.plain[index - 1] in self._breaks
            )
            reach, avoidance = (0, 0) if broken else (reach - 1, avoidance - 1)
            context.negated[index], context.avoided[index] = reach > 0, avoidance > 0
            if self._negates(word):
                reach = NEGATION_REACH + 1
            elif word in self._avoidances:
                avoidance = NEGATION_REACH + 1
        index = 0
        while index < count:
            found = self._components.longest_at(words, index)
            if found is None:
                index += 1
                continue
            end, category = found
            context.component[index:end] = [(index, end)] * (end - index)
            context.object_ends[end - 1] = category == OBJECTS
            index = end
        return context

    def _negates(self, word: str) -> bool:
        return word in self._negations or word.endswith(("n't", "n\u2019t"))

    def _first(self, axis: _Axis, words: Words, context: _Context) -> str:
        """The earliest decision that is the vehicle's own and not negated."""
        for start in range(len(words.roots)):
            found = axis.longest_at(words, start, context.begins[start])
            if found is None or context.negated[start] or context.avoided[start]:
                continue
            end, name = found
            if not (
                self._is_within_component(context, start, end)
                or self._is_of_another(words, context, start)
                or self._is_refused_after(words, end)
            ):
                return name
        return NONE

    @staticmethod
    def _is_within_component(context: _Context, start: int, end: int) -> bool:
        """Whether it is part of a longer name: "stop" of "stop sign", "turn" of "turn lane"."""
        component = context.component[start]
        return component is not None and component[1] >= end and component != (start, end)

    def _is_of_another(self, words: Words, context: _Context, start: int) -> bool:
        """Whether an object does it: "the lead vehicle (is, begins to) …"."""
        index = start
        if index > 1 and words.plain[index - 1] == "to":
            if words.plain[index - 2] not in self._auxiliaries:
                return False
            index -= 1
        while index > 0 and not words.after_stop[index]:
            if words.plain[index - 1] not in self._auxiliaries:
                return context.object_ends[index - 1]
            index -= 1
        return False

    def _is_refused_after(self, words: Words, end: int) -> bool:
        """Whether "is not (possible, needed)" follows."""
        index = end
        while index < len(words.plain) and not words.after_stop[index]:
            if words.plain[index] not in self._auxiliaries:
                return index > end and self._negates(words.plain[index])
            if self._negates(words.plain[index]):  # "isn't"
                return True
            index += 1
        return False

    def _named(self, words: Words, context: _Context) -> Iterator[CriticalComponent]:
        """Each component once, at its first mention; "vehicle" after "lead vehicle" is the same."""
        seen: set[Phrase] = set()
        kept: dict[str, list[frozenset[str]]] = {}
        index = 0
        while index < len(words.roots):
            component = context.component[index]
            if component is None or context.negated[index]:
                index += 1
                continue
            start, index = component
            phrase = tuple(words.roots[start:index])
            if phrase in seen:
                continue
            seen.add(phrase)
            found = self._components.longest_at(words, start)
            assert found is not None
            category = found[1]
            roots = frozenset(phrase)
            if category == _EGO or any(roots <= before for before in kept.get(category, [])):
                continue
            kept.setdefault(category, []).append(roots)
            yield CriticalComponent(category, _as_written(words, start, index))


def _as_written(words: Words, start: int, end: int) -> str:
    first, last = words.spans[start][0], words.spans[end - 1][1]
    if last - first <= MAX_COMPONENT_CHARACTERS:
        return " ".join(words.text[first:last].split())
    return " ".join(words.plain[start:end])  # many ignored words lie between


def phrase_of(text: str, ignored: Collection[str], spellings: Mapping[str, str]) -> Phrase:
    """A table's phrase as it is compared; empty where it has no word that counts."""
    return tuple(phrases.split(text.removeprefix("^"), ignored, spellings).roots)
