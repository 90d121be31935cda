"""A token and a whole flow over buffers that stay where they are: on CUDA one graph launch each.

Elsewhere the same functions are called as they are, which is how they are tested. No GPU has run
the capture: none was at hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.fast.cache import Own, Shared, buffers
from alpamayo_ros.vla.fast.flow import Branch, FastExpert
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.flow_matching import time_grid

LOGGER = logging.getLogger(__name__)
WARM_UPS = 3  # before a capture: libraries choose kernels and make workspaces then


@dataclass(frozen=True, slots=True)
class PlanShape:
    """What a capture is for; another shape needs another."""

    prompt: int  # tokens
    room: int  # behind the prompt, for tokens
    samples: int
    steps: int  # of the flow


class Replayed:
    """A function without arguments over fixed tensors; nothing in it may wait for the device."""

    def __init__(self, function: Callable[[], Tensor], device: torch.device) -> None:
        self._function: Callable[[], Tensor] | None = function
        self._result: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type != "cuda":
            return
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = function()

    def __call__(self) -> Tensor:
        """Its result: on CUDA the same tensor every time."""
        assert self._function is not None  # it is not closed
        if self._graph is None:
            return self._function()
        self._graph.replay()
        assert self._result is not None
        return self._result

    def close(self) -> None:
        """Let go of graph, result and function; a plan's own method would keep the plan alive."""
        self._function = self._graph = self._result = None


class CapturedPlan:
    """The buffers of one shape, and what runs over them. Every method runs under
    `inference_precision`; `steps` 0 makes no flow."""

    def __init__(
        self, shape: PlanShape, read: Shared, language: FastLanguage, expert: FastExpert
    ) -> None:
        keys, n = read.layers[0][0], shape.samples
        device, (_, heads, _, width) = keys.device, keys.shape
        layers = buffers(len(read.layers), (1, heads, shape.prompt, width), keys.dtype, device)
        self.shape, self._language, self._expert = shape, language, expert
        places = shape.room + N_WAYPOINTS
        self.own = Own(replace(read, layers=layers), n, places, in_place=False)
        self.load(read)
        self._places = torch.arange(places, device=device)
        self._token = torch.zeros(n, 1, dtype=torch.long, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._turned = _copied(language.table(torch.zeros_like(self._token)))
        self._decode = Replayed(self._decode_once, device)
        self._flow: Replayed | None = None
        if shape.steps:
            self._mask = torch.ones(n, 1, 1, places, dtype=torch.bool, device=device)
            self._x = torch.zeros(n, N_WAYPOINTS, ACTION_DIMS, device=device)
            first = torch.zeros(n, dtype=torch.long, device=device)
            self._branch = Branch(self.own, shape.room, first, self._mask, None)
            self._waypoints = _copied(expert.positions([self._branch]))
            self._times = time_grid(shape.steps, device)
            self._ahead = expert.time_part(self._times[:-1])
            self._flow = Replayed(self._flow_once, device)

    def load(self, read: Shared) -> Own:
        """Take over a prompt just read, of the shape's length."""
        for held, new in zip(self.own.shared.layers, read.layers):
            for ours, theirs in zip(held, new):
                ours.copy_(theirs[:, :, : self.shape.prompt])
        # What an earlier reasoning left behind the prompt is finite, and masked until overwritten.
        self.own.shared = replace(read, layers=self.own.shared.layers)
        self.own.length = 0
        return self.own

    def decode(self, tokens: Tensor, index: int) -> Tensor:
        """Put tokens (N,) at place `index` behind the prompt; states (N, hidden), normed."""
        self._token.copy_(tokens[:, None])
        self._place.fill_(index)
        position = self.shape.prompt + index + self.own.shared.rope_delta
        _copy(self._turned, self._language.table(position.expand_as(self._token)))
        self.own.length = max(self.own.length, index + 1)
        return self._decode()

    def _decode_once(self) -> Tensor:
        seen = (self._places <= self._place).expand(len(self._token), 1, 1, -1)
        return self._language.step(self.own, self._token, self._place, self._turned, seen)

    def denoise(self, offset: Tensor, valid: Tensor, noise: Tensor) -> Tensor:
        """Normalised actions (N, 64, 2); `offset` and `valid` (N,) as in `flow.branch`."""
        seen = (self._places < valid[:, None]) | (self._places >= self.shape.room)
        self._mask.copy_(seen[:, None, None])
        first = offset + self.own.shared.rope_delta[:, 0]
        _copy(
            self._waypoints, self._expert.positions([replace(self._branch, first_position=first)])
        )
        self._x.copy_(noise)
        assert self._flow is not None  # `steps` is more than 0
        return self._flow().clone()

    def _flow_once(self) -> Tensor:
        return self._expert.loop([self._branch], self._x, self._times, self._ahead, self._waypoints)

    def close(self) -> None:
        """Of no use afterwards; what it held goes with its last holder, and no cycle is left."""
        self._decode.close()
        if self._flow is not None:
            self._flow.close()


class Captures:
    """Captured shapes. While `open` a new one is captured; afterwards its plans run without, since
    a capture takes longer than a tick: they are as right, slower, and counted."""

    def __init__(self, language: FastLanguage, expert: FastExpert) -> None:
        self._language, self._expert = language, expert
        self._plans: dict[PlanShape, CapturedPlan] = {}
        self._told: set[PlanShape] = set()
        self.open = False
        self.missed = 0

    def take(self, shape: PlanShape, read: Shared) -> CapturedPlan | None:
        """With the prompt loaded; None where nothing was captured for the shape."""
        if self.open and shape not in self._plans:
            self._plans[shape] = CapturedPlan(shape, read, self._language, self._expert)
        plan = self._plans.get(shape)
        if plan is not None:
            plan.load(read)
        elif self._plans:
            self.missed += 1
            if shape not in self._told:
                self._told.add(shape)
                LOGGER.warning("no graph was captured at configure for %s: it runs without", shape)
        return plan

    def close(self) -> None:
        """Let go of all that was captured."""
        self.open = False
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()


def _copied(turned: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    cos, sin = turned
    return cos.clone(), sin.clone()


def _copy(held: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    for ours, theirs in zip(held, new):
        ours.copy_(theirs)
