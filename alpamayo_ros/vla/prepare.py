"""A planner's sample to the model's inputs: pictures to patches, text and history to token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, PlannerSample
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.prompt import (
    PromptConfig,
    expand_image_ids,
    planning_text,
    question_text,
    tokens_per_image,
)
from alpamayo_ros.vla.tokenizer import AlpamayoTokenizer
from alpamayo_ros.vla.trajectory_tokens import fuse_history
from alpamayo_ros.vla.vision_input import VisionConfig, VisionInput, vision_input

R1_CAMERAS = (0, 1, 2, 6)
R1_CAMERA_NAMES = tuple(CAMERA_NAMES[index] for index in R1_CAMERAS)


def prompt_config(model: AlpamayoModel) -> PromptConfig:
    """What this checkpoint's prompts contain."""
    config = model.config
    return PromptConfig(
        config.version,
        config.include_camera_ids,
        config.include_frame_nums,
        config.tokens_per_history,
    )


def check_cameras(version: str, camera_indices: Sequence[int]) -> None:
    """R1 has seen its four cameras and no others. Raises ModelError."""
    if version == "r1" and tuple(camera_indices) != R1_CAMERAS:
        raise ModelError(
            f"Alpamayo R1 takes cameras {R1_CAMERAS} ({', '.join(R1_CAMERA_NAMES)}), got "
            f"{tuple(camera_indices)}; 1.5 takes one to seven of any"
        )


def history_tensors(model: AlpamayoModel, sample: PlannerSample) -> tuple[Tensor, Tensor]:
    """(1, 16, 3) and (1, 16, 3, 3) fp32 in the rig frame at t0, on the model's device."""
    xyz = torch.tensor(sample.history_xyz_in_rig_t0, dtype=torch.float32, device=model.device)
    rot = torch.tensor(sample.history_rot_in_rig_t0, dtype=torch.float32, device=model.device)
    return xyz[None], rot[None]


def planning_prompt(
    model: AlpamayoModel,
    tokenizer: AlpamayoTokenizer,
    config: PromptConfig,
    sample: PlannerSample,
    history_xyz_in_rig_t0: Tensor,
    history_rot_in_rig_t0: Tensor,
    pictures: VisionInput | None = None,
) -> Prompt:
    """The prompt for a plan, with the history as `history_tensors` gives it.

    `pictures` are the sample's where they are made already.

    Raises ModelError: cameras, or a text that may not enter a prompt.
    """
    cameras = sample.camera_indices.tolist()
    check_cameras(config.version, cameras)
    text = planning_text(config, cameras, N_FRAMES, sample.navigation)
    prompt = _prompt(model, tokenizer, text, sample, pictures)
    bins = model.history_tokenizer.encode(history_xyz_in_rig_t0, history_rot_in_rig_t0)
    history = bins + model.vocabulary.history_token_start
    ids = fuse_history(prompt.input_ids, model.vocabulary.traj_history, history)
    return Prompt(ids, prompt.attention_mask, prompt.pixel_values, prompt.image_grid_thw)


def question_prompt(
    model: AlpamayoModel,
    tokenizer: AlpamayoTokenizer,
    config: PromptConfig,
    sample: PlannerSample,
    question: str,
) -> Prompt:
    """The prompt for an answer in words. Raises ModelError: R1, or a text that may not enter."""
    text = question_text(config, sample.camera_indices.tolist(), question, N_FRAMES)
    return _prompt(model, tokenizer, text, sample)


def _prompt(
    model: AlpamayoModel,
    tokenizer: AlpamayoTokenizer,
    text: str,
    sample: PlannerSample,
    pictures: VisionInput | None = None,
) -> Prompt:
    visual = model.vlm.model.visual.config
    vision = VisionConfig(
        visual.patch_size,
        visual.temporal_patch_size,
        visual.spatial_merge_size,
        model.config.min_pixels,
        model.config.max_pixels,
    )
    pictures = pictures or vision_input(sample.images, vision, model.device)
    counts = tokens_per_image(pictures.image_grid_thw, vision.merge)
    ids = expand_image_ids(tokenizer.encode(text), model.vocabulary.image_pad, counts)
    input_ids = torch.tensor([ids], dtype=torch.long, device=model.device)
    return Prompt(
        input_ids, torch.ones_like(input_ids), pictures.pixel_values, pictures.image_grid_thw
    )
