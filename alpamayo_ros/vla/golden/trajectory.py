"""A trajectory case: every stage from fused prompt to waypoints, teacher-forced and then free.

Each stage gets the reference's input; then the whole runs by itself to the same waypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alpamayo_ros.vla import expert, generation, inference
from alpamayo_ros.vla.expert import ExpertContext, after_reasoning
from alpamayo_ros.vla.generation import Generated, ImageFeatures, Prefix, Prompt
from alpamayo_ros.vla.golden.record import recorded
from alpamayo_ros.vla.golden.result import ATOL_ACTION, ATOL_M, CaseResult
from alpamayo_ros.vla.golden.steering import steered
from alpamayo_ros.vla.inference import Planned
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling
from alpamayo_ros.vla.trajectory_tokens import fuse_history

Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """What a file says of one run."""

    arrays: Arrays
    prompt: Prompt
    n_samples: int
    sequences: Tensor  # (B * n, L + new) as the reference sampled them

    @property
    def prompt_length(self) -> int:
        """L."""
        return int(self.prompt.input_ids.shape[1])


def check_trajectory(model: AlpamayoModel, arrays: Arrays, result: CaseResult) -> None:
    """Compare all that the file holds."""
    with case_steering(model, arrays), inference.inference_precision(model):
        case = read_case(model, arrays, result)
        features = _see(model, case, result)
        generated = _reason(model, case, features, result)
        contexts = {"": after_reasoning(model, generated)}
        _context(contexts[""], "", arrays, result)
        weight = None
        if "unguided_input_ids" in arrays:
            options = inference.PlanningOptions(n_samples=case.n_samples)
            contexts["unguided_"] = inference.unguided_context(
                model, case.prompt, features, generated, options.n_samples
            )
            _unguided(model, case, contexts["unguided_"], result)
            weight = guidance_weight(arrays)
        _flow(model, case, contexts, result)
    with case_steering(model, arrays):
        check_free(model, case, weight, result, partial(inference.plan, model))


def case_steering(model: AlpamayoModel, arrays: Arrays) -> AbstractContextManager[None]:
    """A case may set one row of lm_head, which steers where its trajectory starts."""
    row = arrays.get("lm_head_row_future_start")
    return steered(
        model,
        model.vocabulary.traj_future_start,
        None if row is None else torch.as_tensor(row),
    )


def read_prompt(model: AlpamayoModel, arrays: Arrays, fuse: bool) -> Prompt:
    """The inputs of a case on the model's device."""

    def tensor(name: str) -> Tensor:
        return torch.as_tensor(np.asarray(arrays[name])).to(model.device)

    ids = tensor("in_input_ids").long()
    if fuse:
        history = model.history_tokenizer.encode(
            tensor("in_ego_history_xyz")[:, 0], tensor("in_ego_history_rot")[:, 0]
        )
        ids = fuse_history(
            ids, model.vocabulary.traj_history, history + model.vocabulary.history_token_start
        )
    return Prompt(
        ids,
        tensor("in_attention_mask").long(),
        tensor("in_pixel_values").float(),
        tensor("in_image_grid_thw").long(),
    )


def read_case(model: AlpamayoModel, arrays: Arrays, result: CaseResult) -> Case:
    prompt = read_prompt(model, arrays, fuse=True)
    result.exact("prompt", prompt.input_ids, arrays["fused_input_ids"])
    sequences = torch.as_tensor(arrays["sequences_raw"]).long().to(model.device)
    return Case(arrays, prompt, len(sequences) // len(prompt.input_ids), sequences)


def _see(model: AlpamayoModel, case: Case, result: CaseResult) -> ImageFeatures:
    features = generation.see(model, case.prompt.pixel_values, case.prompt.image_grid_thw)
    compare_vision(model, case, features, result)
    return features


def compare_vision(
    model: AlpamayoModel, case: Case, features: ImageFeatures, result: CaseResult
) -> None:
    """Merged features and deepstack layers of every image."""
    golden = {"image_embeds": features.embeddings}
    golden |= {f"deepstack_{i}": layer for i, layer in enumerate(features.deepstack)}
    counts = (case.prompt.input_ids == model.vocabulary.image_pad).sum(dim=1).tolist()
    for name, ours in golden.items():
        # The reference repeats the pictures of each row for every sample.
        rows = [row.repeat(case.n_samples, 1) for row in torch.split(ours, counts)]
        result.close("vision", torch.cat(rows), case.arrays[name])


def _reason(
    model: AlpamayoModel, case: Case, features: ImageFeatures, result: CaseResult
) -> Generated:
    """Prefill, then the reference's tokens one by one."""
    arrays, n = case.arrays, case.n_samples
    with recorded(model) as record:
        prefix = generation.prefill(model, case.prompt, features)
    ours = {f"prefill_layer{i}_out": layer for i, layer in enumerate(record.layers)}
    ours |= {"prefill_inputs_embeds": record.inputs_embeds,
             "prefill_last_hidden": record.last_hidden}  # fmt: skip
    real = case.prompt.attention_mask.repeat_interleave(n, 0)[..., None].cpu()
    for name, states in ours.items():
        # What stands at a pad is never looked at.
        repeated = states.repeat_interleave(n, 0).cpu()
        result.close("prefill", repeated * real, torch.as_tensor(arrays[name]) * real)
    result.exact("positions", record.positions.repeat_interleave(n, 1),
                 arrays["prefill_position_ids"])  # fmt: skip
    prefix = generation.repeat(prefix, n)
    result.exact("positions", prefix.rope_delta, arrays["rope_deltas"])
    new = case.sequences[:, case.prompt_length :]
    for step in range(new.shape[1]):
        logits = generation.planning_logits(model, prefix.last_hidden)
        result.close("logits", logits, arrays["raw_logits_steps"][step])
        if step + 1 < new.shape[1]:
            with recorded(model) as record:
                generation.extend(model, prefix, new[:, step : step + 1])
            result.exact("positions", record.positions, arrays["decode_position_ids"][step])
            result.close("decode", record.last_hidden, arrays["decode_last_hidden"][step])
    _cache(prefix, "", arrays, result)
    return Generated(case.sequences, prefix, case.prompt_length)


def _cache(prefix: Prefix, which: str, arrays: Arrays, result: CaseResult) -> None:
    keys, values = cache_tensors(prefix)
    seen = _seen(prefix)
    golden_keys, golden_values = arrays[f"{which}kv_keys"], arrays[f"{which}kv_values"]
    result.close("cache", keys * seen, golden_keys * seen.numpy())
    result.close("cache", values * seen, golden_values * seen.numpy())


def _seen(prefix: Prefix) -> Tensor:
    return prefix.attention_mask.bool().cpu()[None, :, None, :, None]


def cache_tensors(prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Keys and values (layers, B * n, heads, KV, head_dim), on the CPU."""
    pairs = [(layer.keys, layer.values) for layer in prefix.cache.layers]
    keys, values = (torch.stack(part).cpu() for part in zip(*pairs))
    return keys, values


def _context(context: ExpertContext, which: str, arrays: Arrays, result: CaseResult) -> None:
    result.exact("mask", context.positions, arrays[f"{which}expert_position_ids"])
    result.exact("mask", context.mask, arrays[f"{which}expert_attention_mask"])


def _unguided(model: AlpamayoModel, case: Case, context: ExpertContext, result: CaseResult) -> None:
    arrays = case.arrays
    bare, _ = inference.unguided_ids(model, case.prompt)
    result.exact("unguided", bare, arrays["unguided_input_ids"])
    _context(context, "unguided_", arrays, result)
    _cache(context.prefix, "unguided_", arrays, result)


def _flow(
    model: AlpamayoModel, case: Case, contexts: Mapping[str, ExpertContext], result: CaseResult
) -> None:
    """Every call of the expert on the reference's own x and t."""
    arrays = case.arrays
    order = list(contexts)  # with guidance the calls alternate, guided first
    for call, (x, t, v) in enumerate(
        zip(arrays["diffusion_x"], arrays["diffusion_t"], arrays["diffusion_v"])
    ):
        which = order[call % len(order)]
        x, t = torch.as_tensor(x), torch.as_tensor(t).reshape(-1)
        if call < len(order):
            _step0(model, contexts[which], which, x, t, arrays, result)
        ours = expert.velocity(model, contexts[which], x.to(model.device), t.to(model.device))
        result.close("velocity", ours, v)


def _step0(
    model: AlpamayoModel,
    context: ExpertContext,
    which: str,
    x: Tensor,
    t: Tensor,
    arrays: Arrays,
    result: CaseResult,
) -> None:
    recorded: dict[str, Tensor] = {}

    def keep(_module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        recorded["embeds"], recorded["hidden"] = kwargs["inputs_embeds"], output.last_hidden_state

    handle = model.expert.register_forward_hook(keep, with_kwargs=True)
    try:
        expert.velocity(model, context, x.to(model.device), t.to(model.device))
    finally:
        handle.remove()
    if not which:
        result.close("projection", recorded["embeds"], arrays["expert_step0_inputs_embeds"])
    result.close("expert", recorded["hidden"], arrays[f"{which}expert_step0_last_hidden"])


def guidance_weight(arrays: Arrays) -> float:
    """The w of a case, which no array states: from the first step's x, v guided and unguided.

    x1 - x0 = dt ((1 - w) v_unguided + w v_guided), solved for w by least squares.
    """
    x, t, v = (np.asarray(arrays[f"diffusion_{k}"], np.float64) for k in ("x", "t", "v"))
    last = len(x) <= 2
    dt = 1.0 - t.flat[0] if last else float(t[2].flat[0] - t[0].flat[0])
    after = np.asarray(arrays["sampled_action"], np.float64) if last else x[2]
    difference = (v[0] - v[1]).ravel()
    moved = ((after - x[0]) / dt - v[1]).ravel()
    return float(np.round(difference @ moved / (difference @ difference), 4))


def noise_temperature(arrays: Arrays) -> float:
    """The factor between the noise supplied and the x of the first step."""
    x, noise = np.asarray(arrays["diffusion_x"][0]), np.asarray(arrays["noise"])
    return float(np.round((x * noise).sum() / (noise * noise).sum(), 4))


def check_free(
    model: AlpamayoModel,
    case: Case,
    weight: float | None,
    result: CaseResult,
    plan: Callable[..., Planned],
) -> None:
    """The whole run by itself; its tokens are forced only where the reference drew lots.

    `plan` is a runtime's: `inference.plan` behind its model.
    """
    arrays = case.arrays
    new = case.sequences.shape[1] - case.prompt_length
    calls = len(arrays["diffusion_x"])
    options = inference.PlanningOptions(
        n_samples=case.n_samples,
        tokens=TokenSampling(top_k=1),
        max_new_tokens=new,
        flow_steps=calls // (1 if weight is None else 2),
        flow_temperature=noise_temperature(arrays),
        guidance_weight=weight,
    )
    xyz, rot = (
        torch.as_tensor(arrays[f"in_ego_history_{name}"])[:, 0].to(model.device)
        for name in ("xyz", "rot")
    )
    likeliest = np.asarray(arrays["raw_logits_steps"]).argmax(-1).T
    drawn = case.sequences[:, case.prompt_length :]
    forced = None
    if not drawn_greedily(drawn, likeliest, model.vocabulary.im_end):
        forced = case.sequences
        result.notes.append("its tokens were drawn by lot and are taken as given")
    noise = torch.as_tensor(arrays["noise"]).to(model.device)
    planned = plan(case.prompt, xyz, rot, options, noise=noise, sequences=forced)
    golden = inference.padded_sequences(model, case.sequences)
    result.exact("tokens", planned.sequences, golden)
    result.close("action", planned.normalised_action, arrays["sampled_action"], ATOL_ACTION)
    shape = np.asarray(arrays["pred_xyz"]).shape
    result.close("xyz_m", planned.xyz_in_rig_t0.reshape(shape), arrays["pred_xyz"], ATOL_M)
    result.close("rot", planned.rot_in_rig_t0.reshape(*shape, 3), arrays["pred_rot"], ATOL_M)


def drawn_greedily(new: Tensor, likeliest: Any, im_end: int) -> bool:
    """Whether (B, T) tokens are the likeliest throughout, but for pads behind <|im_end|>."""
    tokens = new.cpu().numpy()
    ended = np.cumsum(tokens == im_end, axis=1) > 0
    behind = np.concatenate([np.zeros((len(tokens), 1), bool), ended[:, :-1]], axis=1)
    return bool(((tokens == likeliest) | behind).all())
