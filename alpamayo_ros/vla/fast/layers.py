"""Qwen3-VL's text layers on their own parameters: the language model's and the expert's alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from alpamayo_ros.vla.fast.rotary import rotate


def norm(module: Any, x: Tensor) -> Tensor:
    """Qwen3-VL's RMS norm; one kernel where everything is fp32."""
    if x.dtype == torch.float32 and module.weight.dtype == torch.float32:
        return functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)
    result: Tensor = module(x)
    return result


def project(
    layer: Any, x: Tensor, cos: Tensor, sin: Tensor, queries: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """q (B, H, t, d), k and v (B, kv heads, T, d), positions applied, of states x (B, T, width).

    `queries` takes q of the last so many tokens alone.
    """
    attention = layer.self_attn
    x = norm(layer.input_layernorm, x)
    shape = (len(x), -1, x.shape[1], attention.head_dim)

    def heads(projected: Tensor) -> Tensor:
        return projected.view(shape[0], -1, projected.shape[-1] // shape[3], shape[3])

    k = rotate(norm(attention.k_norm, heads(attention.k_proj(x))), cos, sin)
    v = heads(attention.v_proj(x))
    if queries is not None:
        x, cos, sin = x[:, -queries:], cos[:, -queries:], sin[:, -queries:]
    q = rotate(norm(attention.q_norm, heads(attention.q_proj(x))), cos, sin)
    return q.transpose(1, 2).to(v.dtype), k.transpose(1, 2), v.transpose(1, 2)


def finish(layer: Any, x: Tensor, seen: Tensor) -> Tensor:
    """States (B, T, width) behind a layer, of those before it and what its heads saw."""
    x = x + layer.self_attn.o_proj(seen.transpose(1, 2).reshape(len(x), x.shape[1], -1))
    result: Tensor = x + layer.mlp(norm(layer.post_attention_layernorm, x))
    return result
