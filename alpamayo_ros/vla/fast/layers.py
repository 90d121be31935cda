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

HAS_FUSED = hasattr(torch.ops.aten, "_fused_rms_norm")  # from torch 2.8 on


class Norm:
    """Qwen3-VL's RMS norm with a weight (..., d): x (..., d) over its root mean square in fp32."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        self._weight, self._epsilon = weight, epsilon
        # Made once: a constant made in every call is a kernel of its own.
        self._added = torch.full((1,), epsilon, device=weight.device)

    @classmethod
    def of(cls, module: Any) -> Norm:
        """As a module of transformers computes it."""
        return cls(module.weight, module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """x in its own type before the weight, as the reference rounds it, and behind it in the
        weight's: a matrix would make that of it."""
        if x.device.type == "cuda" and HAS_FUSED:
            normed = fused_rms_norm(x, self._epsilon)
        else:
            wide = x.float()
            length = torch.linalg.vector_norm(wide, 2, -1, True)
            scale = torch.addcmul(self._added, length, length, value=1.0 / x.shape[-1]).rsqrt_()
            normed = (wide * scale).to(x.dtype)
        if normed.dtype == self._weight.dtype:
            return normed.mul_(self._weight)
        made = torch.empty_like(normed, dtype=self._weight.dtype)
        return torch.mul(normed, self._weight, out=made)


def fused_rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """One kernel in a build with CUDA. Not by `functional.rms_norm`, which autocast makes fp32."""
    normed: Tensor = torch.ops.aten._fused_rms_norm(x, [x.shape[-1]], None, epsilon)[0]
    return normed


# What was just made is changed in place: fresh memory of a prompt's size costs a CPU more than the
# sums in it do.
def times(fresh: Tensor, x: Tensor) -> Tensor:
    """Their product, in `fresh` where that has its type."""
    return fresh.mul_(x) if x.dtype == fresh.dtype else fresh * x


def plus_linear(fresh: Tensor, linear: nn.Module, x: Tensor) -> Tensor:
    """`fresh` (B, T, out) + linear(x) of x (B, T, in), over `fresh`. Of equal types the product is
    added as it is made."""
    if type(linear) is nn.Linear and linear.bias is None and fresh.dtype == x.dtype:
        rows = fresh.view(-1, fresh.shape[-1])
        rows.addmm_(x.reshape(-1, x.shape[-1]), linear.weight.t())
        return fresh
    return fresh.add_(linear(x))


class TextLayer:
    """One layer. Its modules keep their weights, which lie side by side afterwards."""

    def __init__(self, layer: Any) -> None:
        attention = layer.self_attn
        self._mlp, self._out = layer.mlp, attention.o_proj
        self._width = int(attention.head_dim)
        linears = attention.q_proj, attention.k_proj, attention.v_proj
        self._heads, self._kv_heads, _ = (one.out_features // self._width for one in linears)
        self._projections = Beside(linears)
        self._gate_up = Beside((layer.mlp.gate_proj, layer.mlp.up_proj))
        self._before, self._between = map(
            Norm.of, (layer.input_layernorm, layer.post_attention_layernorm)
        )
        queries = attention.q_norm.weight.expand(self._heads, -1)
        keys = attention.k_norm.weight.expand(self._kv_heads, -1)
        self._norms = tuple(
            Norm(weight, attention.q_norm.variance_epsilon)
            for weight in (torch.cat((queries, keys)), queries, keys)
        )

    def project(
        self, x: Tensor, cos: Tensor, sin: Tensor, queries: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, t, d), k and v (B, kv heads, T, d), positions applied, of x (B, T, width).

        `queries` takes q of the last so many tokens alone.
        """
        x = self._before(x)
        both, of_queries, of_keys = self._norms
        if queries is None:
            qkv = self._split(self._projections(x))
            q, k = rotate(both(qkv[:, :, : -self._kv_heads]), cos, sin).split(
                (self._heads, self._kv_heads), dim=2
            )
        else:
            last = self._split(self._projections(x[:, -queries:], 0, 1))
            q = rotate(of_queries(last), cos[:, -queries:], sin[:, -queries:])
            qkv = self._split(self._projections(x, 1, 3))
            k = rotate(of_keys(qkv[:, :, : self._kv_heads]), cos, sin)
        v = qkv[:, :, -self._kv_heads :]
        return q.transpose(1, 2).to(v.dtype), k.transpose(1, 2), v.transpose(1, 2)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """States (B, T, width) behind the layer, of those before it and what its heads saw.

        They take the place of `x`.
        """
        joined = seen.transpose(1, 2).reshape(len(x), x.shape[1], -1)
        x = plus_linear(x, self._out, joined)
        gate, up = self._gate_up(self._between(x)).chunk(2, dim=-1)
        return plus_linear(x, self._mlp.down_proj, times(self._mlp.act_fn(gate), up))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], -1, self._width)


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
