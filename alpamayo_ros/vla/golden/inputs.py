"""What goes into the model and how its output is scored: pictures, prompts, poses, metrics."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.evaluation import metrics
from alpamayo_ros.types import N_HISTORY, N_WAYPOINTS
from alpamayo_ros.vla.golden.result import ATOL, CaseResult
from alpamayo_ros.vla.golden.trajectory import Arrays
from alpamayo_ros.vla.positions import mrope_positions
from alpamayo_ros.vla.prompt import (
    PromptConfig,
    expand_image_ids,
    planning_text,
    question_text,
    tokens_per_image,
)
from alpamayo_ros.vla.tokenizer import AlpamayoTokenizer
from alpamayo_ros.vla.vision_input import VisionConfig, patchify, resize, smart_resize
from alpamayo_ros.vla.vocabulary import Vocabulary

# The reference ends in fp32: 6e-8 of up to 60 m.
ATOL_POSE_M = 1e-5
# name -> cameras, navigation text, question
PROMPTS: dict[str, tuple[tuple[int, ...], str | None, str | None]] = {
    "r1_4cam": ((0, 1, 2, 6), None, None),
    "r15_4cam": ((0, 1, 2, 6), None, None),
    "r15_4cam_nav": ((0, 1, 2, 6), "Turn left onto De La Cruz Boulevard in 40m", None),
    "r15_1cam": ((1,), None, None),
    "r15_2cam": ((1, 6), None, None),
    "r15_7cam": (tuple(range(7)), None, None),
    "r15_vqa_1cam": ((1,), None, "Describe the scene."),
}


def check_preprocess(arrays: Arrays, result: CaseResult) -> None:
    """Sizes, the resized picture to the grey level, and the patches of it."""
    sizes = [smart_resize(int(h), int(w)) for h, w in arrays["sizes_in"]]
    result.exact("sizes", np.array(sizes), arrays["sizes_out"])
    picture = _picture()
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    result.exact("picture", np.array(digest), arrays["input_sha256"])
    frames = torch.as_tensor(picture.transpose(1, 2, 0).copy())[None]
    golden = np.asarray(arrays["resized_uint8"])
    small = resize(frames, *golden.shape[1:])
    result.exact("resized", small[0].permute(2, 0, 1), golden)
    patches = patchify(small, VisionConfig())
    first = np.asarray(arrays["pixel_values_first_rows"])
    result.close("patches", patches[: len(first)], first, 1e-6)
    result.close("patches", patches[100:104], arrays["pixel_values_rows_100_104"], 1e-6)
    spread = [float(patches.double().mean()), float(patches.double().std())]
    result.close("spread", np.array(spread), arrays["pixel_values_mean_std"], ATOL)


def _picture() -> NDArray[np.uint8]:
    """The picture that the arrays were made of (golden/README.md), (3, 1080, 1920)."""
    rng = np.random.default_rng(501)
    yy, xx = np.mgrid[0:1080, 0:1920]
    planes = [np.round(127 + 120 * np.sin(xx / 97 + c) * np.cos(yy / 61 - c)) for c in range(3)]
    image = np.stack(planes).clip(0, 255).astype(np.uint8)
    image[:, 300:500, 600:900] = rng.integers(0, 256, (3, 200, 300), np.uint8)
    image[:, 700:720] = 255
    image[:, :, 1000:1004] = 0
    return image


def check_prompts(
    arrays: Arrays, tokenizers: dict[str, AlpamayoTokenizer] | None, result: CaseResult
) -> None:
    """Text, ids (with a real vocabulary) and positions of every prompt with the full vocabulary."""
    for name, (cameras, navigation, question) in PROMPTS.items():
        if f"{name}.text" not in arrays:
            continue
        version = "r1" if name.startswith("r1_") else "1.5"
        config = PromptConfig.released(version)
        if question is None:
            text = planning_text(config, cameras, navigation=navigation)
        else:
            text = question_text(config, cameras, question)
        result.exact("text", np.array(text), arrays[f"{name}.text"])
        grid = torch.as_tensor(arrays[f"{name}.image_grid_thw"])
        ids = torch.as_tensor(arrays[f"{name}.input_ids"]).long()
        vocabulary = Vocabulary.for_base(version=version)
        if tokenizers is not None:
            ours = expand_image_ids(
                tokenizers[version].encode(text), vocabulary.image_pad, tokens_per_image(grid)
            )
            result.exact("ids", np.array([ours]), ids)
        positions, delta = mrope_positions(ids, torch.ones_like(ids), grid, vocabulary.image_pad)
        result.exact("positions", positions, arrays[f"{name}.position_ids"])
        result.exact("positions", delta, arrays[f"{name}.rope_delta"])
    if tokenizers is None:
        result.notes.append("ids not compared: --tokenizer names no folder with Qwen's")


def check_dataset(arrays: Arrays, result: CaseResult) -> None:
    """World poses in the rig frame at t0, past and future."""
    xyz = np.concatenate((arrays["world_16_xyz"], arrays["world_64_xyz"]))
    quaternions = np.concatenate((arrays["world_16_quat_xyzw"], arrays["world_64_quat_xyzw"]))
    rotations = geometry.quaternion_to_rotation(quaternions)
    origin, axes = xyz[N_HISTORY - 1], rotations[N_HISTORY - 1]
    local_xyz = (xyz - origin) @ axes
    local_rot = axes.T @ rotations
    for name, part, shape in (
        ("history", slice(N_HISTORY), (1, 1, N_HISTORY, 3)),
        ("future", slice(N_HISTORY, None), (1, 1, N_WAYPOINTS, 3)),
    ):
        result.close(name, local_xyz[part].reshape(shape), arrays[f"out_ego_{name}_xyz"],
                     ATOL_POSE_M)  # fmt: skip
        result.close(name, local_rot[part].reshape(*shape, 3), arrays[f"out_ego_{name}_rot"],
                     ATOL_POSE_M)  # fmt: skip


def check_metrics(arrays: Arrays, result: CaseResult) -> None:
    """Displacement errors and the corner distance of samples against the truth."""
    predicted, true = np.asarray(arrays["pred"]), np.asarray(arrays["gt"])
    result.close("ade", metrics.ade(predicted, true[:, None, None]), arrays["ade"])
    samples = predicted[:, 0]
    for name, golden in arrays.items():
        if name.startswith("minade__min_ade"):
            seconds = name.partition("by_t=")[2]
            waypoints = round(float(seconds) * 10) if seconds else N_WAYPOINTS
            result.close("minADE", metrics.min_ade(samples, true, waypoints), golden)
    corner = metrics.corner_distance(
        samples, np.asarray(arrays["pred_rot"])[:, 0], true, np.asarray(arrays["gt_rot"])
    )
    result.close("corner", corner, arrays["corner__corner_distance"])
