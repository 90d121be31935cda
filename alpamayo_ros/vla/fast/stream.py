"""Approximate: a frame's keys and values are read once and serve as long as it is in the window.

In a moving window a frame stands one place further to the front in every tick. Its keys are turned
to where it stands now; what it had seen before it, older frames and other cameras, stays as it was
when it was read. Text and new frames are read in every tick, and see everything before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alpamayo_ros.vla.fast.cache import Pair, Shared
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.rotary import rotate
from alpamayo_ros.vla.fast.vision import joined
from alpamayo_ros.vla.generation import ImageFeatures, Prompt


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame's tokens stand in a prompt that was read."""

    features: ImageFeatures  # the frame: features are kept, so that the same frame has the same
    layers: list[Pair]
    start: int  # index of its first token
    position: int  # of its first token

    @property
    def count(self) -> int:
        return len(self.features.embeddings)


class Stream:
    """Keys and values of one prompt's frames, for the next. Runs under `inference_precision`."""

    def __init__(self, language: FastLanguage) -> None:
        self._language = language
        self._places: dict[int, _Place] = {}
        self.reused = 0  # frames of the newest prompt
        self.off_m: float | None = None  # what it does to a path, once that is measured

    @property
    def note(self) -> str:
        """For the status."""
        off = "was not measured: no warm-up"
        if self.off_m is not None:
            off = f"put the path {self.off_m:.2g} m off, on noise at configure"
        return f"approximate: keys of {self.reused} frames reused, which {off}"

    def clear(self) -> None:
        """The next prompt is read whole."""
        self._places = {}

    def read(self, prompt: Prompt, frames: Sequence[ImageFeatures], room: int) -> Shared:
        """As `FastLanguage.read` for one prompt; `frames` in order, as the frame cache gave them.

        Raises ModelError, as it does.
        """
        layout = self._language.layout(prompt)
        if len(prompt.input_ids) > 1 or len({id(frame) for frame in frames}) < len(frames):
            self.clear()  # of a batch, or a window in which a frame stands twice
            self.reused = 0
            return self._language.read(prompt, joined(list(frames)), room)
        first = torch.tensor([0, *(len(frame.embeddings) for frame in frames)]).cumsum(0)[:-1]
        starts = layout.image_places[first.to(layout.image_places.device)]
        positions = layout.positions[0, 0, starts].tolist()
        known: list[tuple[_Place, int, int]] = []  # with its new start and turn
        fresh = torch.ones(prompt.input_ids.shape[1], dtype=torch.bool)
        for frame, start, position in zip(frames, starts.tolist(), positions):
            place = self._places.get(id(frame))
            if place is not None:
                known.append((place, start, position - place.position))
                fresh[start : start + place.count] = False
        self.reused = len(known)

        def fill(layer: int, pair: Pair) -> None:
            for place, start, turn in known:
                for kept, old, turned in zip(pair, place.layers[layer], (turn, 0)):
                    piece = old[:, :, place.start : place.start + place.count]
                    if turned:
                        piece = self._turned(piece, turned)
                    kept[:, :, start : start + place.count] = piece

        if known:
            new = [frame for frame in frames if id(frame) not in self._places]
            none = frames[0].rows(torch.zeros(0, dtype=torch.long, device=starts.device))
            index = fresh.nonzero()[:, 0].to(prompt.input_ids.device)
            shared = self._language.read(prompt, joined([none, *new]), room, index, fill)
        else:
            shared = self._language.read(prompt, joined(list(frames)), room)
        self._places = {
            id(frame): _Place(frame, shared.layers, start, position)
            for frame, start, position in zip(frames, starts.tolist(), positions)
        }
        return shared

    def _turned(self, keys: torch.Tensor, turn: int) -> torch.Tensor:
        """Keys (1, kv heads, T, d) as if they stood `turn` positions further on."""
        table = self._language.table
        table.reserve(abs(turn) + 1)
        cos, sin = table(torch.tensor([[abs(turn)]], device=keys.device))
        return rotate(keys, cos, sin if turn > 0 else -sin).to(keys.dtype)
