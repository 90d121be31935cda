"""Where a prompt divides: a stem of one length for given cameras, and what varies behind it.

Navigation text stands behind pictures and history, and only the request follows it: what is
captured for a stem's length serves plans with and without a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.vocabulary import Vocabulary

ROUTE_TEXT_ROOM = 64  # tokens: of 4 characters in English, and 256 characters are let in
_MARKERS = 2


@dataclass(frozen=True, slots=True)
class Division:
    """Tokens of each part of a prompt."""

    stem: int  # up to the history's end, where a route begins
    route: int  # navigation text with its two markers; 0: there is none
    rest: int  # the request and the beginning of the assistant's turn

    def room(self, version: str, new: int) -> int:
        """Places behind the stem for any route of common length, or this one where it is longer,
        the rest and `new` tokens. R1 has no routes."""
        common = 0 if version == "r1" else ROUTE_TEXT_ROOM + _MARKERS
        return max(common, self.route) + self.rest + new


def divide(prompt: Prompt, vocabulary: Vocabulary) -> Division | None:
    """None where there is no stem: of a batch, or where no history stands before the route."""
    if len(prompt.input_ids) > 1:
        return None
    ids = prompt.input_ids[0].tolist()
    start, end = (vocabulary.special_ids.get(f"route_{name}") for name in ("start", "end"))
    if vocabulary.traj_history_end not in ids:
        return None
    stem = ids.index(vocabulary.traj_history_end) + 1
    if start in ids[:stem]:
        return None
    route = 0
    if start in ids[stem : stem + 1] and end in ids:
        route = ids.index(end) + 1 - stem
    return Division(stem, route, len(ids) - stem - route)
