"""Quantised checkpoints: the release's layout, codes in place of matrices, and which is which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.checkpoint import INDEX, Progress, find_shards
from alpamayo_ros.vla.config_reader import read_json
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.quant.precisions import PARTS, Choice

DESCRIPTION = "quantisation.json"
FORMAT = 1
SHARD_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose weights were quantised: a checkpoint says it wherever it is copied to."""

    licence: str
    sha256: Mapping[str, str]  # of the files, by their names


def origin_of(folder: Path, licence: str, pinned: Mapping[str, str]) -> Origin:
    """Of a full checkpoint. `pinned` files are taken at their word: loading compared them.

    Raises ModelError where there is no checkpoint.
    """
    names = sorted(find_shards(folder).tensors)
    return Origin(licence, {name: pinned.get(name) or file_sha256(folder / name) for name in names})


def manifest_lines(sha256: Mapping[str, str]) -> str:
    """Option `sha256` of a manifest, as its `options` have it."""
    return "\n".join(["  sha256:", *(f'    {name}: "{sha256[name]}"' for name in sorted(sha256))])


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


def stored_errors(folder: Path) -> dict[str, float]:
    """What each part's weights lost when the checkpoint was quantised; empty where it is not.

    Raises ModelError.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        return {}
    errors = read_json(path).get("relative_error")
    if not isinstance(errors, dict) or not all(
        part in PARTS and isinstance(error, (int, float)) for part, error in errors.items()
    ):
        raise ModelError(f"{path}: relative_error is {errors!r}, wanted parts with numbers")
    return {part: float(error) for part, error in errors.items()}


def save(
    model: AlpamayoModel,
    chosen: Choice,
    errors: Mapping[str, float],
    folder: Path,
    head: Mapping[str, Any],
    progress: Progress | None = None,
    origin: Origin | None = None,
) -> dict[str, str]:
    """Write a quantised model in shards; their sha256 by name. `head` is the release's config.json.

    Raises ModelError where the folder holds something already.
    """
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    plan = list(_shards(state))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(plan, start=1):
        file_name = f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        tensors = {name: state[name].cpu().contiguous() for name in names}
        save_file(tensors, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file_name)
        if progress is not None:
            progress(len(weight_map), len(state))
    size_bytes = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": size_bytes}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(head, indent=2) + "\n")
    sha256 = {name: file_sha256(folder / name) for name in sorted(set(weight_map.values()))}
    description = {
        "format": FORMAT,
        "licence": origin.licence if origin else None,
        "source_sha256": dict(origin.sha256) if origin else None,
        "sha256": sha256,
        "weights": asdict(chosen),
        "dtype": str(model.dtype).removeprefix("torch."),
        "relative_error": dict(errors),
        "torch": torch.__version__,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return sha256


def _shards(state: Mapping[str, torch.Tensor]) -> Iterator[list[str]]:
    """Names of tensors, in groups of at most SHARD_BYTES."""
    names: list[str] = []
    size = 0
    for name, tensor in state.items():
        if names and size + tensor.nbytes > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    yield names
