"""How long a prompt with its reasoning can become: the bucket that an expert is exported for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alpamayo_ros.errors import ModelError
from alpamayo_ros.model_text import MAX_NAVIGATION_LENGTH
from alpamayo_ros.types import CAMERA_NAMES
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.expert_graph import bucket_length
from alpamayo_ros.vla.load import read_head
from alpamayo_ros.vla.prompt import IMAGE_PAD, PromptConfig, planning_text
from alpamayo_ros.vla.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from alpamayo_ros.backends.vla_options import VlaOptions

ROUTE_TOKENS = 2  # <|route_start|> and <|route_end|>


def default_prefix(options: VlaOptions, cameras: Sequence[str], count: int) -> int:
    """Places for any `count` of these cameras at the largest image size, the longest navigation
    text in ASCII and max_new_tokens. Raises ModelError where checkpoint or tokenizer cannot be
    read."""
    if options.tokenizer is None:
        raise ModelError("the manifest names no tokenizer to count the prompt's tokens with")
    head = read_head(options.checkpoint)
    tokenizer = load_tokenizer(options.tokenizer, head.vocabulary)
    config = PromptConfig(
        head.version,
        head.include_camera_ids,
        head.include_frame_nums,
        head.tokens_per_history,
    )
    # Their names take a different number of tokens: the longest prompt has the longest of each.
    lengths = {
        index: len(tokenizer.encode(planning_text(config, [index])))
        for index in (CAMERA_NAMES.index(name) for name in cameras)
    }
    longest = sorted(sorted(lengths, key=lambda index: lengths[index])[-count:])
    text = planning_text(config, longest)
    vision = read_backbone(options.backbone)["vision_config"]
    side = int(vision["patch_size"]) * int(vision["spatial_merge_size"])
    image_tokens = head.max_pixels // side**2
    images = text.count(IMAGE_PAD)
    route = 0 if head.version == "r1" else MAX_NAVIGATION_LENGTH + ROUTE_TOKENS
    tokens = len(tokenizer.encode(text)) + images * (image_tokens - 1) + route
    return bucket_length(tokens + options.max_new_tokens)
