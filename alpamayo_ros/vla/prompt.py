"""The prompt: what the checkpoints were trained to read, to the letter, and ids made of it.

A text from a topic or a service goes between special tokens. It is refused if it is long or holds
such tokens itself: with them it could end its own part of the prompt and pose as another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros import model_text
from alpamayo_ros.errors import ModelError
from alpamayo_ros.model_text import MAX_NAVIGATION_LENGTH, MAX_QUESTION_LENGTH
from alpamayo_ros.types import N_FRAMES
from alpamayo_ros.vla.vocabulary import Vocabulary, token_text

MAX_CAMERAS = 7
CAMERA_DISPLAY_NAMES = (
    "Front left camera",
    "Front camera",
    "Front right camera",
    "Rear left camera",
    "Rear camera",
    "Rear right camera",
    "Front telephoto camera",
)
IMAGE_PAD = token_text("image_pad")
_SYSTEM = "You are a driving assistant that generates safe and accurate actions."
_REQUEST = (
    "output the chain-of-thought reasoning of the driving process, then output the future "
    "trajectory."
)


@dataclass(frozen=True)
class PromptConfig:
    """What a checkpoint's prompts contain."""

    version: str  # "r1" or "1.5"; only 1.5 knows navigation text and questions
    include_camera_ids: bool  # a camera's name in front of its first frame
    include_frame_nums: bool  # a frame's number in front of it
    history_tokens: int = 48

    @classmethod
    def released(cls, version: str) -> PromptConfig:
        """R1 shows images alone, 1.5 says which they are."""
        return cls(version, include_camera_ids=version != "r1", include_frame_nums=version != "r1")


# --- text ---


def planning_text(
    config: PromptConfig,
    camera_indices: Sequence[int],
    frames: int | Sequence[int] = N_FRAMES,
    navigation: str | None = None,
) -> str:
    """The prompt for a plan, one <|image_pad|> an image and the history as placeholders.

    Cameras stand in the order of `camera_indices`, each with `frames` frames (one number, or one a
    camera), oldest first. `navigation` is "Turn left in 30m"; None or "" leaves the route out.
    Raises ModelError: cameras, or a text that may not enter a prompt.
    """
    images = _images(config, camera_indices, frames)
    history = token_text("traj_history") * config.history_tokens
    route = ""
    if navigation:
        _only_in_1_5(config, "navigation text")
        text = check_text(navigation, "navigation text", MAX_NAVIGATION_LENGTH)
        route = _between("route", text)
    return _chat(f"{images}{_between('traj_history', history)}{route}{_REQUEST}", "cot_start")


def question_text(
    config: PromptConfig,
    camera_indices: Sequence[int],
    question: str,
    frames: int | Sequence[int] = N_FRAMES,
) -> str:
    """The prompt for an answer in words: images and a question, without history. As above."""
    _only_in_1_5(config, "a question")
    images = _images(config, camera_indices, frames)
    text = check_text(question, "the question", MAX_QUESTION_LENGTH)
    return _chat(images + _between("question", text), "answer_start")


def check_text(text: str, what: str, limit: int) -> str:
    """`text` as it enters a prompt. ModelError, beginning with `what`: empty, or refused by the
    same gate that stands before the topics."""
    try:
        cleaned = model_text.clean(text, what, limit)
    except model_text.TextRefused as error:
        raise ModelError(str(error)) from error
    if not cleaned:
        raise ModelError(f"{what} is empty")
    return cleaned


def _chat(user: str, answer_begins: str) -> str:
    turns = (f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n", f"<|im_start|>user\n{user}<|im_end|>\n")
    return "".join(turns) + f"<|im_start|>assistant\n{token_text(answer_begins)}"


def _between(name: str, text: str) -> str:
    return f"{token_text(name + '_start')}{text}{token_text(name + '_end')}"


def _images(
    config: PromptConfig, camera_indices: Sequence[int], frames: int | Sequence[int]
) -> str:
    cameras = [int(index) for index in camera_indices]
    if not 1 <= len(cameras) <= MAX_CAMERAS or len(set(cameras)) != len(cameras):
        raise ModelError(
            f"a prompt takes 1 to {MAX_CAMERAS} different cameras, got indices {cameras}"
        )
    counts = [frames] * len(cameras) if isinstance(frames, int) else [int(n) for n in frames]
    if len(counts) != len(cameras) or min(cameras) < 0 or min(counts) < 1:
        raise ModelError(
            f"cameras {cameras} with {counts} frames: one index from 0 on and one number of frames "
            "from 1 on are wanted for each"
        )
    image = _between("vision", IMAGE_PAD)
    text = ""
    for camera, count in zip(cameras, counts):
        text += f"{_display_name(camera)}: " if config.include_camera_ids else ""
        for frame in range(count):
            text += (f"frame {frame} " if config.include_frame_nums else "") + image
    return text


def _display_name(camera: int) -> str:
    known = camera < len(CAMERA_DISPLAY_NAMES)
    return CAMERA_DISPLAY_NAMES[camera] if known else f"Camera {camera}"


def _only_in_1_5(config: PromptConfig, what: str) -> None:
    if config.version == "r1":
        raise ModelError(f"{what} needs Alpamayo 1.5: R1's prompt has no place for it")


# --- images' tokens ---


def tokens_per_image(image_grid_thw: Tensor, merge_size: int = 2) -> list[int]:
    """Tokens that each image of a grid (N, 3) in patches takes: 180 for 320 x 576 pixels."""
    return [int(n) // merge_size**2 for n in image_grid_thw.prod(dim=1).tolist()]


def expand_images(text: str, counts: Sequence[int]) -> str:
    """`text` with its k-th <|image_pad|> repeated `counts[k]` times. ModelError: other number."""
    parts = text.split(IMAGE_PAD)
    _check_images(len(parts) - 1, len(counts))
    pads = [IMAGE_PAD * count for count in counts]
    return "".join(part + pad for part, pad in zip(parts, [*pads, ""]))


def expand_image_ids(ids: Sequence[int], image_pad_id: int, counts: Sequence[int]) -> list[int]:
    """`expand_images` on ids: the same result, without tokenizing thousands of equal tokens."""
    _check_images(sum(i == image_pad_id for i in ids), len(counts))
    remaining = iter(counts)
    expanded: list[int] = []
    for i in ids:
        expanded += [i] * next(remaining) if i == image_pad_id else [i]
    return expanded


def _check_images(places: int, images: int) -> None:
    if places != images:
        raise ModelError(f"the prompt has places for {places} images, {images} are given")


# --- batches of ids ---


def left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as input_ids (B, L) int64 and attention_mask (B, L) int64, pads on the left."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for k, row in enumerate(rows):
        ids[k, length - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[k, length - len(row) :] = 1
    return ids, mask


def without_route(
    input_ids: Tensor, attention_mask: Tensor, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor]:
    """(B, L) ids and mask less each row's <|route_start|> … <|route_end|>, padded on the left.

    What guidance compares with. A row without a route stays as it is; ModelError where a route
    does not end, or has no beginning.
    """
    starts = (input_ids == vocabulary.id_of("route_start")).long()
    ends = (input_ids == vocabulary.id_of("route_end")).long()
    depth = starts.cumsum(dim=1) - ends.cumsum(dim=1)
    broken = (depth[:, -1] != 0) | (depth.amin(dim=1) < 0) | (depth.amax(dim=1) > 1)
    if broken.any():
        row = int(torch.nonzero(broken)[0])
        raise ModelError(
            f"prompt row {row} has {int(starts[row].sum())} route starts and "
            f"{int(ends[row].sum())} ends, in pairs they must be"
        )
    kept = (depth + ends) == 0
    # Stable: what goes first keeps its order among what goes, and the rest its own.
    order = kept.long().argsort(dim=1, stable=True)
    width = int((kept & attention_mask.bool()).sum(dim=1).max())  # of the longest row, no pads
    kept = kept.gather(1, order)[:, -width:]
    ids = input_ids.gather(1, order)[:, -width:]
    mask = attention_mask.gather(1, order)[:, -width:]
    return ids.masked_fill(~kept, vocabulary.pad), mask.masked_fill(~kept, 0)
