"""An answer to a question in steps of a token, between which plans may be made."""

from __future__ import annotations

from collections.abc import Generator

from alpamayo_ros.vla import generation
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import StageClock, inference_precision, seeded
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling


def answer_steps(
    model: AlpamayoModel,
    prompt: Prompt,
    sampling: TokenSampling,
    max_new_tokens: int,
    seed: int,
    clock: StageClock,
) -> Generator[None, None, list[int]]:
    """The ids of an answer to a prompt of one row; `clock` has its stages.

    The precision is entered anew in every step: a plan may be made between two.
    """
    with inference_precision(model), clock.stage("vision"):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
    yield
    with inference_precision(model), clock.stage("prefill"):
        prefix = generation.prefill(model, prompt, features)
    steps = generation.answer_steps(
        model, prompt, prefix, 1, sampling, max_new_tokens, seeded(seed, model.device)
    )
    while True:
        yield
        try:
            with inference_precision(model), clock.stage("answer"):
                next(steps)
        except StopIteration as end:
            generated = end.value
            break
    new: list[int] = generated.sequences[0, generated.prompt_length :].tolist()
    return new
