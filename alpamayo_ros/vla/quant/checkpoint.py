"""Quantised checkpoints: the release's layout, codes in place of matrices, and which is which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.checkpoint import INDEX, Progress
from alpamayo_ros.vla.config_reader import read_json
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.quant.precisions import PARTS, Choice

DESCRIPTION = "quantisation.json"
FORMAT = 1
SHARD_BYTES = 2_000_000_000


def stored_choice(folder: Path) -> Choice | None:
    """How a checkpoint's weights are stored; None: as they were released. Raises ModelError."""
    path = folder / DESCRIPTION
    if not path.exists():
        return None
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ModelError(f"{path}: format {content.get('format')!r}, this version reads {FORMAT}")
    weights = content.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(weights.get(p), str) for p in PARTS):
        raise ModelError(f"{path} names no precision for each of {', '.join(PARTS)}")
    return Choice(**{part: weights[part] for part in PARTS})


def save(
    model: AlpamayoModel,
    chosen: Choice,
    errors: Mapping[str, float],
    folder: Path,
    head: Mapping[str, Any],
    progress: Progress | None = None,
) -> None:
    """Write a quantised model in shards. `head` is the release's config.json.

    Raises ModelError where the folder holds something already.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    split = split_torch_state_dict_into_shards(state, max_shard_size=SHARD_BYTES)
    done = 0
    for file_name, names in split.filename_to_tensors.items():
        tensors = {name: state[name].cpu().contiguous() for name in names}
        save_file(tensors, folder / file_name, metadata={"format": "pt"})
        done += len(names)
        if progress is not None:
            progress(done, len(state))
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(head, indent=2) + "\n")
    description = {
        "format": FORMAT,
        "weights": asdict(chosen),
        "dtype": str(model.dtype).removeprefix("torch."),
        "relative_error": dict(errors),
        "torch": torch.__version__,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
