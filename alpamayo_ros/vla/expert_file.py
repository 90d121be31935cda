"""What an exported expert says of itself, and whether it belongs to the checkpoint at hand.

An ONNX file and an engine hold weights of their own. Nothing in their numbers shows whose they are,
so that the file states it: its checkpoint's hash and licence, its sizes, its precision.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.checkpoint import Shards
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.expert_graph import GraphShape
from alpamayo_ros.vla.model import AlpamayoModel, constants

KIND = "alpamayo action expert"
FORMAT = "1"
PREFIX = "alpamayo."  # of every key, so that other tools' metadata does no harm
LAYOUT = "prefix (layers, samples, kv_heads, prefix, head_dim); hidden places last, then 64 own"
PARTS = ("expert.", "action_in_proj.", "action_out_proj.")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
EXPORT = "alpamayo vla export-expert"


@dataclass(frozen=True, slots=True)
class ExpertIdentity:
    """Whose expert it is."""

    model: str  # the manifest's name, for people; two manifests may share a checkpoint
    version: str  # "r1" or "1.5"
    licence: str  # as the manifest has it
    sha256: str  # of the head configuration and the expert's weights
    rounded_constants: bool  # whether Fourier frequencies are bfloat16's


@dataclass(frozen=True, slots=True)
class ExpertFile:
    """All that a file states."""

    identity: ExpertIdentity
    shape: GraphShape
    precision: str  # key of PRECISIONS

    @property
    def dtype(self) -> torch.dtype:
        """Of keys, values and mask."""
        return PRECISIONS[self.precision]

    def metadata(self) -> dict[str, str]:
        """As text, for ONNX's metadata and an engine's sidecar."""
        fields = {
            "kind": KIND,
            "format": FORMAT,
            "layout": LAYOUT,
            "precision": self.precision,
            **{k: _text(v) for k, v in dataclasses.asdict(self.identity).items()},
            **{k: _text(v) for k, v in dataclasses.asdict(self.shape).items()},
        }
        return {PREFIX + name: value for name, value in fields.items()}


def parse_metadata(metadata: Mapping[str, str], where: str) -> ExpertFile:
    """The inverse of `metadata()`. Raises ModelError where `where` is no file of ours."""
    fields = {k[len(PREFIX) :]: v for k, v in metadata.items() if k.startswith(PREFIX)}
    if fields.get("kind") != KIND:
        raise ModelError(f"{where} is no exported action expert: make one with {EXPORT}")
    if fields.get("format") != FORMAT or fields.get("layout") != LAYOUT:
        raise ModelError(
            f"{where} has format {fields.get('format')}, this version reads {FORMAT}: "
            f"make it again with {EXPORT}"
        )
    try:
        identity = ExpertIdentity(
            fields["model"],
            fields["version"],
            fields["licence"],
            fields["sha256"],
            {"true": True, "false": False}[fields["rounded_constants"]],
        )
        shape = GraphShape(**{e.name: int(fields[e.name]) for e in dataclasses.fields(GraphShape)})
        if fields["precision"] not in PRECISIONS:
            raise ValueError(fields["precision"])
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{where}: its metadata is damaged ({error!r}); make it again with {EXPORT}"
        ) from error
    return ExpertFile(identity, shape, fields["precision"])


def identify(
    name: str, licence: str, model: AlpamayoModel, backbone: Mapping[str, Any], shards: Shards
) -> ExpertIdentity:
    """Whose expert a loaded model's is. Reads the weights of the expert from their files."""
    return ExpertIdentity(
        name,
        model.config.version,
        licence,
        expert_sha256(model.config, backbone, shards),
        has_rounded_constants(model),
    )


def expert_sha256(config: AlpamayoConfig, backbone: Mapping[str, Any], shards: Shards) -> str:
    """Of the configuration and of the expert's weights as stored: the same on every device and in
    whatever type they are run."""
    digest = hashlib.sha256()
    described = {"head": dataclasses.asdict(config), "text": backbone["text_config"]}
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    places = {name: file for file, names in shards.tensors.items() for name in names}
    for name in sorted(places):
        # R1 stores the projection's frequencies and 1.5 does not: `rounded_constants` tells them.
        if name.startswith(PARTS) and not name.endswith(".freqs"):
            with safe_open(shards.folder / places[name], framework="pt") as file:
                tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def has_rounded_constants(model: AlpamayoModel) -> bool:
    """Whether the frequencies were rounded to bfloat16 when the model was loaded."""
    return all(
        bool((buffer.to(torch.bfloat16).to(buffer.dtype) == buffer).all())
        for name, buffer in constants(model)
        if name.endswith(".freqs")
    )


def check_belongs(file: ExpertFile, wanted: ExpertIdentity, where: str) -> None:
    """Raises ModelError naming everything in which the file is not of the loaded checkpoint."""
    own = file.identity
    faults = [
        f"{what} {_text(ours)!r}, the loaded model's is {_text(theirs)!r}"
        for what, ours, theirs in (
            ("Alpamayo version", own.version, wanted.version),
            ("sha256 of configuration and expert", own.sha256, wanted.sha256),
            ("licence", own.licence, wanted.licence),
            ("rounded_constants", own.rounded_constants, wanted.rounded_constants),
        )
        if ours != theirs
    ]
    if faults:
        raise ModelError(
            f"{where} was made of model {own.model} and does not belong to the loaded model "
            f"{wanted.model}: its {'; its '.join(faults)}. Make one of this model's manifest: "
            f"{EXPORT} --model MANIFEST --out FILE.onnx"
        )


def check_shape(file: ExpertFile, model: AlpamayoModel, where: str) -> None:
    """Raises ModelError where layers or heads are not the model's."""
    config = model.expert.config
    ours = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
    theirs = (file.shape.layers, file.shape.kv_heads, file.shape.head_dim)
    if ours != theirs:
        raise ModelError(
            f"{where} has (layers, key/value heads, head size) {theirs}, the loaded model {ours}"
        )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
