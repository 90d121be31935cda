"""Damaged checkpoints: a ModelError that names the file, or weights that are whole and finite."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz import wild
from fuzz.budget import fuzzed
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.checkpoint import INDEX, SINGLE, find_shards, load_weights
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.config_reader import parse_config, read_json
from alpamayo_ros.vla.initialise import head_config

GENERATOR = torch.Generator().manual_seed(0)
GOOD = save({
    "layer.weight": torch.rand(3, 4, generator=GENERATOR),
    "layer.bias": torch.rand(3, generator=GENERATOR, dtype=torch.bfloat16),
})  # fmt: skip
HEADER_BYTES = struct.unpack("<Q", GOOD[:8])[0]
HEADER = json.loads(GOOD[8 : 8 + HEADER_BYTES])
INDEXED = {"metadata": {}, "weight_map": {"layer.weight": SINGLE, "layer.bias": SINGLE}}
CONFIGS = [head_config("tiny", version) for version in ("r1", "1.5")]


class Model(nn.Module):
    """What the good file fills."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)


def _with_header(header: Any) -> bytes:
    text = json.dumps(header, default=str).encode()
    return struct.pack("<Q", len(text)) + text + GOOD[8 + HEADER_BYTES :]


FILES = st.one_of(
    wild.mutated_tree(HEADER).map(_with_header), wild.damaged(GOOD), st.binary(max_size=64)
)
INDICES = st.one_of(
    st.none(),
    wild.mutated_tree(INDEXED).map(lambda tree: json.dumps(tree, default=str)),
    wild.damaged_text(json.dumps(INDEXED)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoint")


@fuzzed(0.03, content=FILES, index=INDICES)
def test_safetensors(folder: Path, content: bytes, index: str | None) -> None:
    """Header, index and values."""
    (folder / SINGLE).write_bytes(content)
    (folder / INDEX).unlink(missing_ok=True)
    if index is not None:
        (folder / INDEX).write_bytes(index.encode("utf-8", "surrogatepass"))
    model: Any = Model()
    try:
        load_weights(model, find_shards(folder), torch.device("cpu"), torch.float32)
    except ModelError as error:
        assert str(error)
        return
    assert model.layer.weight.shape == (3, 4) and model.layer.bias.shape == (3,)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@fuzzed(0.03, content=st.sampled_from(CONFIGS).flatmap(wild.mutated_tree))
def test_configurations(folder: Path, content: Any) -> None:
    """A configuration, or a ModelError that names the file."""
    path = folder / "config.json"
    path.write_text(json.dumps(content, default=str))
    try:
        config = parse_config(read_json(path), str(path))
    except ModelError as error:
        assert str(path) in str(error)
        return
    assert isinstance(config, AlpamayoConfig)
