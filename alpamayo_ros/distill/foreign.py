"""Pictures unlike any of the labels' world, so that a student learns what it cannot read.

A camera that it does not know (grey, of other colours, out of order) says nothing about the road:
there the best plan that it has is the motion carried on, which is its prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 16  # pixels of a side of what is shuffled


def make_foreign(
    images: Tensor, of_clip: Tensor, clips: Tensor, generator: torch.Generator
) -> Tensor:
    """Images (N, 3, H, W) in 0 … 1, those of some clips replaced; (N,) whose each is.

    A clip's pictures become grey, have their colours exchanged or inverted, or are cut in blocks
    that are shuffled, with another contrast and brightness; each clip in one way.
    """
    if not len(clips):
        return images
    images = images.clone()
    for clip in clips.tolist():
        rows = of_clip == clip
        kind, (gain, offset) = _draw(4, generator), torch.rand(2, generator=generator).tolist()
        seen = images[rows]
        if kind < 2:  # grey cameras are the likeliest
            seen = seen.mean(dim=1, keepdim=True).expand_as(seen)
        elif kind == 2:
            seen = 1.0 - seen[:, torch.randperm(3, generator=generator)]
        else:
            seen = _shuffled(seen, generator)
        images[rows] = ((seen - 0.5) * (0.5 + gain) + 0.3 + 0.4 * offset).clamp(0.0, 1.0)
    return images


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture's blocks in the same other order."""
    count, colours, height, width = images.shape
    side = _BLOCK if height % _BLOCK == 0 and width % _BLOCK == 0 else 1
    rows, columns = height // side, width // side
    blocks = images.reshape(count, colours, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(count, rows * columns, colours, side, side)
    blocks = blocks[:, torch.randperm(rows * columns, generator=generator)]
    blocks = blocks.reshape(count, rows, columns, colours, side, side).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(images.shape)
