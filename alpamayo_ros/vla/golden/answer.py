"""A question's case: text alone, teacher-forced and then free."""

from __future__ import annotations

import numpy as np
import torch

from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.golden.result import CaseResult
from alpamayo_ros.vla.golden.trajectory import Arrays, drawn_greedily, read_prompt
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling


def check_answer(model: AlpamayoModel, arrays: Arrays, result: CaseResult) -> None:
    """Compare the logits of every step, and the tokens that we draw ourselves."""
    prompt = read_prompt(model, arrays, fuse=False)
    length = prompt.input_ids.shape[1]
    sequences = torch.as_tensor(arrays["sequences"]).long().to(model.device)
    n = len(sequences) // len(prompt.input_ids)
    result.exact("prompt", sequences[::n, :length], prompt.input_ids)
    steps = np.asarray(arrays["raw_logits_steps"])
    with inference.inference_precision(model):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        prefix = generation.repeat(generation.prefill(model, prompt, features), n)
        for step, golden in enumerate(steps):
            logits = model.vlm.lm_head(prefix.last_hidden).float()
            result.close("logits", logits, golden)
            if step + 1 < len(steps):
                column = length + step
                generation.extend(model, prefix, sequences[:, column : column + 1])
        likeliest = steps.argmax(-1).T
        if not drawn_greedily(sequences[:, length:], likeliest, model.vocabulary.im_end):
            result.notes.append("its tokens were drawn by lot and are taken as given")
            return
        prefix = generation.prefill(model, prompt, features)
        new = sequences.shape[1] - length
        generated = generation.finish(
            generation.answer_steps(model, prompt, prefix, n, TokenSampling(top_k=1), new)
        )
        result.exact("tokens", generated.sequences, sequences)
