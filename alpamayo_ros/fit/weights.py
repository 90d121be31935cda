"""Bytes of the weights by part, from the two configurations alone: no model is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alpamayo_ros.vla.config import ACTION_DIMS, AlpamayoConfig
from alpamayo_ros.vla.quant.precisions import PRECISIONS, Choice

Matrix = tuple[int, int]  # rows, columns


@dataclass(slots=True)
class PartShape:
    """What a part consists of."""

    matrices: list[Matrix] = field(default_factory=list)  # of linear layers: may be quantised
    rest: int = 0  # parameters that never are

    @property
    def parameters(self) -> int:
        """In all."""
        return sum(rows * columns for rows, columns in self.matrices) + self.rest

    def linear(self, rows: int, columns: int, bias: bool = False) -> None:
        """Add a linear layer."""
        self.matrices.append((rows, columns))
        self.rest += rows if bias else 0


def shapes(config: AlpamayoConfig, backbone: Mapping[str, Any]) -> dict[str, PartShape]:
    """By the names of `model.parameter_counts`."""
    text: dict[str, Any] = dict(backbone["text_config"])
    hidden = text["hidden_size"]
    language = _layers(text)
    language.rest += config.vocab_size * hidden
    expert_text = {**text, **config.expert}
    head = PartShape([(config.vocab_size, hidden)])
    return {
        "vision": _vision(backbone["vision_config"]),
        "language": language,
        "lm_head": head,
        "expert": _layers(expert_text),
        "action_in_proj": PartShape(rest=_projection(config, expert_text["hidden_size"])),
        "action_out_proj": PartShape(rest=ACTION_DIMS * (expert_text["hidden_size"] + 1)),
    }


def _layers(text: Mapping[str, Any]) -> PartShape:
    part = PartShape()
    hidden, inner, width = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    own, shared = text["num_attention_heads"] * width, text["num_key_value_heads"] * width
    bias = bool(text["attention_bias"])
    for _ in range(text["num_hidden_layers"]):
        for rows, columns in ((own, hidden), (shared, hidden), (shared, hidden), (hidden, own)):
            part.linear(rows, columns, bias)
        for rows, columns in ((inner, hidden), (inner, hidden), (hidden, inner)):
            part.linear(rows, columns)
        part.rest += 2 * hidden + 2 * width  # norms of the layer, of queries and of keys
    part.rest += hidden
    return part


def _vision(vision: Mapping[str, Any]) -> PartShape:
    part = PartShape()
    hidden, inner = vision["hidden_size"], vision["intermediate_size"]
    patch = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    part.rest += hidden * (patch + 1) + vision["num_position_embeddings"] * hidden
    for _ in range(vision["depth"]):
        for rows, columns in ((3 * hidden, hidden), (hidden, hidden), (inner, hidden),
                              (hidden, inner)):  # fmt: skip
            part.linear(rows, columns, bias=True)
        part.rest += 4 * hidden
    merged = hidden * vision["spatial_merge_size"] ** 2
    for norm in (hidden, *[merged] * len(vision["deepstack_visual_indexes"])):
        part.rest += 2 * norm
        part.linear(merged, merged, bias=True)
        part.linear(vision["out_hidden_size"], merged, bias=True)
    return part


def _projection(config: AlpamayoConfig, width: int) -> int:
    """Parameters of the actions' way into the expert."""
    projection = config.action_projection
    hidden, features = projection.hidden_size, projection.num_fourier_feats * (ACTION_DIMS + 1)
    more = projection.num_enc_layers - 1
    trunk = hidden * (features + 1) + more * (hidden * (hidden + 1) + hidden)
    return trunk + hidden + width * (hidden + 1) + 2 * width


def weight_bytes(
    parts: Mapping[str, PartShape], weights: Choice, dtype: str = "bfloat16"
) -> dict[str, int]:
    """Bytes by part; what is not quantised is of `dtype`."""
    return dict(_weight_bytes(parts, weights, dtype))


def _weight_bytes(
    parts: Mapping[str, PartShape], weights: Choice, dtype: str
) -> Iterator[tuple[str, int]]:
    wide = int(PRECISIONS[dtype].bits) // 8
    chosen = {"vision": weights.vision, "language": weights.backbone, "expert": weights.expert,
              "lm_head": weights.lm_head}  # fmt: skip
    for name, part in parts.items():
        precision = PRECISIONS[chosen.get(name, dtype)]
        matrices = sum(precision.matrix_bytes(*matrix) for matrix in part.matrices)
        yield name, matrices + part.rest * wide
