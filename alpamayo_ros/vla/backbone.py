"""The Qwen3-VL under Alpamayo: its 8B shape, built in, or a `config.json` of the same kind.

The released folders name their backbone and do not hold its configuration; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.config_reader import read_json

# Qwen3-VL-8B, which Cosmos-Reason2-8B shares.
QWEN3_VL_8B: Mapping[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": False,
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "max_position_embeddings": 262144,
        "rope_theta": 5000000,
        "rope_scaling": {
            "rope_type": "default",
            "mrope_interleaved": True,
            "mrope_section": [24, 20, 20],
        },
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "hidden_act": "gelu_pytorch_tanh",
        "intermediate_size": 4304,
        "num_heads": 16,
        "in_channels": 3,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "out_hidden_size": 4096,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
TEXT_KEYS = tuple(QWEN3_VL_8B["text_config"])
VISION_KEYS = tuple(QWEN3_VL_8B["vision_config"])
# The expert attends over the language model's keys and values, layer by layer.
SHARED_WITH_EXPERT = ("num_hidden_layers", "num_key_value_heads", "head_dim")


def read_backbone(path: Path | None) -> dict[str, Any]:
    """The backbone's shape: the 8B's, or that of a Qwen3-VL `config.json` (or its folder).

    Raises ModelError where the file is not a Qwen3-VL's or lacks a dimension.
    """
    if path is None:
        return {key: dict(value) if isinstance(value, Mapping) else value
                for key, value in QWEN3_VL_8B.items()}  # fmt: skip
    file = path / "config.json" if path.is_dir() else path
    content = read_json(file)
    if content.get("model_type") != "qwen3_vl":
        raise ModelError(
            f"{file}: model_type is {content.get('model_type')!r}; the backbone is a qwen3_vl"
        )
    text, vision = content.get("text_config"), content.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise ModelError(f"{file} lacks text_config or vision_config")
    text = _with_rope(text)
    for part, keys, name in ((text, TEXT_KEYS, "text_config"), (vision, VISION_KEYS, "vision_")):
        missing = [key for key in keys if key not in part]
        if missing:
            raise ModelError(f"{file}: {name} lacks {', '.join(missing)}")
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": bool(content.get("tie_word_embeddings", False)),
        "text_config": {key: text[key] for key in TEXT_KEYS},
        "vision_config": {key: vision[key] for key in VISION_KEYS},
    }


def _with_rope(text: dict[str, Any]) -> dict[str, Any]:
    """transformers 5 writes `rope_parameters`, 4 wrote `rope_theta` and `rope_scaling`."""
    rope = text.get("rope_parameters")
    if not isinstance(rope, dict):
        return text
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    return {
        "rope_theta": rope.get("rope_theta", text.get("rope_theta")),
        "rope_scaling": scaling,
        **{key: value for key, value in text.items() if key not in ("rope_theta", "rope_scaling")},
    }


def backbone_config(config: AlpamayoConfig, shape: Mapping[str, Any]) -> Any:
    """transformers' Qwen3VLConfig: the backbone's shape with the head's vocabulary."""
    from transformers import Qwen3VLConfig

    vocabulary = config.vocabulary
    text = _text_fields(shape["text_config"])
    text["vocab_size"] = config.vocab_size
    text["bos_token_id"] = vocabulary.pad
    text["eos_token_id"] = vocabulary.im_end
    hf_config = Qwen3VLConfig(
        text_config=text,
        vision_config=dict(shape["vision_config"]),
        image_token_id=vocabulary.image_pad,
        video_token_id=vocabulary.video_pad,
        vision_start_token_id=vocabulary.vision_start,
        vision_end_token_id=vocabulary.vision_end,
        tie_word_embeddings=False,
    )
    hf_config._attn_implementation = "sdpa"
    return hf_config


def expert_config(config: AlpamayoConfig, shape: Mapping[str, Any]) -> Any:
    """transformers' Qwen3VLTextConfig of the expert: the language model's but for its own widths.

    Raises ModelError where its keys and values would not line up with the language model's.
    """
    from transformers import Qwen3VLTextConfig

    inherited = shape["text_config"]
    merged = {**inherited, **config.expert}
    for key in SHARED_WITH_EXPERT:
        if merged[key] != inherited[key]:
            raise ModelError(
                f"expert_cfg.{key} is {merged[key]}, the language model's is {inherited[key]}: "
                "the expert reads the language model's keys and values layer by layer, so they "
                "must agree. Does option `backbone` (default: Qwen3-VL-8B) name this checkpoint's?"
            )
    heads, shared = merged["num_attention_heads"], merged["num_key_value_heads"]
    if heads % shared:
        raise ModelError(
            f"expert_cfg.num_attention_heads is {heads}, no multiple of the {shared} key/value "
            "heads that it shares"
        )
    hf_config = Qwen3VLTextConfig(**_text_fields(merged), vocab_size=1)
    hf_config._attn_implementation = "sdpa"
    return hf_config


def _text_fields(text: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: value for key, value in text.items() if key not in ("rope_theta",
              "rope_scaling")}  # fmt: skip
    fields["rope_parameters"] = {"rope_theta": text["rope_theta"], **text["rope_scaling"]}
    return fields
