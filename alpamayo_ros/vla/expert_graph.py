"""The action expert as one static graph: what is exported to ONNX and built into an engine.

The arithmetic is that of `expert.velocity` with the model's own parameters. What differs is its
shape: the prompt's keys and values lie in a bucket of fixed length, the mask hides what the bucket
does not use, and there is no cache that grows and is cut back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.expert import ExpertContext
from alpamayo_ros.vla.flow_matching import time_grid
from alpamayo_ros.vla.model import AlpamayoModel

BUCKET = 64  # prefixes are rounded up to a multiple: matrix units like it, and so do few files


@dataclass(frozen=True, slots=True)
class GraphShape:
    """The sizes that a graph is made for; none of them can change when it runs."""

    samples: int  # N: rows of a prompt times samples of each
    prefix: int  # S: places for the prompt's and the reasoning's keys and values
    loop_steps: int  # K Euler steps in the graph, noise to action; 0: one velocity a call
    layers: int
    kv_heads: int
    head_dim: int

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every input, in order."""
        n, s = self.samples, self.prefix
        cache = (self.layers, n, self.kv_heads, s, self.head_dim)
        time: dict[str, tuple[int, ...]] = {} if self.loop_steps else {"t": (n,)}
        return {
            "x": (n, N_WAYPOINTS, ACTION_DIMS),
            **time,
            "prefix_keys": cache,
            "prefix_values": cache,
            "mask": (n, 1, N_WAYPOINTS, s + N_WAYPOINTS),
            "cos": (n, N_WAYPOINTS, self.head_dim),
            "sin": (n, N_WAYPOINTS, self.head_dim),
        }

    @property
    def output(self) -> str:
        """Name of the output, (N, 64, 2) fp32."""
        return "action" if self.loop_steps else "velocity"


def graph_shape(model: AlpamayoModel, samples: int, prefix: int, loop_steps: int = 0) -> GraphShape:
    """The sizes for a model. Raises ModelError where one is out of range."""
    for name, value, least in (
        ("samples", samples, 1), ("prefix", prefix, 1), ("steps", loop_steps, 0),
    ):  # fmt: skip
        if value < least:
            raise ModelError(f"{name} is {value}, wanted {least} or more")
    config: Any = model.expert.config
    return GraphShape(
        samples,
        prefix,
        loop_steps,
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.head_dim,
    )


def bucket_length(tokens: int) -> int:
    """The bucket that holds so many tokens."""
    return -(-tokens // BUCKET) * BUCKET


class ExpertStep(nn.Module):
    """One velocity of the flow.

    forward: x (N, 64, 2) fp32, t (N,) fp32, prefix keys and values (layers, N, kv_heads, S,
    head_dim) in the weights' type, mask (N, 1, 64, S + 64) additive in the weights' type, cos and
    sin (N, 64, head_dim) fp32 -> velocity (N, 64, 2) fp32.

    Where weights are not fp32, norms, rotation and the residual stream still are, as autocast has
    them; products of matrices are in the weights' type.
    """

    def __init__(self, model: AlpamayoModel) -> None:
        super().__init__()
        # The modules are the model's: nothing is copied.
        self.projection = model.action_in_proj
        self.layers: Any = model.expert.layers
        self.norm: Any = model.expert.norm
        self.out = model.action_out_proj
        config: Any = model.expert.config
        self.head_dim = int(config.head_dim)
        self.kv_heads = int(config.num_key_value_heads)
        self.groups = int(config.num_attention_heads) // self.kv_heads

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        prefix_keys: Tensor,
        prefix_values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        return self.velocity(x, t, self.shared(prefix_keys, prefix_values, mask, cos, sin))

    def shared(
        self, keys: Tensor, values: Tensor, mask: Tensor, cos: Tensor, sin: Tensor
    ) -> Shared:
        """What is the same in every layer and step."""
        # Queries of the heads that share a key lie behind each other, so that keys and values need
        # no copy for each of them: the mask is repeated instead, once for all layers.
        return Shared(
            [keys[index] for index in range(len(self.layers))],
            [values[index] for index in range(len(self.layers))],
            mask.repeat(1, 1, self.groups, 1),
            cos[:, None],
            sin[:, None],
        )

    def velocity(self, x: Tensor, t: Tensor, shared: Shared) -> Tensor:
        """(N, 64, 2) fp32 of x (N, 64, 2) at t (N,)."""
        states = self.projection(x, t).float()
        for index, layer in enumerate(self.layers):
            attended = self._attention(layer, index, layer.input_layernorm(states), shared)
            states = states + attended.float()
            states = states + self._mlp(layer.mlp, layer.post_attention_layernorm(states)).float()
        weight = self.out.weight
        result: Tensor = self.out(self.norm(states).to(weight.dtype)).float()
        return result

    def _mlp(self, mlp: Any, states: Tensor) -> Tensor:
        result: Tensor = mlp(states.to(mlp.down_proj.weight.dtype))
        return result

    def _attention(self, layer: Any, index: int, states: Tensor, shared: Shared) -> Tensor:
        own = layer.self_attn
        dtype = own.q_proj.weight.dtype
        states = states.to(dtype)
        n, count, _ = states.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(n, count, -1, self.head_dim)

        query = own.q_norm(heads(own.q_proj(states)).float()).transpose(1, 2)
        key = own.k_norm(heads(own.k_proj(states)).float()).transpose(1, 2)
        value = heads(own.v_proj(states)).transpose(1, 2)
        # Scaled before the product: in fp16 the scores would overflow sooner.
        query = (rotated(query, shared) * own.scaling).to(dtype)
        key = torch.cat((shared.keys[index], rotated(key, shared).to(dtype)), dim=2)
        value = torch.cat((shared.values[index], value), dim=2)
        query = query.reshape(n, self.kv_heads, self.groups * count, self.head_dim)
        weights = (query @ key.transpose(2, 3) + shared.mask).softmax(dim=-1)
        attended = (weights @ value).reshape(n, -1, count, self.head_dim).transpose(1, 2)
        result: Tensor = own.o_proj(attended.reshape(n, count, -1))
        return result


@dataclass(frozen=True, slots=True)
class Shared:
    """Inputs that no layer changes."""

    keys: list[Tensor]  # a layer each, (N, kv_heads, S, head_dim)
    values: list[Tensor]
    mask: Tensor  # (N, 1, groups * 64, S + 64)
    cos: Tensor  # (N, 1, 64, head_dim)
    sin: Tensor


def rotated(states: Tensor, shared: Shared) -> Tensor:
    """(N, heads, 64, head_dim) turned by their positions."""
    half = states.shape[-1] // 2
    first, second = states[..., :half], states[..., half:]
    return states * shared.cos + torch.cat((-second, first), dim=-1) * shared.sin


class ExpertLoop(ExpertStep):
    """All K Euler steps unrolled: forward takes noise for x and no t, and gives the action."""

    def __init__(self, model: AlpamayoModel, steps: int) -> None:
        super().__init__(model)
        # Python numbers become constants. Differences are in fp32, as `integrate` takes them.
        times = time_grid(steps, torch.device("cpu"))
        self.times = times[:-1].tolist()
        self.deltas = (times[1:] - times[:-1]).tolist()

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        prefix_keys: Tensor,
        prefix_values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        shared = self.shared(prefix_keys, prefix_values, mask, cos, sin)
        for now, delta in zip(self.times, self.deltas):
            t = torch.full((x.shape[0],), now, dtype=x.dtype, device=x.device)
            x = x + delta * self.velocity(x, t, shared)
        return x


def expert_graph(model: AlpamayoModel, shape: GraphShape) -> ExpertStep:
    """The module whose inputs are `shape.inputs()`, in their order."""
    loop = ExpertLoop(model, shape.loop_steps) if shape.loop_steps else ExpertStep(model)
    return loop.eval()


def in_bucket(
    model: AlpamayoModel, context: ExpertContext, shape: GraphShape, dtype: torch.dtype
) -> Mapping[str, Tensor]:
    """A context as the graph's inputs but x and t: padded once, used in every step.

    Keys, values and mask are of `dtype`, on the context's device. Raises ModelError where the
    context is not of the graph's size.
    """
    length, rows = context.prefix.length, len(context.mask)
    if rows != shape.samples:
        raise ModelError(
            f"the expert's file is for exactly {shape.samples} samples and the plan has {rows}: "
            f"set option samples to {shape.samples}, or make a file for them: alpamayo vla "
            f"export-expert --samples {rows} --prefix {shape.prefix}"
        )
    if length > shape.prefix:
        raise ModelError(
            f"prompt and reasoning have {length} tokens, the expert's file has places for "
            f"{shape.prefix}: fewer cameras, a lower max_new_tokens, or make a file for them: "
            f"alpamayo vla export-expert --samples {rows} --prefix {bucket_length(length)}"
        )
    device = context.mask.device
    named: dict[str, Tensor] = {}
    for name, part in (("prefix_keys", "keys"), ("prefix_values", "values")):
        # Zeros, not whatever lay in memory: a hidden place times NaN would still be NaN.
        bucket = torch.zeros(shape.inputs()[name], dtype=dtype, device=device)
        for place, layer in zip(bucket, context.prefix.cache.layers):
            place[:, :, :length] = getattr(layer, part)
        named[name] = bucket
    hide = torch.finfo(dtype).min
    mask = torch.full(shape.inputs()["mask"], hide, dtype=dtype, device=device)
    seen = torch.zeros(context.mask.shape, dtype=dtype, device=device)
    seen.masked_fill_(context.mask < 0, hide)
    mask[..., :length] = seen[..., :length]
    mask[..., shape.prefix :] = seen[..., length:]
    named["mask"] = mask
    # The same module as in PyTorch; fp32 comes of the example's type.
    example = torch.empty(0, dtype=torch.float32, device=device)
    with torch.autocast(device.type, enabled=False):
        cos, sin = model.expert.rotary_emb(example, context.positions)
    return {**named, "cos": cos.contiguous(), "sin": sin.contiguous()}
