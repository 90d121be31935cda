"""From a manifest's options to a model in memory with its tokenizer, or an error that names why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.checkpoint import Progress, check_hashes, find_shards, load_weights
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.config_reader import DTYPE_NAMES, read_config
from alpamayo_ros.vla.model import AlpamayoModel, empty_model, round_constants
from alpamayo_ros.vla.quant.checkpoint import stored_choice, stored_errors
from alpamayo_ros.vla.quant.model import Quantiser, check_floats, hollow
from alpamayo_ros.vla.quant.precisions import Choice, choice
from alpamayo_ros.vla.tokenizer import AlpamayoTokenizer, load_tokenizer

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """Where a model is and how it is to be held. Paths are absolute or from the manifest."""

    checkpoint: Path
    tokenizer: Path | None
    backbone: Path | None = None
    sha256: Mapping[str, str] | None = None
    device: str = "cuda"
    dtype: str = "bfloat16"
    weights: str | Mapping[str, str] | None = (
        None  # fewer bits; None: as the checkpoint stores them
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can be run."""

    model: AlpamayoModel
    tokenizer: AlpamayoTokenizer
    weights: Choice
    errors: Mapping[str, float]  # relative, of quantised weights, by part

    @property
    def notes(self) -> tuple[str, ...]:
        """How far off quantised weights are, for logs and the status."""
        return tuple(
            f"weights of {part} as {self.weights.of(part).name} are off by {error:.1%}"
            for part, error in self.errors.items()
        )


def load(source: CheckpointSource, progress: Progress | None = None) -> Loaded:
    """Check everything that is cheap first, then read the weights. Raises ModelError."""
    device, dtype = find_device(source.device), find_dtype(source.dtype)
    shards = find_shards(source.checkpoint)
    config = read_head(source.checkpoint)
    if source.tokenizer is None:
        raise ModelError(
            "the manifest names no `tokenizer`: the released folders hold none. Name a folder with "
            "Qwen3-VL's tokenizer.json (README, Weights)"
        )
    tokenizer = load_tokenizer(source.tokenizer, config.vocabulary)
    model = empty_model(config, read_backbone(source.backbone))
    chosen, quantiser = _weights(source, model, dtype)
    check_hashes(shards, source.sha256 or {})
    try:
        load_weights(model, shards, device, dtype, progress, quantiser)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{source.checkpoint} does not fit the memory of {device} as {source.dtype}: {error}"
        ) from error
    # The release is loaded as its config.json says, whatever the weights are run in here.
    if "bfloat16" in (config.model_dtype, source.dtype):
        round_constants(model)
    errors = quantiser.errors if quantiser else stored_errors(source.checkpoint)
    return Loaded(model, tokenizer, chosen, errors)


def _weights(
    source: CheckpointSource, model: AlpamayoModel, dtype: torch.dtype
) -> tuple[Choice, Quantiser | None]:
    """How the weights are held, and what quantises them; room is made for codes that are stored.

    Raises ModelError.
    """
    stored = stored_choice(source.checkpoint)
    wanted = None if source.weights is None else choice(source.weights, source.dtype)
    if stored is not None:
        if wanted is not None and wanted != stored:
            raise ModelError(
                f"{source.checkpoint} is quantised as {stored}, option weights says {wanted}: "
                "leave it out, or quantise the release anew"
            )
        hollow(model, stored, dtype)
        return stored, None
    wanted = wanted or choice({}, source.dtype)
    check_floats(wanted, dtype)
    return wanted, Quantiser(model, wanted, dtype) if wanted.is_quantised else None


def read_head(folder: Path) -> AlpamayoConfig:
    """The `config.json` of a checkpoint folder. Raises ModelError."""
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{folder} has no config.json: it is no Alpamayo release")
    return read_config(path)


def find_device(name: str) -> torch.device:
    """A device that is there. Raises ModelError naming the remedy."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is none: cpu, cuda or cuda:1 are") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            built = (
                "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
            )
            raise ModelError(
                f"device {name} is not there: this PyTorch, built {built}, sees {count} GPUs. Set "
                "option device=cpu, or install a PyTorch for this machine's driver"
            )
    elif device.type != "cpu":
        raise ModelError(f"device {name!r} is not supported: cpu or cuda")
    return device


def find_dtype(name: Any) -> torch.dtype:
    """A weights' type by name. Raises ModelError."""
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is none of {', '.join(DTYPES)}")
    return DTYPES[name]
