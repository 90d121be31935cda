"""The whole flow of one shape over buffers that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.fast.attention import additive
from alpamayo_ros.vla.fast.cache import Own
from alpamayo_ros.vla.fast.flow import Branch, FastExpert, View
from alpamayo_ros.vla.fast.replayed import Replayed, copied, overwrite
from alpamayo_ros.vla.flow_matching import time_grid


class CapturedFlow:
    """`FastExpert.denoise` behind `room` places of each sample; with guidance, of two `owns`.

    `weight` is part of what is captured. Every method runs under `inference_precision`.
    """

    def __init__(
        self, owns: Sequence[Own], room: int, steps: int, weight: float | None, expert: FastExpert
    ) -> None:
        self._expert, self._weight = expert, weight
        n, places = owns[0].count, room + N_WAYPOINTS
        device = owns[0].shared.last_hidden.device
        self._waypoints = (torch.arange(places, device=device) >= room).expand(n, -1)
        first = torch.zeros(n, dtype=torch.long, device=device)
        self._branches = [
            Branch(own, room, first, additive(self._waypoints[:, None, None], own.dtype), None)
            for own in owns
        ]
        self._x = torch.zeros(n, N_WAYPOINTS, ACTION_DIMS, device=device)
        self._turned = copied(expert.positions(self._branches))
        self._times = time_grid(steps, device)
        self._ahead = expert.time_part(self._times[:-1])
        self._flow = Replayed(self._once, device)

    def __call__(self, views: Sequence[View], noise: Tensor) -> Tensor:
        """Normalised actions (N, 64, 2), overwritten by the next; `views` of the same places."""
        now = []
        for branch, view in zip(self._branches, views):
            assert view.own is branch.own and branch.mask is not None
            seen = view.seen(self._waypoints.shape[1]) | self._waypoints
            branch.mask.copy_(additive(seen[:, None, None], branch.mask.dtype))
            now.append(replace(branch, first_position=view.first_position))
        overwrite(self._turned, self._expert.positions(now))
        self._x.copy_(noise)
        return self._flow()

    def _once(self) -> Tensor:
        return self._expert.loop(
            self._branches, self._x, self._times, self._ahead, self._turned, self._weight
        )

    def close(self) -> None:
        """Of no use afterwards; no cycle is left."""
        self._flow.close()
