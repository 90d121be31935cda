"""Random checkpoints in the released layout: to load, test and measure without any download."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.checkpoint import INDEX, Progress
from alpamayo_ros.vla.config import ActionProjectionConfig
from alpamayo_ros.vla.config_reader import parse_config
from alpamayo_ros.vla.load import find_device, find_dtype
from alpamayo_ros.vla.model import AlpamayoModel, constants, empty_model, round_constants
from alpamayo_ros.vla.prepare import R1_CAMERA_NAMES
from alpamayo_ros.vla.sizes import backbone_shape, head_config
from alpamayo_ros.vla.tiny_tokenizer import write_tiny_tokenizer

SHARD_BYTES = 2_000_000_000
MANIFEST = "manifest.yaml"
RANDOM_NOTE = "random weights, whose plans mean nothing"
# Random weights hardly ever end their reasoning, so that its length is the limit.
RANDOM_REASONING_TOKENS = 16


def random_model(
    size: str, version: str, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> AlpamayoModel:
    """A random model made on its device; the same seed gives the same weights on the same kind."""
    model = _empty(size, version)
    generator = torch.Generator(device)
    for index, (name, parameter) in enumerate(list(model.named_parameters())):
        generator.manual_seed(_tensor_seed(seed, index))
        values = _random(name, parameter.shape, model.config.action_projection, device, generator)
        owner, _, leaf = name.rpartition(".")
        weight = nn.Parameter(values.to(dtype), requires_grad=False)
        model.get_submodule(owner)._parameters[leaf] = weight
    if torch.bfloat16 in (dtype, find_dtype(model.config.model_dtype)):
        round_constants(model)
    return model.to(device)


def write_checkpoint(
    folder: Path,
    size: str,
    version: str,
    seed: int = 0,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Path:
    """Write a random checkpoint with its manifest, and return the manifest's path.

    One shard at a time is in memory. Raises ModelError where the folder holds something already.
    """
    find_device(device)
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    model = _empty(size, version)
    head, shape = head_config(size, version), backbone_shape(size)
    dtype = find_dtype(head["model_dtype"])
    if dtype == torch.bfloat16:
        round_constants(model)
    _write_shards(folder, model, dtype, seed, torch.device(device), shard_bytes, progress)
    (folder / "config.json").write_text(json.dumps(head, indent=2) + "\n")
    (folder / "backbone").mkdir()
    (folder / "backbone" / "config.json").write_text(json.dumps(shape, indent=2) + "\n")
    if size != "full":
        write_tiny_tokenizer(folder / "tokenizer")
    manifest = folder / MANIFEST
    manifest.write_text(_manifest(size, version, head["model_dtype"]))
    return manifest


def _empty(size: str, version: str) -> AlpamayoModel:
    config = parse_config(head_config(size, version), f"{size} {version}")
    shape = read_backbone(None) if size == "full" else backbone_shape(size)
    return empty_model(config, shape)


def _write_shards(
    folder: Path,
    model: AlpamayoModel,
    dtype: torch.dtype,
    seed: int,
    device: torch.device,
    shard_bytes: int,
    progress: Progress | None,
) -> None:
    plan = list(_shards(model, dtype, shard_bytes))
    stored = dict(constants(model)) if model.config.stores_buffers else {}
    order = {name: index for index, (name, _) in enumerate(model.named_parameters())}
    generator = torch.Generator(device)
    weight_map: dict[str, str] = {}
    done, total = 0, sum(len(names) for names in plan)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for number, names in enumerate(plan, start=1):
        file_name = f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        for name in names:
            if name in stored:
                tensors[name] = stored[name].to(dtype).contiguous()
            else:
                generator.manual_seed(_tensor_seed(seed, order[name]))
                values = _random(
                    name, shapes[name], model.config.action_projection, device, generator
                )
                tensors[name] = values.to(dtype).cpu()
            weight_map[name] = file_name
            done += 1
            if progress is not None:
                progress(done, total)
        save_file(tensors, folder / file_name, metadata={"format": "pt"})
    size_bytes = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
    index = {"metadata": {"total_size": size_bytes}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _shards(model: AlpamayoModel, dtype: torch.dtype, shard_bytes: int) -> Iterator[list[str]]:
    """Names of tensors, in groups of at most `shard_bytes`."""
    names: list[str] = []
    size = 0
    for name, tensor in model.state_dict().items():
        more = tensor.numel() * dtype.itemsize
        if names and size + more > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    yield names


def _tensor_seed(seed: int, index: int) -> int:
    """Each tensor has its own, so that shards can be made in any order."""
    return seed * 1_000_003 + index


def _random(
    name: str,
    shape: torch.Size,
    projection: ActionProjectionConfig,
    device: torch.device,
    generator: torch.Generator,
) -> Tensor:
    """Weights that keep the size of what passes through them; norms at one, biases at zero."""
    leaf = name.rpartition(".")[2]
    if leaf == "bias":
        return torch.zeros(shape, device=device)
    if len(shape) == 1:
        return torch.ones(shape, device=device)
    fan_in = math.prod(shape[1:])
    embedding = "embed" in name.rpartition(".")[0].rpartition(".")[2]
    values = torch.randn(shape, generator=generator, device=device)
    values *= 0.02 if embedding else fan_in**-0.5
    if name == "action_in_proj.encoder.trunk.0.weight":
        # High Fourier frequencies would make the flow's equation stiff: it could not be compared
        # between machines.
        count = projection.num_fourier_feats // 2
        freqs = torch.logspace(0.0, math.log10(projection.max_freq), count, device=device)
        values /= freqs.repeat(shape[1] // count)
    return values


def _manifest(size: str, version: str, dtype: str) -> str:
    """A manifest beside the checkpoint; the full size wants Qwen's own tokenizer."""
    four = f"  allowed: [{', '.join(R1_CAMERA_NAMES)}]\n"
    minimum, allowed = (4, four) if version == "r1" else (1, "")
    maximum = 4 if version == "r1" else 7
    tokenizer = "# tokenizer: DIR  # Qwen3-VL's, for the full vocabulary" if size == "full" else (
        "tokenizer: tokenizer"
    )  # fmt: skip
    return f"""\
# A random checkpoint: alpamayo vla init --size {size} --version {version}
name: alpamayo_{version.replace(".", "_")}_{size}_random
backend: vla
licence: none (random weights)
note: {RANDOM_NOTE}
cameras:
  minimum: {minimum}
  maximum: {maximum}
{allowed}takes_navigation: {str(version != "r1").lower()}
takes_questions: {str(version != "r1").lower()}
options:
  checkpoint: .
  backbone: backbone
  {tokenizer}
  device: cpu
  dtype: {dtype}
  max_new_tokens: {RANDOM_REASONING_TOKENS}
"""
