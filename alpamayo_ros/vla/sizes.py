"""The shapes that `alpamayo vla init` makes: the release's, and two that fit any machine."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from alpamayo_ros.vla.backbone import QWEN3_VL_8B
from alpamayo_ros.vla.config_reader import VERSIONS
from alpamayo_ros.vla.unicycle import RELEASED_UNICYCLE
from alpamayo_ros.vla.vocabulary import QWEN_BASE_SIZE, Vocabulary

TINY_BASE = 1050  # 1024 ranks and Qwen's 26 added tokens
MODEL_TYPES = {version: model_type for model_type, version in VERSIONS.items()}

# Text: hidden, intermediate, layers, heads, key/value heads, head size, M-RoPE sections.
# Vision: depth, hidden, intermediate, heads, blocks whose states go to the text's first layers.
_SHAPES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tiny": (
        {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
         "mrope_section": [6, 5, 5]},
        {"depth": 3, "hidden_size": 32, "intermediate_size": 80, "num_heads": 4,
         "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1]},
    ),
    "small": (
        {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 12,
         "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64,
         "mrope_section": [12, 10, 10]},
        {"depth": 12, "hidden_size": 384, "intermediate_size": 1536, "num_heads": 6,
         "out_hidden_size": 768, "deepstack_visual_indexes": [3, 6, 9]},
    ),
}  # fmt: skip
_EXPERTS: Mapping[str, dict[str, int]] = {
    "tiny": {"hidden_size": 48, "num_attention_heads": 2, "head_dim": 32,
             "intermediate_size": 112},
    "small": {"hidden_size": 384, "num_attention_heads": 8, "head_dim": 64,
              "intermediate_size": 1536},
    "full": {"hidden_size": 2048, "num_attention_heads": 16, "head_dim": 128,
             "intermediate_size": 8256},
}  # fmt: skip
_PROJECTION_WIDTHS = {"tiny": 64, "small": 256, "full": 512}


def backbone_shape(size: str) -> dict[str, Any]:
    """A Qwen3-VL `config.json` of that size, as `backbone.read_backbone` gives it."""
    shape: dict[str, Any] = copy.deepcopy(dict(QWEN3_VL_8B))
    if size != "full":
        text, vision = (dict(part) for part in _SHAPES[size])
        shape["text_config"]["rope_scaling"]["mrope_section"] = text.pop("mrope_section")
        shape["text_config"].update(text)
        shape["vision_config"].update(vision)
    return shape


def head_config(size: str, version: str) -> dict[str, Any]:
    """The head `config.json` of that size, with the keys and values of the releases."""
    base = QWEN_BASE_SIZE if size == "full" else TINY_BASE
    vocabulary = Vocabulary.for_base(base, version=version)
    package = "alpamayo_r1" if version == "r1" else "alpamayo1_5"
    action_space = {
        "_target_": f"{package}.action_space.UnicycleAccelCurvatureActionSpace",
        **dataclasses.asdict(RELEASED_UNICYCLE),
    }
    config: dict[str, Any] = {
        "model_type": MODEL_TYPES[version],
        "model_dtype": "bfloat16" if size == "full" else "float32",
        "vlm_backend": "qwenvl3",
        "vocab_size": vocabulary.size,
        "traj_vocab_size": vocabulary.traj_vocab_size,
        "traj_token_start_idx": vocabulary.traj_token_start,
        "traj_token_ids": {
            name: vocabulary.id_of(f"traj_{name}")
            for name in ("history", "future", "history_start", "future_start", "history_end",
                         "future_end")
        },
        "tokens_per_history_traj": 48,
        "tokens_per_future_traj": 128,
        "min_pixels": 163840,
        "max_pixels": 196608,
        "add_special_tokens": True,
        "keep_same_dtype": True,
        "expert_non_causal_attention": True,
        "expert_cfg": dict(_EXPERTS[size]),
        "action_space_cfg": action_space,
        "action_in_proj_cfg": {
            "_target_": f"{package}.models.action_in_proj.PerWaypointActionInProjV2",
            "num_enc_layers": 2,
            "hidden_size": _PROJECTION_WIDTHS[size],
            "num_fourier_feats": 20,
            "max_freq": 100.0,
        },
        "action_out_proj_cfg": {"_target_": "torch.nn.Linear"},
        "diffusion_cfg": {
            "_target_": f"{package}.diffusion.flow_matching.FlowMatching",
            "int_method": "euler",
            "num_inference_steps": 10,
        },
        "traj_tokenizer_cfg": {
            "_target_": f"{package}.action_space.discrete_action_space.DiscreteTrajectoryTokenizer",
            "action_space_cfg": action_space,
            "dims_min": [-10, -10],
            "dims_max": [10, 10],
            "num_bins": 3000,
        },
        "hist_traj_tokenizer_cfg": {
            "_target_": f"{package}.models.delta_tokenizer.DeltaTrajectoryTokenizer"
        },
    }  # fmt: skip
    if version != "r1":
        config |= {"include_camera_ids": True, "include_frame_nums": True}
    return config
