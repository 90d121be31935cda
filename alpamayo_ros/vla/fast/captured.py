"""A token and a whole flow over buffers that stay where they are: on CUDA one graph launch each.

What is captured is for the length of a prompt's stem. The rest of the prompt, with or without
navigation text, lies in front of each sample's own tokens, which are masked as far as they reach.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.fast.attention import additive
from alpamayo_ros.vla.fast.cache import Own, Shared, buffers
from alpamayo_ros.vla.fast.captured_flow import CapturedFlow
from alpamayo_ros.vla.fast.flow import FastExpert, View
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.replayed import Replayed, copied, overwrite

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlanShape:
    """What a capture is for; another shape needs another."""

    stem: int  # tokens of the prompt that all samples share
    room: int  # behind the stem, for the prompt's tail and new tokens
    samples: int
    steps: int  # of the flow; 0: there is none
    guidance: float | None  # its weight; plans without it share all but the flow


class CapturedPlan:
    """The buffers of one shape with any guidance, and what runs over them. Every method runs under
    `inference_precision`."""

    def __init__(
        self, shape: PlanShape, read: Shared, language: FastLanguage, expert: FastExpert
    ) -> None:
        keys, n = read.layers[0][0], shape.samples
        device, (_, heads, _, width) = keys.device, keys.shape
        layers = buffers(len(read.layers), (1, heads, shape.stem, width), keys.dtype, device)
        self._shape, self._language, self._expert = shape, language, expert
        self.own = self._places_behind(replace(read, layers=layers, length=shape.stem))
        self.unguided: Own | None = None  # for the same tokens without navigation text
        self.load(read)
        self._places = torch.arange(self.own.room, device=device)
        self._token = torch.zeros(n, 1, dtype=torch.long, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._turned = copied(language.table(torch.zeros_like(self._token)))
        self._decode = Replayed(self._decode_once, device)
        self._flows: dict[float | None, CapturedFlow] = {}

    def _places_behind(self, stem: Shared) -> Own:
        return Own(stem, self._shape.samples, self._shape.room + N_WAYPOINTS, in_place=False)

    def capture(self, guidance: float | None) -> None:
        """The flow, and beside it the one with guidance. What was loaded is lost."""
        if not self._shape.steps:
            return
        if guidance is not None and self.unguided is None:
            self.unguided = self._places_behind(self.own.shared)
        for weight in (None, guidance):
            if weight not in self._flows:
                owns = [one for one in (self.own, self.unguided) if one is not None]
                self._flows[weight] = CapturedFlow(
                    owns[: 1 if weight is None else 2],
                    self._shape.room, self._shape.steps, weight, self._expert,
                )  # fmt: skip

    def has(self, guidance: float | None) -> bool:
        """Whether plans with this weight were captured."""
        return not self._shape.steps or guidance in self._flows

    def load(self, read: Shared) -> Own:
        """Take over a prompt just read, with a stem of the shape's length."""
        stem, own = self._shape.stem, self.own
        own.clear()
        for layer, (held, new) in enumerate(zip(own.shared.layers, read.layers)):
            overwrite(held, [tensor[:, :, :stem] for tensor in new])
            keys, values = (tensor[:, :, stem : read.length] for tensor in new)
            own.write(layer, keys, values, 0, None)
        own.shared = replace(read, layers=own.shared.layers, length=stem)
        own.tail = own.length = read.length - stem
        if self.unguided is not None:
            self.unguided.clear()
            self.unguided.shared = own.shared
        return own

    def decode(self, tokens: Tensor, place: int) -> Tensor:
        """Put tokens (N,) at a place behind the stem; states (N, hidden), normed."""
        self._token.copy_(tokens[:, None])
        self._place.fill_(place)
        position = self._shape.stem + place + self.own.shared.rope_delta
        overwrite(self._turned, self._language.table(position.expand_as(self._token)))
        self.own.length = max(self.own.length, place + 1)
        return self._decode()

    def _decode_once(self) -> Tensor:
        seen = additive((self._places <= self._place)[None, None, None], self.own.dtype)
        return self._language.step(self.own, self._token, self._place, self._turned, seen)

    def denoise(self, views: list[View], noise: Tensor, guidance: float | None) -> Tensor:
        """Normalised actions (N, 64, 2); with guidance the views of `own` and of `unguided`."""
        return self._flows[guidance](views, noise).clone()

    def close(self) -> None:
        """Of no use afterwards; what it held goes with its last holder, and no cycle is left."""
        self._decode.close()
        for flow in self._flows.values():
            flow.close()


class Captures:
    """Captured shapes. While `open` a new one is captured; afterwards its plans run without, since
    a capture takes longer than a tick: they are as right, slower, and counted."""

    def __init__(self, language: FastLanguage, expert: FastExpert, wanted: bool) -> None:
        self._language, self._expert = language, expert
        self.wanted = wanted  # whether it is worth it at configure: where there are graphs
        self._plans: dict[PlanShape, CapturedPlan] = {}
        self._told: set[PlanShape] = set()
        self.open = False
        self.missed = 0

    @property
    def in_use(self) -> bool:
        """Whether there can be anything to take."""
        return self.open or bool(self._plans)

    def take(self, shape: PlanShape, read: Shared) -> CapturedPlan | None:
        """With the prompt loaded; None where nothing was captured for the shape."""
        plain = replace(shape, guidance=None)
        plan = self._plans.get(plain)
        if self.open:
            if plan is None:
                plan = CapturedPlan(plain, read, self._language, self._expert)
                self._plans[plain] = plan
            plan.capture(shape.guidance)
        if plan is not None and plan.has(shape.guidance):
            plan.load(read)  # behind the capture, which runs what it captures
            return plan
        if self._plans:
            self.missed += 1
            kind = replace(shape, room=0)  # which is another for every length of a long text
            if kind not in self._told:
                self._told.add(kind)
                LOGGER.warning("no graph was captured at configure for %s: it runs without", shape)
        return None

    def close(self) -> None:
        """Let go of all that was captured."""
        self.open = False
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
