"""Reasoning tokens from a prompt: one prefill, then a token at a time for every sample.

The order of things is that of the release's `generate` call: positions, stop rule, padding. The
arithmetic is transformers' Qwen3-VL.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.positions import mrope_positions
from alpamayo_ros.vla.token_sampling import TokenSampling, draw, mask_tokens

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids with the history filled in, and the pictures they refer to."""

    input_ids: Tensor  # (B, L) int64, padded on the left
    attention_mask: Tensor  # (B, L) int64, 0 at pads
    pixel_values: Tensor  # (patches, 1536) fp32, images of row 0 first
    image_grid_thw: Tensor  # (images, 3) int64


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the vision encoder makes of the prompt's pictures."""

    embeddings: Tensor  # (tokens, hidden)
    deepstack: Sequence[Tensor]  # each (tokens, hidden)

    def rows(self, images: Tensor) -> ImageFeatures:
        """The features of the chosen tokens."""
        return ImageFeatures(self.embeddings[images], [layer[images] for layer in self.deepstack])


@dataclass(slots=True)
class Prefix:
    """A prompt that the language model has read. `cache` grows as tokens are added."""

    cache: Any  # transformers' DynamicCache, batch B or B * n
    last_hidden: Tensor  # (B, hidden), of the last token
    attention_mask: Tensor  # (B, KV), 0 at pads
    rope_delta: Tensor  # (B, 1): position of the next token minus its index

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return int(self.cache.get_seq_length())


@dataclass(frozen=True, slots=True)
class Generated:
    """Sampled sequences and the cache over all but their last token."""

    sequences: Tensor  # (B * n, L + new) as sampled
    prefix: Prefix
    prompt_length: int


def see(model: AlpamayoModel, pixel_values: Tensor, image_grid_thw: Tensor) -> ImageFeatures:
    """Run the vision encoder over every picture."""
    visual = model.vlm.model.visual
    output = visual(pixel_values.to(model.device, visual.dtype), grid_thw=image_grid_thw)
    return ImageFeatures(output.pooler_output, output.deepstack_features)


def new_cache() -> Any:
    """An empty key/value cache."""
    from transformers import DynamicCache

    return DynamicCache()


def prefill(model: AlpamayoModel, prompt: Prompt, features: ImageFeatures) -> Prefix:
    """Read a prompt. Raises ModelError where pictures and their places do not match."""
    language = model.vlm.model.language_model
    ids = prompt.input_ids
    is_image = ids == model.vocabulary.image_pad
    if int(is_image.sum()) != len(features.embeddings):
        raise ModelError(
            f"the prompt has places for {int(is_image.sum())} image tokens, the pictures make "
            f"{len(features.embeddings)}: wrong number or size of images"
        )
    positions, rope_delta = mrope_positions(
        ids,
        prompt.attention_mask,
        prompt.image_grid_thw,
        model.vocabulary.image_pad,
        model.vlm.model.visual.spatial_merge_size,
    )
    embeddings = language.embed_tokens(ids)
    embeddings = embeddings.masked_scatter(
        is_image[..., None], features.embeddings.to(embeddings.dtype)
    )
    cache = new_cache()
    output = language(
        inputs_embeds=embeddings,
        attention_mask=prompt.attention_mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        visual_pos_masks=is_image,
        deepstack_visual_embeds=list(features.deepstack),
    )
    return Prefix(cache, output.last_hidden_state[:, -1], prompt.attention_mask, rope_delta)


def repeat(prefix: Prefix, n: int) -> Prefix:
    """The prefix n times over, sample after sample of each row: one prefill serves them all."""
    if n > 1:
        prefix.cache.batch_repeat_interleave(n)
    return Prefix(
        prefix.cache,
        prefix.last_hidden.repeat_interleave(n, 0),
        prefix.attention_mask.repeat_interleave(n, 0),
        prefix.rope_delta.repeat_interleave(n, 0),
    )


def extend(
    model: AlpamayoModel, prefix: Prefix, token_ids: Tensor, attention: Tensor | None = None
) -> Tensor:
    """Add tokens (B, T) to the cache; their states (B, T, hidden) after the final norm.

    `attention` (B, T) is 0 where a token is a pad that nobody may look at.
    """
    start, count = prefix.length, token_ids.shape[1]
    if attention is None:
        attention = torch.ones_like(token_ids)
    prefix.attention_mask = torch.cat((prefix.attention_mask, attention), dim=1)
    index = torch.arange(start, start + count, device=token_ids.device)
    positions = (index + prefix.rope_delta)[None].expand(3, -1, -1)
    output = model.vlm.model.language_model(
        inputs_embeds=model.vlm.model.language_model.embed_tokens(token_ids),
        attention_mask=prefix.attention_mask,
        position_ids=positions,
        past_key_values=prefix.cache,
        use_cache=True,
    )
    prefix.last_hidden = output.last_hidden_state[:, -1]
    hidden: Tensor = output.last_hidden_state
    return hidden


def planning_logits(model: AlpamayoModel, hidden: Tensor) -> Tensor:
    """fp32 logits (B, V) of the next token, trajectory tokens masked."""
    logits = model.vlm.lm_head(hidden).float()
    return mask_tokens(logits, model.vocabulary.traj_token_start, model.vocabulary.traj_token_end)


def reason(
    model: AlpamayoModel,
    prompt: Prompt,
    prefix: Prefix,
    n_samples: int,
    sampling: TokenSampling,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
) -> Generated:
    """Sample until every sample has started its trajectory and one token more is drawn.

    That token exists to bring the trajectory's start into the cache. A sample that ends its turn
    (<|im_end|>) goes on as pads; the others carry on to the limit.
    """
    if max_new_tokens < 1:
        raise ModelError(f"max_new_tokens is {max_new_tokens}, wanted 1 or more")
    stop_id = model.vocabulary.traj_future_start
    prompt_length = prompt.input_ids.shape[1]
    prefix = repeat(prefix, n_samples)
    sequences = prompt.input_ids.repeat_interleave(n_samples, 0)
    running = torch.ones(len(sequences), dtype=torch.bool, device=sequences.device)
    started = torch.zeros_like(running)
    while True:
        token = draw(planning_logits(model, prefix.last_hidden), sampling, generator)
        token = torch.where(running, token, model.vocabulary.pad)
        sequences = torch.cat((sequences, token[:, None]), dim=1)
        running = running & (token != model.vocabulary.im_end)
        finished = bool(started.all()) or not bool(running.any())
        if finished or sequences.shape[1] - prompt_length >= max_new_tokens:
            return Generated(sequences, prefix, prompt_length)
        started = started | (token == stop_id)
        extend(model, prefix, token[:, None])


def follow(
    model: AlpamayoModel, prompt: Prompt, prefix: Prefix, n_samples: int, sequences: Tensor
) -> Generated:
    """As `reason`, with the tokens given: (B * n, L + new) sequences."""
    prompt_length = prompt.input_ids.shape[1]
    prefix = repeat(prefix, n_samples)
    for step in range(prompt_length, sequences.shape[1] - 1):
        extend(model, prefix, sequences[:, step : step + 1])
    return Generated(sequences, prefix, prompt_length)


def answer_steps(
    model: AlpamayoModel,
    prompt: Prompt,
    prefix: Prefix,
    n_samples: int,
    sampling: TokenSampling,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
) -> Generator[None, None, Generated]:
    """Sample text alone, a token a step: nothing masked, until <|im_end|> or the limit."""
    sequences = prompt.input_ids.repeat_interleave(n_samples, 0)
    prefix = repeat(prefix, n_samples)
    running = torch.ones(len(sequences), dtype=torch.bool, device=sequences.device)
    for new in range(max_new_tokens):
        if new:
            yield
            extend(model, prefix, sequences[:, -1:])
        token = draw(model.vlm.lm_head(prefix.last_hidden).float(), sampling, generator)
        token = torch.where(running, token, model.vocabulary.pad)
        sequences = torch.cat((sequences, token[:, None]), dim=1)
        running = running & (token != model.vocabulary.im_end)
        if not bool(running.any()):
            break
    return Generated(sequences, prefix, prompt.input_ids.shape[1])


def finish(steps: Generator[None, None, Made]) -> Made:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
