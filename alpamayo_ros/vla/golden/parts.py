"""Parts of the model by themselves: action space, tokenizers, flow, projection, sampling, text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from alpamayo_ros.vla import flow_matching
from alpamayo_ros.vla.action_projection import ActionProjection
from alpamayo_ros.vla.config import ActionProjectionConfig
from alpamayo_ros.vla.expert import pad_after_start
from alpamayo_ros.vla.golden.result import ATOL_M, CaseResult
from alpamayo_ros.vla.golden.trajectory import Arrays
from alpamayo_ros.vla.reasoning_text import extract
from alpamayo_ros.vla.token_sampling import TokenSampling, filter_logits, mask_tokens
from alpamayo_ros.vla.trajectory_tokens import DeltaTokenizer, FutureTokenizer
from alpamayo_ros.vla.unicycle import States, UnicycleActionSpace

# Solved in float64 by both: what is left is the order of sums.
ATOL_F64 = 1e-6
# fp32 solutions of the smoothing's linear systems differ from their float64 ones by up to 7e-4.
ATOL_SOLVED = 2e-3
TINY_TRAJ_TOKENS = (1050, 5050)


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in arrays.items()
            if value.dtype.kind in "fiub"}  # fmt: skip


def check_unicycle(arrays: Arrays, result: CaseResult) -> None:
    """Both directions, in fp32 and in float64, with exact and with rounded constants."""
    a = _tensors(arrays)
    for suffix, dtype, atol in (("", torch.float32, ATOL_M), ("_f64", torch.float64, ATOL_F64)):
        space = UnicycleActionSpace()
        solved = ATOL_SOLVED if dtype == torch.float32 else ATOL_F64
        action, xyz, rot = (a[name].to(dtype) for name in ("action", "hist_xyz", "hist_rot"))
        result.close("v0", space.estimate_speed_t0(xyz, rot), a[f"v0{suffix}"], atol)
        future_xyz, future_rot = space.to_trajectory(action, xyz, rot)
        result.close("future", future_xyz, a[f"fut_xyz{suffix}"], atol)
        result.close("future", future_rot, a[f"fut_rot{suffix}"], atol)
        back, states = space.action_and_states(future_xyz, future_rot, xyz, rot)
        result.close("action", back, a[f"roundtrip_action{suffix}"], solved)
        result.close(
            "states", _stacked(space, states), a[f"roundtrip_states_v_a_theta{suffix}"], solved
        )
        index = a["real_hist_index"].long()
        real = a["real_fut_xyz"].to(dtype), a["real_fut_rot"].to(dtype), xyz[index], rot[index]
        back, states = space.action_and_states(*real)
        result.close("real action", back, a[f"real_action{suffix}"], solved)
        result.close(
            "real states", _stacked(space, states), a[f"real_states_v_a_theta{suffix}"], solved
        )
        again, _ = space.to_trajectory(back, xyz[index], rot[index])
        result.close("real future", again, a[f"real_recon_xyz{suffix}"], 2 * atol)
    result.exact("bounds", space.within_bounds(a["action"]), a["within_bounds"])
    rounded = UnicycleActionSpace().to(torch.bfloat16)
    xyz, _ = rounded.to_trajectory(a["action"], a["hist_xyz"], a["hist_rot"])
    result.close("rounded constants", xyz, a["fut_xyz_bf16_constants"], ATOL_M)


def _stacked(space: UnicycleActionSpace, states: States) -> Tensor:
    """Speed, acceleration, heading; the reference's acceleration is a normalised one."""
    both = torch.stack((states.acceleration, torch.zeros_like(states.acceleration)), dim=-1)
    return torch.stack((states.speed, space.normalise(both)[..., 0], states.heading), dim=-1)


def check_tokenizers(arrays: Arrays, result: CaseResult) -> None:
    """History tokens with and without headings: ids exactly, poses within fp32's rounding."""
    a = _tensors(arrays)
    for name, yaw in (("delta", False), ("delta_yaw", True)):
        tokenizer = DeltaTokenizer(predict_yaw=yaw)
        tokens = tokenizer.encode(a["delta_in_xyz"], a["delta_in_rot"])
        result.exact(f"{name} tokens", tokens, a[f"{name}_tokens"])
        xyz, rot = tokenizer.decode(tokens)
        result.close(f"{name} decoded", xyz, a[f"{name}_decoded_xyz"])
        result.close(f"{name} decoded", rot, a[f"{name}_decoded_rot"])


def check_future_tokens(arrays: Arrays, unicycle: Arrays, result: CaseResult) -> None:
    """The discrete future of parts_unicycle's real futures: tokens exactly, poses within 2 mm."""
    a, u = _tensors(arrays), _tensors(unicycle)
    index = a.get("discrete_hist_index", torch.tensor([1, 3, 2, 4]))
    history = u["hist_xyz"][index], u["hist_rot"][index]
    space, tokenizer = UnicycleActionSpace(), FutureTokenizer()
    action = space.to_action(u["real_fut_xyz"], u["real_fut_rot"], *history)
    tokens = tokenizer.encode(action)
    result.exact("future tokens", tokens, a["discrete_tokens"])
    xyz, rot = space.to_trajectory(tokenizer.decode(tokens), *history)
    result.close("future decoded", xyz, a["discrete_decoded_xyz"], ATOL_M)
    result.close("future decoded", rot, a["discrete_decoded_rot"], ATOL_M)


def check_flow_matching(arrays: Arrays, result: CaseResult) -> None:
    """Euler steps of a known linear field, with temperature and with guidance."""
    a = _tensors(arrays)

    def field(matrix: Tensor, sign: float) -> Callable[[Tensor, Tensor], Tensor]:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            moved = x.flatten(1) @ matrix.T + sign * t[:, None] * a["b"]
            return moved.unflatten(1, x.shape[1:])

        return velocity

    with_condition, without = field(a["A"], 1.0), field(a["A_unguided"], -1.0)
    for name, golden in a.items():
        if name.startswith("time_grid"):
            steps = int(name.removeprefix("time_grid"))
            grid = flow_matching.time_grid(steps, torch.device("cpu"))
            result.close("times", grid, golden)
            seen: list[Tensor] = []

            def watched(x: Tensor, t: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(x)
                return with_condition(x, t)

            seen.append(flow_matching.integrate(watched, a["noise"], steps))
            result.close("steps", torch.stack(seen, dim=1), a[f"r1_steps{steps}_all"])
        elif name.startswith("r15_temp"):
            temperature = float(name.removeprefix("r15_temp")) / 10
            x = flow_matching.integrate(with_condition, a["noise"] * temperature, 10)
            result.close("temperature", x, golden)
        elif name.startswith("r15_cfg_w"):
            weight = float(name.removeprefix("r15_cfg_w"))
            velocity = flow_matching.guided(with_condition, without, weight)
            result.close("guidance", flow_matching.integrate(velocity, a["noise"], 10), golden)


def check_action_projection(arrays: Arrays, result: CaseResult) -> None:
    """Both sizes at every time, with exact and with rounded frequencies."""
    a = _tensors(arrays)
    for size in sorted({name.partition(".")[0] for name in a if ".w." in name}):
        weights = {name.removeprefix(f"{size}.w."): value for name, value in a.items()
                   if name.startswith(f"{size}.w.")}  # fmt: skip
        linears = [name for name in weights if name.startswith("encoder") and
                   weights[name].ndim == 2]  # fmt: skip
        config = ActionProjectionConfig(len(linears) - 1, len(weights["encoder.trunk.0.bias"]))
        module = ActionProjection(config, len(weights["norm.bias"]), persistent_buffers=True)
        made = {name: value.clone() for name, value in module.named_buffers()}
        for name, value in made.items():
            result.close("frequencies", value, weights[name])
        module.load_state_dict(weights)
        for name, golden in a.items():
            if not name.startswith(f"{size}.y_t"):
                continue
            time, _, rounded = name.removeprefix(f"{size}.y_t").partition("_")
            for buffer_name, buffer in module.named_buffers():
                value = made[buffer_name]
                buffer.copy_(value.to(torch.bfloat16).float() if rounded else value)
            x = a[f"{size}.x"]
            with torch.no_grad():
                result.close("rounded" if rounded else "exact",
                             module(x, torch.full((len(x),), float(time))), golden)  # fmt: skip
    rounded_freqs = made["timestep_fourier_encoder.freqs"].to(torch.bfloat16).float()
    result.exact("rounding", rounded_freqs, a["freqs_bf16"])


def check_sampling(arrays: Arrays, result: CaseResult) -> None:
    """Probabilities behind mask, temperature and nucleus, and how many tokens are left."""
    a = _tensors(arrays)
    masked = mask_tokens(a["logits"], *TINY_TRAJ_TOKENS)
    for name, golden in a.items():
        if name.startswith("probs_"):
            temperature, top_p = (float(part[1:]) for part in name.split("_")[1:])
            sampling = TokenSampling(temperature, top_p)
            probabilities = filter_logits(masked, sampling).softmax(dim=-1)
            result.close("probabilities", probabilities, golden)
            kept = a[name.replace("probs", "kept")]
            result.exact("kept", (probabilities > 0).sum(dim=-1), kept)


def check_token_utils(arrays: Arrays, result: CaseResult) -> None:
    """Pads behind a start token (9, pads 0), and texts between their markers."""
    tokens = torch.as_tensor(arrays["pad_in"])
    result.exact("pads", pad_after_start(tokens, 9, 0), arrays["pad_out"])
    for part in ("cot", "answer"):
        ours = np.array([extract(str(text), part) for text in arrays["extract_in"]])
        result.exact("texts", ours, arrays[f"extract_{part}"])
