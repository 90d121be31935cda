"""Alpamayo's modules under the released checkpoints' names, and nothing of how they are run.

vlm               Qwen3VLForConditionalGeneration: sees, reads and reasons
expert            Qwen3VLTextModel without embeddings: denoises 64 waypoints on the vlm's cache
action_space      actions <-> trajectory; holds the normalisation constants
action_in_proj    noisy actions and time -> the expert's embeddings
action_out_proj   the expert's states -> velocities of actions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.action_projection import ActionProjection
from alpamayo_ros.vla.backbone import backbone_config, expert_config
from alpamayo_ros.vla.config import ACTION_DIMS, AlpamayoConfig
from alpamayo_ros.vla.libraries import require_transformers
from alpamayo_ros.vla.trajectory_tokens import DeltaTokenizer
from alpamayo_ros.vla.unicycle import UnicycleActionSpace


class AlpamayoModel(nn.Module):
    """The parameters of one checkpoint. Build with `empty_model` and fill from a checkpoint."""

    def __init__(self, config: AlpamayoConfig, backbone: Mapping[str, Any]) -> None:
        super().__init__()
        require_transformers()
        from transformers import Qwen3VLForConditionalGeneration, Qwen3VLTextModel

        self.config = config
        self.vocabulary = config.vocabulary
        history = config.history_tokens
        self.history_tokenizer = DeltaTokenizer(
            history.ego_xyz_min, history.ego_xyz_max, history.num_bins
        )
        self.vlm = Qwen3VLForConditionalGeneration(backbone_config(config, backbone))
        expert = expert_config(config, backbone)
        self.expert = Qwen3VLTextModel(expert)
        del self.expert.embed_tokens
        for name, module in self.expert.named_modules():
            if name.endswith(".self_attn"):
                module.is_causal = False  # waypoints see each other both ways
        stored = config.stores_buffers
        self.action_space = UnicycleActionSpace(config.action_space, persistent=stored)
        self.action_in_proj = ActionProjection(config.action_projection, expert.hidden_size, stored)
        self.action_out_proj = nn.Linear(expert.hidden_size, ACTION_DIMS)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.action_out_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in."""
        return self.action_out_proj.weight.dtype


def empty_model(config: AlpamayoConfig, backbone: Mapping[str, Any]) -> AlpamayoModel:
    """The modules without memory for parameters (meta device); constants are real, on the CPU."""
    with torch.device("meta"):
        model = AlpamayoModel(config, backbone)
    _make_constants(model)
    return model.eval().requires_grad_(False)


def _make_constants(model: AlpamayoModel) -> None:
    """Buffers that no checkpoint holds are computed anew, off the meta device."""
    config, stored = model.config, model.config.stores_buffers
    model.action_space = UnicycleActionSpace(config.action_space, persistent=stored)
    projection = model.action_in_proj
    constants = ActionProjection(config.action_projection, 1, stored)
    projection.sinus = constants.sinus
    projection.timestep_fourier_encoder = constants.timestep_fourier_encoder
    rotary = model.vlm.model.language_model.rotary_emb
    model.vlm.model.language_model.rotary_emb = type(rotary)(rotary.config)
    model.expert.rotary_emb = type(rotary)(model.expert.config)
    vision = model.vlm.model.visual
    vision.rotary_pos_emb = type(vision.rotary_pos_emb)(vision.config)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if left:
        raise ModelError(
            f"this version of transformers has constants unknown to us: {', '.join(left)}; install "
            "one in the range of the `vla` extra"
        )


def round_constants(model: AlpamayoModel) -> None:
    """Round the constants to bfloat16, in place, as loading the release in bfloat16 does.

    They stay fp32 in storage. The Fourier frequencies amplify what the rounding changes, and the
    weights were trained with it: without it velocities of the tiny model differ by up to 1.3.
    """
    with torch.no_grad():
        for _, buffer in constants(model):
            buffer.copy_(buffer.to(torch.bfloat16).to(buffer.dtype))


def constants(model: AlpamayoModel) -> list[tuple[str, Tensor]]:
    """The seven buffers that R1's checkpoints store and 1.5's do not, by name."""
    return [
        (name, buffer)
        for name, buffer in model.named_buffers()
        if name.startswith(("action_space.", "action_in_proj."))
    ]


def parameter_counts(config: AlpamayoConfig, backbone: Mapping[str, Any]) -> dict[str, int]:
    """Parameters by part, from the configuration alone: no memory is taken for any of them."""
    model = empty_model(config, backbone)
    parts: dict[str, nn.Module] = {
        "vision": model.vlm.model.visual,
        "language": model.vlm.model.language_model,
        "lm_head": model.vlm.lm_head,
        "expert": model.expert,
        "action_in_proj": model.action_in_proj,
        "action_out_proj": model.action_out_proj,
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
