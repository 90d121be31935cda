"""The small random model that a folder of golden arrays was made with."""

from __future__ import annotations

from pathlib import Path

import torch

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.checkpoint import load_weights, single_file
from alpamayo_ros.vla.config_reader import read_config
from alpamayo_ros.vla.model import AlpamayoModel, constants, empty_model, round_constants

WEIGHTS = "tiny_r1_weights.safetensors"
BACKBONE = "tiny_backbone_config.json"
CONFIGS = {"r1": "tiny_r1_config.json", "1.5": "tiny_r15_config.json"}


def golden_model(folder: Path, version: str, device: str = "cpu") -> AlpamayoModel:
    """The tiny model of a version in fp32. Both share R1's weights; 1.5 stores no constants.

    Raises ModelError where a file is missing or does not fit.
    """
    config = read_config(folder / CONFIGS[version])
    model = empty_model(config, read_backbone(folder / BACKBONE))
    stored_by_r1 = frozenset(name for name, _ in constants(model))
    weights = folder / WEIGHTS
    if not weights.exists():
        raise ModelError(f"{folder} lacks {WEIGHTS}: the cases in it need their model")
    shards = single_file(weights, frozenset() if config.stores_buffers else stored_by_r1)
    load_weights(model, shards, torch.device(device), torch.float32)
    if config.model_dtype == "bfloat16":
        round_constants(model)
    return model
