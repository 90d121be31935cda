"""Keys and values in buffers made ahead: a prompt's once, and behind it each sample's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.fast.attention import last_to_all, shared_and_own

Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass(frozen=True, slots=True)
class Shared:
    """What a prompt's tokens left in every layer."""

    layers: list[Pair]  # each (B, kv heads, length + room, d)
    length: int  # tokens in use
    last_hidden: Tensor  # (B, hidden), of the last token, normed
    rope_delta: Tensor  # (B, 1): position of the next token minus its index
    visible: Tensor | None  # (B, length) bool, false at pads; None: there are none

    def pair(self, layer: int) -> Pair:
        """(B, kv heads, length, d) each."""
        keys, values = self.layers[layer]
        return keys[:, :, : self.length], values[:, :, : self.length]


def buffers(layers: int, shape: tuple[int, int, int, int], dtype: torch.dtype,
            device: torch.device) -> list[Pair]:  # fmt: skip
    """Uninitialised keys and values (B, kv heads, places, d) a layer."""
    return _pairs(torch.empty(layers, 2, *shape, dtype=dtype, device=device))


def _pairs(memory: Tensor) -> list[Pair]:
    """Of (layers, 2, B, kv heads, places, d)."""
    return [(keys, values) for keys, values in map(Tensor.unbind, memory.unbind())]


@dataclass(slots=True)
class Own:
    """What N samples have behind a shared prompt, `room` places each.

    One sample writes into the prompt's own buffer, which has the room, and reads it in one piece.
    Where `shared` is a prompt's stem alone, the first places hold the prompt's `tail`.
    """

    shared: Shared
    count: int  # N, a multiple of the prompt's rows
    room: int
    in_place: bool = True  # whether the prompt's own buffer may be written behind `shared.length`
    length: int = 0  # places in use, by the sample that has most
    tail: int = 0  # of these, the prompt's last tokens
    _layers: list[Pair] = field(init=False, repr=False)
    _whole: bool = field(init=False)
    _memory: Tensor | None = field(init=False, default=None, repr=False)  # of all layers

    def __post_init__(self) -> None:
        keys = self.shared.layers[0][0]
        batch, heads, places, width = keys.shape
        self._whole = (
            self.in_place and self.count == batch and places >= self.shared.length + self.room
        )
        if self._whole:
            start = self.shared.length
            self._layers = [(k[:, :, start:], v[:, :, start:]) for k, v in self.shared.layers]
        else:
            # Places are masked before they are written: 0 * NaN is NaN.
            self._memory = torch.zeros(
                len(self.shared.layers), 2, self.count, heads, self.room, width,
                dtype=keys.dtype, device=keys.device,
            )  # fmt: skip
            self._layers = _pairs(self._memory)

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt, wherever they stand."""
        return self.shared.length + self.tail

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.shared.layers[0][0].dtype

    def clear(self) -> None:
        """Zeros in places of its own, as they were made: one plan's NaN is in no other."""
        self.length = self.tail = 0
        if self._memory is not None:
            self._memory.zero_()

    def pair(self, layer: int, end: int) -> Pair:
        """(N, kv heads, end, d) each."""
        keys, values = self._layers[layer]
        return keys[:, :, :end], values[:, :, :end]

    def write(self, layer: int, k: Tensor, v: Tensor, start: int, rows: Tensor | None) -> int:
        """Put (M, kv heads, T, d) at places from `start` of M rows (None: all); the place behind.

        Raises ModelError where there is no room.
        """
        end = start + k.shape[2]
        if end > self.room:
            raise ModelError(
                f"{end - self.tail} tokens behind the prompt; room was made for "
                f"{self.room - self.tail}"
            )
        keys, values = self._layers[layer]
        if rows is None:
            keys[:, :, start:end] = k
            values[:, :, start:end] = v
        else:
            keys[rows, :, start:end] = k.to(keys.dtype)
            values[rows, :, start:end] = v.to(values.dtype)
        return end

    def write_at(self, layer: int, k: Tensor, v: Tensor, place: Tensor) -> None:
        """Put (N, kv heads, 1, d) at the place (1,) that a tensor holds: nothing waits for it."""
        keys, values = self._layers[layer]
        keys.index_copy_(2, place, k.to(keys.dtype))
        values.index_copy_(2, place, v.to(values.dtype))

    def attend(
        self,
        layer: int,
        q: Tensor,
        end: int,
        scale: float,
        rows: Tensor | None = None,
        mask: Tensor | None = None,
        shared_visible: Tensor | None = None,
    ) -> Tensor:
        """q (M, H, t, d) of `rows` over the prompt and their first `end` places; (M, H, t, d).

        `mask` (M, 1, t or 1, end), true where seen or of `additive`, and `shared_visible` (B, P),
        true where seen; None: all is.
        """
        if self._whole and rows is None and mask is None and shared_visible is None:
            keys, values = self.shared.layers[layer]
            stop = self.shared.length + end
            return last_to_all(q, keys[:, :, :stop], values[:, :, :stop], None, scale)
        keys, values = self.pair(layer, end)
        if rows is not None:
            keys, values = keys[rows], values[rows]
        seen = None if shared_visible is None else shared_visible[:, None, None]
        return shared_and_own(q, self.shared.pair(layer), (keys, values), seen, mask, scale)
