"""A function over buffers that stay where they are: on CUDA one graph launch.

Elsewhere the function is called as it is, which is how it is tested. No GPU has run the capture:
none was at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

WARM_UPS = 3  # before a capture: libraries choose kernels and make workspaces then


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """One for all captures of a device: libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)


class Replayed:
    """A function without arguments over fixed tensors; nothing in it may wait for the device."""

    def __init__(self, function: Callable[[], Tensor], device: torch.device) -> None:
        self._function: Callable[[], Tensor] | None = function
        self._result: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type != "cuda":
            return
        # Its own stream, on the model's device: torch would make one on the current device.
        aside = _aside(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(self._graph, stream=aside):
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


def copied(turned: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """cos and sin in buffers of their own."""
    cos, sin = turned
    return cos.clone(), sin.clone()


def overwrite(held: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    """Put `new` into buffers of the same shapes."""
    for ours, theirs in zip(held, new):
        ours.copy_(theirs)
