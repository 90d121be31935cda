"""What the teacher said of recorded instants: the reasoning of a student without language.

On a recording that was labelled, the student's plan carries its teacher's words for that instant,
marked as such. Anywhere else there is nothing to look up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.types import NS_PER_MS, Decisions

NEAR_NS = 50 * NS_PER_MS  # of a label's t0: half a tick
_NEEDED = ("t0_ns", "reasoning", "longitudinal", "lateral")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A teacher's words for one instant, and the decisions that they come down to."""

    reasoning: str
    decisions: Decisions


class Explanations:
    """Labels by their stamps."""

    def __init__(self, path: Path) -> None:
        """A folder of labels, or one shard of it. Raises ModelError, also where two shards are of
        the same time: then only one of them can be meant."""
        from alpamayo_ros.distill.shard import read_shard
        from alpamayo_ros.distill.store import open_labels

        try:
            shards = [path] if path.suffix == ".npz" else open_labels(path, check=False).shards
            stamps, texts = [], []
            for shard in shards:
                arrays = read_shard(shard, _NEEDED).arrays
                stamps.append(np.asarray(arrays["t0_ns"], np.int64))
                texts += list(zip(*(arrays[name].tolist() for name in _NEEDED[1:])))
        except (UserError, KeyError) as error:
            raise ModelError(f"option explanations: {error}") from error
        joined = np.concatenate(stamps) if stamps else np.zeros(0, np.int64)
        order = np.argsort(joined, kind="stable")
        self._stamps_ns = joined[order]
        self._texts = [texts[index] for index in order]
        if len(np.unique(self._stamps_ns)) != len(self._stamps_ns):
            raise ModelError(
                f"option explanations: {path} has shards of the same time; name the one of the "
                "recording: explanations=LABELS/shards/NAME.npz"
            )

    def at(self, t0_ns: int) -> Explanation | None:
        """Of the nearest instant within half a tick that has words."""
        if not len(self._stamps_ns):
            return None
        index = int(np.argmin(np.abs(self._stamps_ns - t0_ns)))
        reasoning, longitudinal, lateral = map(str, self._texts[index])
        if abs(int(self._stamps_ns[index]) - t0_ns) > NEAR_NS or not reasoning:
            return None
        return Explanation(reasoning, Decisions(longitudinal, lateral))
