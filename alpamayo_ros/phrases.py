"""Words and phrases of free text, found in one pass: tokens, their roots, and a tree of phrases."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Phrase = tuple[str, ...]  # the roots of its words

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_BREAK = re.compile(r"[.,;:!?()\[\]{}\"\n\u2026\u2013\u2014\u3002\uff0c]")
_VOWELS = frozenset("aeiouy")
_LONGEST_WORD = 40  # of any phrase; no root is looked for in a longer one


@dataclass(frozen=True, slots=True)
class Words:
    """A text's words, less those that are ignored; all sequences have one entry a word."""

    text: str
    roots: Sequence[str]
    plain: Sequence[str]  # as written, in lower case
    spans: Sequence[tuple[int, int]]  # where in the text
    after_stop: Sequence[bool]  # punctuation lies between it and the word before


def root(word: str, spellings: Mapping[str, str]) -> str:
    """What a word and its -s and -ing forms have in common; `word` in lower case.

    Past forms keep their own root: "stopped" is said of others, "stop" decides.
    """
    word = spellings.get(word, word)
    if len(word) > _LONGEST_WORD:
        return word
    if word.endswith(("'s", "\u2019s")):
        word = word[:-2]
    stem = word[:-3]
    if word.endswith("ing") and len(stem) > 1 and not _VOWELS.isdisjoint(stem):
        word = stem
    elif word.endswith(("sses", "shes", "ches", "xes", "ses")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def split(text: str, ignored: Collection[str], spellings: Mapping[str, str]) -> Words:
    """The words of any text, in linear time; never fails."""
    roots, plain, spans, after_stop = [], [], [], []
    known: dict[str, str] = {}
    end, stopped = 0, True
    for match in _WORD.finditer(text):
        stopped = stopped or _BREAK.search(text, end, match.start()) is not None
        end = match.end()
        word = match.group().casefold()
        if word in ignored:
            continue
        if word not in known:
            known[word] = root(word, spellings)
        roots.append(known[word])
        plain.append(word)
        spans.append(match.span())
        after_stop.append(stopped)
        stopped = False
    return Words(text, roots, plain, spans, after_stop)


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    meaning: str | None = None


class PhraseBook:
    """Phrases and what each stands for; the longest that begins at a word is found."""

    def __init__(self, meanings: Iterable[tuple[Phrase, str]]) -> None:
        self._root = _Node()
        for phrase, meaning in meanings:
            node = self._root
            for word in phrase:
                node = node.children.setdefault(word, _Node())
            node.meaning = meaning

    def longest_at(self, words: Words, start: int) -> tuple[int, str] | None:
        """Where the longest phrase from word `start` ends, and what it stands for.

        No phrase reaches across punctuation.
        """
        node: _Node | None = self._root
        found: tuple[int, str] | None = None
        for index in range(start, len(words.roots)):
            if index > start and words.after_stop[index]:
                break
            assert node is not None
            node = node.children.get(words.roots[index])
            if node is None:
                break
            if node.meaning is not None:
                found = index + 1, node.meaning
        return found
