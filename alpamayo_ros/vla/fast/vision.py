"""The vision encoder on the model's own parameters, frame by frame or a few frames at once.

Against transformers' forward: a still frame enters once (the patch embedding is summed over its two
temporal halves), positions are made once a grid, attention takes all images of a group in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from alpamayo_ros.vla.fast.vision_attention import attentions
from alpamayo_ros.vla.generation import ImageFeatures
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.vision_input import VisionConfig, resize, smart_resize, still_patches


@dataclass(frozen=True, slots=True)
class GridConstants:
    """What depends on an image's rows and columns of patches alone."""

    embedding: Tensor  # (patches, hidden), the learned positions resampled
    turn: tuple[Tensor, Tensor]  # fp32, of `Attention.tables`


class FastVision:
    """Frames to features, by the model's parameters as they were when it was made.

    `group` images go through in one call, the last group filled up with zeros: as every call has
    one shape, a frame's features do not depend on which frames are encoded with it. On a CPU one at
    a time is as fast as four (attention and caches see one image either way).
    """

    def __init__(self, model: AlpamayoModel, group: int | None = None) -> None:
        self._visual = model.vlm.model.visual
        config = self._visual.config
        self.group = group or (4 if model.device.type == "cuda" else 1)
        self.config = VisionConfig(
            config.patch_size, 1, config.spatial_merge_size, model.config.min_pixels,
            model.config.max_pixels,
        )  # fmt: skip
        self._temporal = config.temporal_patch_size
        # Both halves of a still frame's patch are the same pixels: their weights are added.
        weight = self._visual.patch_embed.proj.weight
        still = weight.float().sum(2).to(weight.dtype)  # (hidden, colour, rows, columns)
        self._of_still = still.flatten(1)
        self._of_pixels = still.permute(0, 2, 3, 1).flatten(1)  # as a frame has them
        self._attentions = attentions(self._visual.blocks)
        self._grids: dict[tuple[int, int], GridConstants] = {}

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of a frame of that many pixels, after resizing."""
        config = self.config
        size = smart_resize(height, width, config.factor, config.min_pixels, config.max_pixels)
        return size[0] // config.patch, size[1] // config.patch

    def encode_frames(self, frames: Tensor) -> list[ImageFeatures]:
        """Frames (N, H, W, 3) uint8 on the model's device, each to its features."""
        rows, columns = self.grid_of(frames.shape[1], frames.shape[2])
        found: list[ImageFeatures] = []
        for part in frames.split(self.group):
            images = resize(part, rows * self.config.patch, columns * self.config.patch)
            patches = still_patches(images, self.config)
            found += self._group(patches, self._of_pixels, (rows, columns))
        return found

    def encode_pixel_values(self, pixel_values: Tensor, grid_thw: Tensor) -> ImageFeatures:
        """As `generation.see`: patches (P, 1536) of images (N, 3) of any sizes, all in one.

        Patches whose halves differ are of no still frame, and keep both.
        """
        halves = pixel_values.view(len(pixel_values), -1, self._temporal, self.config.patch**2)
        still = bool((halves == halves[:, :, :1]).all())
        patches, weight = pixel_values, self._visual.patch_embed.proj.weight.flatten(1)
        if still:
            patches, weight = halves[:, :, 0].flatten(1), self._of_still
        grids = [(int(rows), int(columns)) for _, rows, columns in grid_thw.tolist()]
        found: list[ImageFeatures] = []
        start = first = 0
        while first < len(grids):
            count = 1
            while count < self.group and grids[first : first + count + 1] == [grids[first]] * (
                count + 1
            ):
                count += 1
            size = grids[first][0] * grids[first][1]
            end = start + count * size
            found += self._group(patches[start:end].view(count, size, -1), weight, grids[first])
            first, start = first + count, end
        return joined(found)

    def constants(self, grid: tuple[int, int]) -> GridConstants:
        """Made once a grid."""
        if grid not in self._grids:
            self._grids[grid] = self._constants(*grid)
        return self._grids[grid]

    def _group(self, patches: Tensor, weight: Tensor, grid: tuple[int, int]) -> list[ImageFeatures]:
        """Up to `group` images (N, P, in) fp32 of one grid; `weight` (hidden, in) embeds them."""
        count = len(patches)
        if count < self.group:
            blank = patches.new_zeros((self.group - count, *patches.shape[1:]))
            patches = torch.cat((patches, blank))
        embeddings, deepstack = self._forward(patches, weight, self.constants(grid))
        return [ImageFeatures(embeddings[i], [layer[i] for layer in deepstack])
                for i in range(count)]  # fmt: skip

    def _forward(
        self, patches: Tensor, weight: Tensor, constants: GridConstants
    ) -> tuple[Tensor, list[Tensor]]:
        """Images (N, P, in) to features (N, P / 4, out), and such a deepstack layer."""
        visual: Any = self._visual
        x = functional.linear(patches.to(weight.dtype), weight, visual.patch_embed.proj.bias)
        x = x + constants.embedding.to(x.dtype)
        count, length, width = x.shape
        deepstack = []
        for i, (block, attention) in enumerate(zip(visual.blocks, self._attentions)):
            x = attention(block.norm1(x), *constants.turn).add_(x)
            x = block.mlp(block.norm2(x)).add_(x)
            if i in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(i)]
                deepstack.append(
                    merger(x.view(-1, width)).view(count, -1, visual.config.out_hidden_size)
                )
        merged = visual.merger(x.view(-1, width))
        return merged.view(count, -1, merged.shape[-1]), deepstack

    def _constants(self, rows: int, columns: int) -> GridConstants:
        visual, merge = self._visual, self.config.merge
        table = visual.pos_embed.weight
        device, side = table.device, round(len(table) ** 0.5)
        # Patches that are merged, 2 x 2, follow one another.
        index = torch.arange(rows * columns, device=device).view(rows, columns)
        order = index.view(rows // merge, merge, columns // merge, merge).transpose(1, 2).flatten()
        row, column = order // columns, order % columns
        corners = []
        for place, count in ((row, rows), (column, columns)):
            # Bilinear with aligned corners: the first patch on the first entry, the last on last.
            along = torch.linspace(0.0, side - 1, count, device=device)[place]
            low = along.long()
            corners.append((low, (low + 1).clamp(max=side - 1), along - low))
        (top, bottom, down), (left, right, across) = corners
        pieces = (
            (top, left, (1 - down) * (1 - across)), (top, right, (1 - down) * across),
            (bottom, left, down * (1 - across)), (bottom, right, down * across),
        )  # fmt: skip
        embedding = sum(table[y * side + x] * weight[:, None] for y, x, weight in pieces)
        frequencies = visual.rotary_pos_emb.inv_freq.to(device).float()
        angles = torch.cat((row[:, None] * frequencies, column[:, None] * frequencies), dim=-1)
        angles = torch.cat((angles, angles), dim=-1)
        assert isinstance(embedding, Tensor)
        return GridConstants(embedding, self._attentions[0].tables(angles))


def joined(frames: list[ImageFeatures]) -> ImageFeatures:
    """Frames in order as one prompt's features."""
    layers = zip(*(frame.deepstack for frame in frames))
    return ImageFeatures(
        torch.cat([frame.embeddings for frame in frames]), [torch.cat(layer) for layer in layers]
    )
