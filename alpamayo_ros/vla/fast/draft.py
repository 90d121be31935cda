"""Guesses of a reasoning's next tokens, from what followed the same words before.

A guess costs nothing and may be wrong: the model reads the guessed tokens in one pass and keeps
those that it would have said itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

LONGEST = 3  # tokens that have to recur
REMEMBERED = 8  # reasonings


class Draft:
    """Looks up the last tokens in this tick's prompt and words and in earlier reasonings."""

    def __init__(self, size: int) -> None:
        self.size = size  # tokens guessed at once, at most
        self.guessed = self.kept = 0  # tokens so far
        self._earlier: deque[list[int]] = deque(maxlen=REMEMBERED)

    def guess(self, tokens: Sequence[int], limit: int) -> list[int]:
        """Up to `size` and `limit` tokens that may follow `tokens`: the prompt and what is said.

        Longer matches go before shorter ones, newer reasonings before older, those before the
        prompt.
        """
        count = min(self.size, limit)
        if count < 1:
            return []
        texts = [*reversed(self._earlier), list(tokens[:-1])]
        for length in range(min(LONGEST, len(tokens)), 0, -1):
            wanted = list(tokens[-length:])
            for text in texts:
                found = _behind_last(text, wanted, count)
                if found:
                    return found
        return []

    def remember(self, prompt: Sequence[int], said: Sequence[int]) -> None:
        """A finished reasoning, with the end of its prompt, from which the next one begins."""
        self._earlier.append([*prompt[-LONGEST:], *said])

    def clear(self) -> None:
        """Forget earlier reasonings, and what became of the guesses."""
        self._earlier.clear()
        self.guessed = self.kept = 0

    @property
    def note(self) -> str:
        """For the status."""
        return f"{self.kept} of {self.guessed} drafted tokens were right"

    def count(self, guessed: int, kept: int) -> None:
        """How many of the guessed tokens were right."""
        self.guessed += guessed
        self.kept += kept


def _behind_last(text: list[int], wanted: list[int], count: int) -> list[int]:
    """What follows the last place where `wanted` stands in `text`; empty where nothing does."""
    last, length = wanted[-1], len(wanted)
    for end in range(len(text) - 1, length - 1, -1):
        if text[end - 1] == last and text[end - length : end] == wanted:
            return text[end : end + count]
    return []
