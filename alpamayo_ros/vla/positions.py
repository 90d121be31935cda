"""Qwen3-VL's three-axis rotary positions of a prompt, computed for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError


def mrope_positions(
    input_ids: Tensor,
    attention_mask: Tensor,
    image_grid_thw: Tensor,
    image_pad_id: int,
    merge_size: int = 2,
) -> tuple[Tensor, Tensor]:
    """Positions (3, B, L) int64 on the axes (t, row, column), and rope_delta (B, 1) int64.

    input_ids and attention_mask (1: a token, 0: padding on either side) are (B, L);
    image_grid_thw (N, 3) is in patches, the images of row 0 first.

    A text token advances all three axes by one. An image of t x h x w tokens starts all three at
    one number, its tokens add their own (t, row, column), and what follows goes on at that number
    + max(t, h, w). Padding has position 1. rope_delta is what a decoded token adds to its index
    in the padded row: largest position + 1 - L.

    Raises ModelError where image tokens and image_grid_thw do not tell the same.
    """
    valid = attention_mask.bool()
    empty = torch.nonzero(~valid.any(dim=1)).flatten().tolist()
    if empty:
        raise ModelError(f"prompt row {', '.join(map(str, empty))} is nothing but padding")
    is_image = (input_ids == image_pad_id) & valid
    grid = image_grid_thw.to(input_ids.device).long()
    offsets, advance = _image_offsets(is_image, grid, valid, merge_size)
    # Exclusive sum: where a token starts. Within an image only the last token advances, so that
    # all of them share the image's start.
    steps = torch.where(is_image, advance, valid.long())
    start = steps.cumsum(dim=1) - steps
    positions = (start.unsqueeze(0) + offsets).masked_fill(~valid.unsqueeze(0), 1)
    length = input_ids.shape[1]
    rope_delta = steps.sum(dim=1, keepdim=True) - length  # the sum is the next free position
    return positions, rope_delta


def _image_offsets(
    is_image: Tensor, grid: Tensor, valid: Tensor, merge_size: int
) -> tuple[Tensor, Tensor]:
    """Each image token's (t, row, column) (3, B, L), and what it advances by (B, L): 0, or the
    image's longest side at its last token."""
    sides = grid.clone()
    sides[:, 1:] //= merge_size
    counts = sides.prod(dim=1)
    ends = counts.cumsum(dim=0)
    total, expected = int(is_image.sum()), int(counts.sum())
    if total != expected:
        raise ModelError(
            f"the prompt has {total} image tokens, its {len(grid)} images make {expected}"
        )
    offsets = is_image.new_zeros((3, *is_image.shape), dtype=torch.long)
    advance = torch.zeros_like(is_image, dtype=torch.long)
    if not total:
        return offsets, advance
    order = torch.arange(total, device=is_image.device)  # of image tokens, row by row
    image = torch.searchsorted(ends, order, right=True)
    _, height, width = sides[image].unbind(dim=1)
    within = order - (ends - counts)[image]
    offsets[:, is_image] = torch.stack(
        (within // (height * width), within // width % height, within % width)
    )
    is_last = within == counts[image] - 1
    advance[is_image] = torch.where(is_last, sides.amax(dim=1)[image], 0)
    _check_whole(is_image, valid, ends, counts)
    return offsets, advance


def _check_whole(is_image: Tensor, valid: Tensor, ends: Tensor, counts: Tensor) -> None:
    """Every image's tokens must stand side by side in one row, padding aside."""
    place = valid.reshape(-1).cumsum(dim=0)[is_image.reshape(-1)]
    row = torch.nonzero(is_image)[:, 0]
    first, last = ends - counts, ends - 1
    torn = (place[last] - place[first] != counts - 1) | (row[last] != row[first])
    if torn.any():
        image = int(torch.nonzero(torn)[0])
        raise ModelError(
            f"the {int(counts[image])} tokens of image {image} are not side by side in one prompt"
        )
