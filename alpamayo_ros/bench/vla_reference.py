"""The plain algorithm, as the release does it: what `eager` and `fast` are held against.

transformers' own `generate` with a dynamic cache, the pictures encoded and the prompt read anew
for every sample (the release's transformers, 4.57, repeats `pixel_values`; later ones encode them
once), logits kept, a mask over everything for the expert, and the history's speed solved for each
sample.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from alpamayo_ros.vla import expert, inference
from alpamayo_ros.vla.flow_matching import integrate
from alpamayo_ros.vla.generation import Prefix, Prompt, new_cache
from alpamayo_ros.vla.inference import Planned, PlanningOptions, StageClock
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.positions import mrope_positions
from alpamayo_ros.vla.token_sampling import TokenSampling


class _NoTrajectoryTokens(LogitsProcessor):
    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, self._start : self._end] = float("-inf")
        return scores


class _AllStarted(StoppingCriteria):
    """Every sample has started its trajectory, and one token more is drawn."""

    def __init__(self, prompt_length: int, start: int) -> None:
        self._length, self._start = prompt_length, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        started = (input_ids[:, self._length : -1] == self._start).any(dim=1)
        return started.all().expand(len(input_ids))


def plan(
    model: AlpamayoModel,
    prompt: Prompt,
    history_xyz_in_rig_t0: Tensor,
    history_rot_in_rig_t0: Tensor,
    options: PlanningOptions,
    seed: int,
) -> Planned:
    """As `inference.plan` for a single prompt; the tokens of the same seed are others."""
    clock, n = StageClock(model.device), options.n_samples
    with clock.stage("prepare"):
        prompt = copy.deepcopy(prompt)  # the release copies its inputs
    length = prompt.input_ids.shape[1]
    with inference.inference_precision(model):
        with _timed(model, clock):
            sequences, cache = _generate(model, prompt, options, seed)
        _, delta = mrope_positions(
            prompt.input_ids, prompt.attention_mask, prompt.image_grid_thw,
            model.vocabulary.image_pad, model.vlm.model.visual.spatial_merge_size,
        )  # fmt: skip
        noise = inference.draw_noise(model, n, seed)
        with clock.stage("flow"):
            seen = torch.ones(n, sequences.shape[1] - 1, device=model.device)
            prefix = Prefix(cache, cache.layers[0].keys[:, 0, -1], seen, delta.expand(n, -1))
            offset = expert.first_after_start(sequences, model.vocabulary.traj_future_start)
            context = expert.expert_context(model, prefix, offset, length)
            normalised = integrate(
                lambda x, t: expert.velocity(model, context, x, t),
                noise * options.flow_temperature,
                options.flow_steps or model.config.flow_steps,
            )
        with clock.stage("unicycle"):
            xyz, rot = (
                history_xyz_in_rig_t0.repeat(n, 1, 1),
                history_rot_in_rig_t0.repeat(n, 1, 1, 1),
            )
            speed = model.action_space.estimate_speed_t0(xyz, rot)
            planned, turned = model.action_space.integrate(normalised, speed, xyz[:, -1, 2])
        action = model.action_space.denormalise(normalised)
    return Planned(
        planned, turned, action, normalised, speed, inference.padded_sequences(model, sequences),
        length, clock.stage_ms,
    )  # fmt: skip


def _generate(
    model: AlpamayoModel, prompt: Prompt, options: PlanningOptions, seed: int
) -> tuple[Tensor, Any]:
    """Sequences (n, L + new) and the cache over all but their last token."""
    vocabulary, tokens, n = model.vocabulary, options.tokens, options.n_samples
    input_ids = prompt.input_ids.repeat(n, 1)
    torch.manual_seed(seed)
    vlm: Any = model.vlm
    output = vlm.generate(
        input_ids=input_ids,
        attention_mask=prompt.attention_mask.repeat(n, 1),
        pixel_values=prompt.pixel_values.to(model.dtype).repeat(n, 1),
        image_grid_thw=prompt.image_grid_thw.repeat(n, 1),
        mm_token_type_ids=(input_ids == vocabulary.image_pad).int(),
        past_key_values=new_cache(),
        max_new_tokens=options.max_new_tokens,
        pad_token_id=vocabulary.pad,
        logits_processor=LogitsProcessorList(
            [_NoTrajectoryTokens(vocabulary.traj_token_start, vocabulary.traj_token_end)]
        ),
        stopping_criteria=StoppingCriteriaList(
            [_AllStarted(prompt.input_ids.shape[1], vocabulary.traj_future_start)]
        ),
        return_dict_in_generate=True,
        output_logits=True,
        **_sampling(tokens),
    )
    return output.sequences, output.past_key_values


def _sampling(tokens: TokenSampling) -> dict[str, Any]:
    return {
        "do_sample": True, "temperature": tokens.temperature, "top_p": tokens.top_p,
        "top_k": tokens.top_k or 0,
    }  # fmt: skip


@contextmanager
def _timed(model: AlpamayoModel, clock: StageClock) -> Iterator[None]:
    """`generate` apart: the encoder, the first pass over the prompt, the tokens."""
    marks: list[float] = []
    stages = clock.stage_ms

    def now() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() * 1e3

    def begin(module: Any, inputs: Any) -> None:
        marks.append(now())

    def end(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            took = now() - marks.pop()
            if name not in stages:
                stages[name] = took

        return hook

    language = model.vlm.model.language_model
    handles = [
        model.vlm.model.visual.register_forward_pre_hook(begin),
        model.vlm.model.visual.register_forward_hook(end("vision")),
        language.register_forward_pre_hook(begin),
        language.register_forward_hook(end("prefill")),
    ]
    started = now()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    stages["reasoning"] = now() - started - stages["vision"] - stages["prefill"]
