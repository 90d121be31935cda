"""The same cases through the `fast` runtime, at the stages that it has.

Hidden states of every prompt token, the expert's dense mask and single decode steps do not exist
there: their results do, and are compared with the same arrays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast.cache import Own
from alpamayo_ros.vla.fast.flow import Branch
from alpamayo_ros.vla.fast.reason import Reasoned
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.generation import ImageFeatures
from alpamayo_ros.vla.golden.result import CaseResult
from alpamayo_ros.vla.golden.trajectory import (
    Arrays,
    Case,
    case_steering,
    check_free,
    compare_vision,
    guidance_weight,
    read_case,
    read_prompt,
)
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.model import AlpamayoModel


def check_trajectory(model: AlpamayoModel, arrays: Arrays, result: CaseResult) -> None:
    """Compare what `fast` has of all that the file holds."""
    runtime = FastRuntime(model)
    weight = guidance_weight(arrays) if "unguided_input_ids" in arrays else None
    with case_steering(model, arrays), inference.inference_precision(model):
        case = read_case(model, arrays, result)
        features = runtime.see_patches(case.prompt)
        compare_vision(model, case, features, result)
        reasoned = _reason(runtime, case, features, result)
        branches = runtime.branches(case.prompt, features, reasoned, weight)
        for one, which in zip(branches, ("", "unguided_")):
            positions = one.first_position[:, None] + torch.arange(64, device=model.device)
            result.exact("positions", positions.expand(3, -1, -1),
                         arrays[f"{which}expert_position_ids"])  # fmt: skip
        _flow(runtime, branches, arrays, result)
    with case_steering(model, arrays):
        check_free(model, case, weight, result, runtime.plan)


def _reason(
    runtime: FastRuntime, case: Case, features: ImageFeatures, result: CaseResult
) -> Reasoned:
    """Prefill, then the reference's tokens."""
    arrays = case.arrays
    own = runtime.prefill(
        case.prompt, features, PlanningOptions(n_samples=case.n_samples), case.sequences
    )
    layout = runtime.language.layout(case.prompt)
    n = case.n_samples
    result.exact("positions", layout.positions.repeat_interleave(n, 1),
                 arrays["prefill_position_ids"])  # fmt: skip
    result.exact("positions", layout.rope_delta.repeat_interleave(n, 0), arrays["rope_deltas"])
    last = own.shared.last_hidden.repeat_interleave(n, 0)
    result.close("prefill", last, arrays["prefill_last_hidden"][:, -1])
    reasoned, hidden = runtime.reasoner.follow(own, case.sequences)
    for step, golden in enumerate(arrays["raw_logits_steps"]):
        result.close("logits", runtime.reasoner.head.all_logits(hidden[:, step]), golden)
    for step, golden in enumerate(arrays["decode_last_hidden"]):
        result.close("decode", hidden[:, step + 1 : step + 2], golden)
    _cache(own, case, result)
    return reasoned


def _cache(own: Own, case: Case, result: CaseResult) -> None:
    """Keys and values of prompt and tokens, but for pads."""
    seen = torch.ones(own.count, own.shared.length + own.length, dtype=torch.bool)
    if own.shared.visible is not None:
        seen[:, : own.shared.length] = own.shared.visible.repeat_interleave(case.n_samples, 0).cpu()
    where = seen[:, None, :, None]
    for part, name in enumerate(("kv_keys", "kv_values")):
        for layer, golden in enumerate(case.arrays[name]):
            shared = own.shared.pair(layer)[part].repeat_interleave(case.n_samples, 0)
            mine = own.pair(layer, own.length)[part]
            ours = torch.cat((shared, mine), dim=2).cpu()
            result.close("cache", ours * where, golden * where.numpy())


def _flow(runtime: FastRuntime, branches: list[Branch], arrays: Arrays, result: CaseResult) -> None:
    """Every velocity at the reference's own x and t; with guidance both at once."""
    expert, device = runtime.expert, runtime.model.device
    turned = expert.positions(branches)

    def tensor(name: str, call: int) -> Tensor:
        return torch.as_tensor(np.asarray(arrays[name][call])).to(device)

    for call in range(0, len(arrays["diffusion_x"]), len(branches)):
        x, t = tensor("diffusion_x", call), tensor("diffusion_t", call).reshape(-1)[:1]
        ahead = expert.time_part(t)[0]
        if call == 0:
            result.close("projection", expert.embed(x, ahead),
                         arrays["expert_step0_inputs_embeds"])  # fmt: skip
        for k, ours in enumerate(expert.velocities(branches, x, ahead, turned)):
            result.close("velocity", ours, arrays["diffusion_v"][call + k])


def check_answer(model: AlpamayoModel, arrays: Arrays, result: CaseResult) -> None:
    """A question's logits at every step, nothing masked."""
    runtime = FastRuntime(model)
    prompt = read_prompt(model, arrays, fuse=False)
    length = prompt.input_ids.shape[1]
    sequences = torch.as_tensor(arrays["sequences"]).long().to(model.device)
    n = len(sequences) // len(prompt.input_ids)
    result.exact("prompt", sequences[::n, :length], prompt.input_ids)
    with inference.inference_precision(model):
        features = runtime.see_patches(prompt)
        options = replace(PlanningOptions(), n_samples=n)
        own = runtime.prefill(prompt, features, options, sequences)
        _, hidden = runtime.reasoner.follow(own, sequences)
        for step, golden in enumerate(arrays["raw_logits_steps"]):
            result.close("logits", model.vlm.lm_head(hidden[:, step]).float(), golden)
    result.notes.append("answers are sampled by eager: fast plans")
