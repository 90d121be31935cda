"""Frames to what the vision encoder reads: resized, normalised, cut into patches.

Runs on the device that holds the frames; 16 frames go through each step at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from alpamayo_ros.errors import ModelError

_MAX_ASPECT = 200  # the release refuses longer images


@dataclass(frozen=True)
class VisionConfig:
    """How the backbone cuts an image; sides become multiples of patch * merge pixels."""

    patch: int = 16
    temporal_patch: int = 2  # a still image fills it by standing twice
    merge: int = 2
    min_pixels: int = 163_840
    max_pixels: int = 196_608

    @property
    def factor(self) -> int:
        return self.patch * self.merge


@dataclass(frozen=True)
class VisionInput:
    """What the encoder takes: images in the order camera by camera, oldest frame first."""

    pixel_values: Tensor  # (patches, 3 * temporal_patch * patch * patch) float32 in [-1, 1]
    image_grid_thw: Tensor  # (images, 3) int64: 1, rows, columns of patches


def smart_resize(
    height: int,
    width: int,
    factor: int = 32,
    min_pixels: int = 163_840,
    max_pixels: int = 196_608,
) -> tuple[int, int]:
    """(height, width) in multiples of `factor` nearest to the image's own that have between
    `min_pixels` and `max_pixels` pixels and about its aspect ratio: 1080 x 1920 -> 320 x 576.
    ModelError: an image without pixels, or longer than 200 times its width."""
    if min(height, width) < 1 or max(height, width) > _MAX_ASPECT * min(height, width):
        raise ModelError(
            f"an image of {width}x{height} pixels has no size that the model takes: its sides may "
            f"differ {_MAX_ASPECT} times"
        )
    rows, columns = (factor * round(side / factor) for side in (height, width))
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (
            max(factor, factor * math.floor(side / shrink / factor)) for side in (height, width)
        )
    elif rows * columns < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (factor * math.ceil(side * grow / factor) for side in (height, width))
    return rows, columns


def vision_input(
    frames: NDArray[np.uint8] | Tensor,
    config: VisionConfig | None = None,
    device: torch.device | str | None = None,
) -> VisionInput:
    """Frames (..., H, W, 3) uint8 RGB, as (C, 4, H, W, 3) of a PlannerSample, to patches.

    `device` (default: where the frames are) takes them as uint8, an eighth of the patches' bytes.
    Raises ModelError: not such an array.
    """
    config = config or VisionConfig()
    images = _images(frames, device)
    size = smart_resize(
        images.shape[1], images.shape[2], config.factor, config.min_pixels, config.max_pixels
    )
    images = resize(images, *size)
    grid = torch.tensor([[1, size[0] // config.patch, size[1] // config.patch]])
    grid = grid.expand(len(images), 3).contiguous().to(images.device)
    return VisionInput(patchify(images, config), grid)


def _images(frames: Any, device: torch.device | str | None) -> Tensor:
    """(N, H, W, 3) uint8 on `device`."""
    if not isinstance(frames, Tensor):
        array = np.ascontiguousarray(frames)
        # torch warns of arrays that it may not write to, as a sample's are. Nothing here writes.
        array = array if array.flags.writeable else array.copy()
        frames = torch.from_numpy(array)
    if frames.dtype != torch.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ModelError(
            f"frames are {str(frames.dtype).removeprefix('torch.')} of shape "
            f"{tuple(frames.shape)}, wanted uint8 RGB (..., height, width, 3)"
        )
    if not frames.numel():
        raise ModelError(f"frames of shape {tuple(frames.shape)} are empty")
    return frames.to(device).flatten(0, -4) if frames.ndim > 3 else frames.to(device)[None]


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, (N, H, W, 3) uint8 to (N, height, width, 3) uint8.

    On a CPU torch's kernel for uint8: equal to the release's. No other device has one; see
    `resize_in_float` for what it does there.
    """
    if images.shape[1:3] == (height, width):
        return images
    planes = images.permute(0, 3, 1, 2)
    if images.device.type == "cpu":
        return _bicubic(planes, height, width).permute(0, 2, 3, 1)
    return resize_in_float(planes, height, width).permute(0, 2, 3, 1)


def resize_in_float(planes: Tensor, height: int, width: int) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3, height, width) uint8 by way of float32, on any device.

    Columns, then rows, each rounded half up and clamped as the uint8 kernel does: clamping the
    overshoot at an edge once at the end is up to 4 grey levels off. What remains are the kernel's
    16-bit weights: of a 1080p picture 2 values in 100 differ by one level, a few in a million by 2.
    """
    columns = _rounded(_bicubic(planes.float(), planes.shape[2], width))
    return _rounded(_bicubic(columns, height, width)).to(torch.uint8)


def _rounded(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


def _bicubic(planes: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(
        planes, (height, width), mode="bicubic", align_corners=False, antialias=True
    )


def patchify(images: Tensor, config: VisionConfig | None = None) -> Tensor:
    """Images (N, H, W, 3) uint8 to patches (N * H/16 * W/16, 1536) float32 in [-1, 1].

    In the order of `still_patches`; a patch is (3, 2, 16, 16): colour, the frame twice, rows,
    columns. ModelError: sides that do not divide.
    """
    config = config or VisionConfig()
    patches = _cut(images, config).permute(0, 1, 4, 2, 5, 7, 3, 6).contiguous()
    values = _scaled(patches)
    still = values.unsqueeze(6).expand(*values.shape[:6], config.temporal_patch, -1, -1)
    return still.reshape(values.shape[:5].numel(), -1)


def still_patches(images: Tensor, config: VisionConfig | None = None) -> Tensor:
    """Images (N, H, W, 3) uint8 to patches (N, H/16 * W/16, 768) float32 in [-1, 1].

    Those that the encoder merges, 2 x 2, follow one another; a patch is (16, 16, 3) as the image
    has it: rows, columns, colour. Errors as `patchify`.
    """
    cut = _cut(images, config or VisionConfig()).flatten(6)  # a row's pixels are copied as one
    patches = cut.permute(0, 1, 4, 2, 5, 3, 6).contiguous()
    return _scaled(patches).view(len(images), patches.shape[1:5].numel(), -1)


def _cut(images: Tensor, config: VisionConfig) -> Tensor:
    """(N, H, W, 3) as (N, block row, row in block, pixel row, block column, column in block, pixel
    column, colour)."""
    count, height, width, _ = images.shape
    if height % config.factor or width % config.factor:
        raise ModelError(
            f"images of {width}x{height} pixels do not divide into {config.factor} x "
            f"{config.factor}; resize them first"
        )
    down, across = height // config.factor, width // config.factor
    return images.reshape(count, down, config.merge, config.patch, across, config.merge, -1, 3)


def _scaled(pixels: Tensor) -> Tensor:
    """What mean 0.5 and deviation 0.5 of pixels in [0, 1] come to, computed as the release does."""
    return pixels.float().sub_(127.5).div_(127.5)
