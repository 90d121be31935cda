"""A model's linear layers replaced by quantised ones, part by part."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.checkpoint import assign
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.quant.codecs import codec
from alpamayo_ros.vla.quant.linear import QuantisedLinear
from alpamayo_ros.vla.quant.precisions import FLOATS, PARTS, Choice

PREFIXES = {
    "vision": "vlm.model.visual.",
    "backbone": "vlm.model.language_model.",
    "expert": "expert.",
    "lm_head": "vlm.lm_head.",
}


def quantised_weights(model: AlpamayoModel, chosen: Choice) -> dict[str, str]:
    """Names of the matrices to quantise, each with its precision."""
    return {
        f"{name}.weight": getattr(chosen, part)
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        for part in PARTS
        if f"{name}.".startswith(PREFIXES[part]) and getattr(chosen, part) not in FLOATS
    }


def check_floats(chosen: Choice, dtype: torch.dtype) -> None:
    """Parts that are not quantised have the model's dtype. Raises ModelError."""
    own = str(dtype).removeprefix("torch.")
    for part in PARTS:
        name = getattr(chosen, part)
        if name in FLOATS and name != own:
            raise ModelError(f"weights: {part} as {name} in a model whose dtype is {own}")


class Quantiser:
    """Takes a full checkpoint's tensors one by one, so that it is never whole in memory."""

    def __init__(self, model: AlpamayoModel, chosen: Choice, dtype: torch.dtype) -> None:
        check_floats(chosen, dtype)
        self._dtype = dtype
        self._precisions = quantised_weights(model, chosen)
        for name in {*self._precisions.values()}:
            codec(name)  # what is missing is missed before anything is read
        self._squares = {part: [0.0, 0.0] for part in PARTS}

    def __call__(self, model: nn.Module, name: str, tensor: Tensor) -> None:
        """Put a tensor where it belongs, encoded or as it is."""
        precision = self._precisions.get(name)
        if precision is None:
            assign(model, name, tensor)
            return
        owner_name = name.removesuffix(".weight")
        wide = tensor.float()
        code = codec(precision).encode(wide)
        before = model.get_submodule(owner_name)
        assert isinstance(before, nn.Linear)
        linear = QuantisedLinear(
            precision, (wide.shape[0], wide.shape[1]), self._dtype, before.bias, code
        )
        _replace(model, owner_name, linear)
        part = next(part for part in PARTS if name.startswith(PREFIXES[part]))
        sums = self._squares[part]
        for rows, start in _blocks(wide):
            decoded = linear.weight_rows(start, start + len(rows)).float()
            sums[0] += float((decoded - rows).square().sum())
            sums[1] += float(rows.square().sum())

    @property
    def errors(self) -> dict[str, float]:
        """Relative error of each quantised part's weights, as a root of sums of squares."""
        return {part: (off / whole) ** 0.5 for part, (off, whole) in self._squares.items() if whole}


def _blocks(weight: Tensor, rows: int = 4096) -> Iterator[tuple[Tensor, int]]:
    for start in range(0, len(weight), rows):
        yield weight[start : start + rows], start


def quantise(model: AlpamayoModel, chosen: Choice) -> dict[str, float]:
    """Quantise a model in place; the relative error of each part's weights."""
    take = Quantiser(model, chosen, model.dtype)
    for name in quantised_weights(model, chosen):
        with torch.no_grad():
            take(model, name, model.get_parameter(name).data)
    return take.errors


def hollow(model: AlpamayoModel, chosen: Choice, dtype: torch.dtype) -> None:
    """Room for the codes of a quantised checkpoint in an empty model. Raises ModelError."""
    check_floats(chosen, dtype)
    for name, precision in quantised_weights(model, chosen).items():
        owner_name = name.removesuffix(".weight")
        linear = model.get_submodule(owner_name)
        assert isinstance(linear, nn.Linear)
        shape = (linear.out_features, linear.in_features)
        _replace(model, owner_name, QuantisedLinear(precision, shape, dtype, linear.bias))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent_name, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent_name), leaf, module)
