"""A timm backbone as a feature map of one stride, and the neck that makes tokens of it."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from alpamayo_ros import torchvision_operators
from alpamayo_ros.errors import ModelError
from alpamayo_ros.student.config import StudentConfig


def import_timm() -> Any:
    """timm. Raises ModelError with the remedy where it is missing."""
    missing = [name for name in ("timm", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"a student's backbone needs {' and '.join(missing)}: pip install 'alpamayo_ros[train]'"
        )
    torchvision_operators.declare_missing()
    import timm

    return timm


class ImageEncoder(nn.Module):
    """Images (N, 3, H, W), normalised, to tokens (N, T, D); every image for itself."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.backbone, channels = _feature_map(config)
        self.channels = channels
        rows, columns = config.map_size
        self.neck: nn.Module
        if config.neck == "flatten":
            self.neck = FlattenNeck(channels, rows * columns, config)
        else:
            self.neck = GridNeck(channels, rows * columns, config)

    def feature_map(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, channels, rows, columns)."""
        features: Tensor = self.backbone(images)[0]
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.feature_map(images))


class FlattenNeck(nn.Module):
    """Few tokens that know where in the image everything was: one linear map of the whole map."""

    def __init__(self, channels: int, cells: int, config: StudentConfig) -> None:
        super().__init__()
        self.tokens, self.width = config.tokens, config.width
        self.reduce = nn.Conv2d(channels, config.neck_channels, 1)
        self.act = nn.GELU()
        self.project = nn.Linear(config.neck_channels * cells, config.tokens * config.width)
        # Over images, not over a token: what all images have in common tells nothing, and would
        # grow to be all that a token says.
        self.norm = nn.BatchNorm1d(config.tokens * config.width)

    def forward(self, features: Tensor) -> Tensor:
        flat = self.act(self.reduce(features)).flatten(1)
        tokens: Tensor = self.norm(self.project(flat))
        return tokens.reshape(-1, self.tokens, self.width)


class GridNeck(nn.Module):
    """A token for every cell of the feature map, with its place in the image."""

    def __init__(self, channels: int, cells: int, config: StudentConfig) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, config.width, 1)
        self.place = nn.Parameter(torch.randn(cells, config.width) * 0.02)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.project(features).flatten(2).transpose(1, 2)
        return self.norm(tokens + self.place)


def _feature_map(config: StudentConfig) -> tuple[nn.Module, int]:
    """A backbone that returns [map of `stride`], and the map's channels. Raises ModelError."""
    timm = import_timm()
    if not timm.is_model(config.backbone):
        raise ModelError(f"student {config.name}: timm has no backbone {config.backbone!r}")
    try:
        with torch.device("meta"):
            whole = timm.create_model(config.backbone, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError) as error:
        raise ModelError(
            f"student {config.name}: {config.backbone} gives no feature maps: {error}"
        ) from error
    strides = [info["reduction"] for info in whole.feature_info.info]
    if config.stride not in strides:
        raise ModelError(
            f"student {config.name}: {config.backbone} has no feature map of stride "
            f"{config.stride}; it has {', '.join(map(str, strides))}"
        )
    index = max(i for i, stride in enumerate(strides) if stride == config.stride)
    model = timm.create_model(
        config.backbone, pretrained=False, features_only=True, out_indices=(index,)
    )
    return model, int(model.feature_info.channels()[0])
