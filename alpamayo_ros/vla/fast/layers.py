"""Qwen3-VL's text layers on their own parameters: the language model's and the expert's alike.

Matrices that read the same states lie behind each other and are multiplied at once; queries and
keys are normed and turned as one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.vla.fast.rotary import rotate


def norm(module: Any, x: Tensor) -> Tensor:
    """Qwen3-VL's RMS norm, of its weight or of one for each head."""
    return rms_norm(x, module.weight, module.variance_epsilon)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x (..., d) over its root mean square, which is made in fp32, times a weight (..., d)."""
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.addcmul(wide.new_full((1,), epsilon), length, length, value=1.0 / x.shape[-1])
    return times((wide * scale.rsqrt_()).to(x.dtype), weight)


# What was just made is changed in place: fresh memory of a prompt's size costs a CPU more than the
# sums in it do.
def plus(fresh: Tensor, x: Tensor) -> Tensor:
    """Their sum, in `fresh` where that has its type."""
    return fresh.add_(x) if torch.result_type(fresh, x) == fresh.dtype else fresh + x


def times(fresh: Tensor, x: Tensor) -> Tensor:
    """Their product, in `fresh` where that has its type."""
    return fresh.mul_(x) if torch.result_type(fresh, x) == fresh.dtype else fresh * x


class TextLayer:
    """One layer. Its modules keep their weights, which lie side by side afterwards."""

    def __init__(self, layer: Any) -> None:
        attention = layer.self_attn
        self._layer, self._width = layer, int(attention.head_dim)
        linears = attention.q_proj, attention.k_proj, attention.v_proj
        self._heads, self._kv_heads, _ = (one.out_features // self._width for one in linears)
        self._projections = Beside(linears)
        self._gate_up = Beside((layer.mlp.gate_proj, layer.mlp.up_proj))
        weights = (
            attention.q_norm.weight.expand(self._heads, -1),
            attention.k_norm.weight.expand(self._kv_heads, -1),
        )
        self._norms, self._epsilon = (torch.cat(weights), attention.q_norm.variance_epsilon)

    def project(
        self, x: Tensor, cos: Tensor, sin: Tensor, queries: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, t, d), k and v (B, kv heads, T, d), positions applied, of x (B, T, width).

        `queries` takes q of the last so many tokens alone.
        """
        x = norm(self._layer.input_layernorm, x)
        if queries is None:
            qkv = self._split(self._projections(x))
            turned = self._turned(qkv[:, :, : -self._kv_heads], self._norms, cos, sin)
            q, k = turned[:, :, : self._heads], turned[:, :, self._heads :]
        else:
            last = self._split(self._projections(x[:, -queries:], 0, 1))
            q = self._turned(last, self._norms[: self._heads], cos[:, -queries:], sin[:, -queries:])
            qkv = self._split(self._projections(x, 1, 3))
            k = self._turned(qkv[:, :, : self._kv_heads], self._norms[self._heads :], cos, sin)
        v = qkv[:, :, -self._kv_heads :]
        return q.transpose(1, 2).to(v.dtype), k.transpose(1, 2), v.transpose(1, 2)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """States (B, T, width) behind the layer, of those before it and what its heads saw."""
        layer = self._layer
        joined = seen.transpose(1, 2).reshape(len(x), x.shape[1], -1)
        x = plus(layer.self_attn.o_proj(joined), x)
        gate, up = self._gate_up(norm(layer.post_attention_layernorm, x)).chunk(2, dim=-1)
        return plus(layer.mlp.down_proj(times(layer.mlp.act_fn(gate), up)), x)

    def _split(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], -1, self._width)

    def _turned(self, heads: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rotate(rms_norm(heads, weight, self._epsilon), cos, sin)


class Beside:
    """Linear layers of one input as one; quantised ones are called one by one."""

    def __init__(self, linears: Sequence[nn.Module]) -> None:
        self._linears = linears
        self._weight: Tensor | None = None
        self._starts = [0]
        if all(type(one) is nn.Linear and one.bias is None for one in linears):
            weights = [one.weight for one in linears if isinstance(one.weight, Tensor)]
            self._weight = side_by_side(weights)
            for weight in weights:
                self._starts.append(self._starts[-1] + len(weight))

    def __call__(self, x: Tensor, first: int = 0, end: int | None = None) -> Tensor:
        """The outputs (..., out) of layers `first` to `end`, one behind the other."""
        end = len(self._linears) if end is None else end
        if self._weight is None:
            return torch.cat([linear(x) for linear in self._linears[first:end]], dim=-1)
        return functional.linear(x, self._weight[self._starts[first] : self._starts[end]])


def side_by_side(weights: Sequence[Tensor]) -> Tensor:
    """Matrices (rows, columns) as one. They become parts of it: nothing is held twice."""
    columns = weights[0].shape[1]
    storage, expected = weights[0].untyped_storage(), weights[0].storage_offset()
    rows = sum(len(weight) for weight in weights)
    for weight in weights:
        same = weight.untyped_storage().data_ptr() == storage.data_ptr()
        if not same or weight.storage_offset() != expected or not weight.is_contiguous():
            break
        expected += weight.numel()
    else:  # as a runtime of the same model has left them
        return weights[0].as_strided((rows, columns), (columns, 1))
    with torch.inference_mode(False), torch.no_grad():
        whole = torch.cat([weight.detach() for weight in weights])
        for weight, part in zip(weights, whole.split([len(weight) for weight in weights])):
            weight.data = part
    return whole
