"""CUDA tensors that have a shape and a type and no numbers: what code for a GPU asks of torch.

PyTorch's FakeTensorMode, on a build without CUDA too: operators check their arguments and say what
they return. Indexing asks such a build for the device, and is put in other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from alpamayo_ros.vla.fast import layers

CUDA = torch.device("cuda", 0)
# Operators that start nothing on a device.
VIEWS = frozenset((
    "view", "_unsafe_view", "_reshape_alias", "as_strided", "transpose", "permute", "t", "slice",
    "select", "split", "split_with_sizes", "unbind", "expand", "unsqueeze", "squeeze", "alias",
    "detach", "empty", "empty_like", "new_empty", "empty_strided", "device",
))  # fmt: skip


class Launched(TorchDispatchMode):
    """Counts operators that compute or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_on_cuda() -> Iterator[None]:
    """What is made on CUDA within is without numbers; to ask for one is an error."""
    with (
        mock.patch.object(Tensor, "__getitem__", _get),
        mock.patch.object(Tensor, "__setitem__", _set),
        mock.patch.object(Tensor, "__invert__", _not),
        mock.patch.object(Tensor, "copy_", _copy),
        mock.patch.object(Tensor, "contiguous", _contiguous),
        mock.patch.object(layers, "fused_rms_norm", _rms_norm),
        FakeTensorMode(),
        torch.no_grad(),
    ):
        # As `inference_precision` has it; torch.autocast asks whether there is a device.
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)


def without_numbers(model: nn.Module) -> None:
    """Put a model's parameters and buffers on CUDA, within `shapes_on_cuda`."""
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None:
                made = torch.empty(one.shape, dtype=one.dtype, device=CUDA)
                module._parameters[name] = nn.Parameter(made, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)


def _get(tensor: Tensor, key: Any) -> Tensor:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(one is Ellipsis for one in keys):
        at = next(i for i, one in enumerate(keys) if one is Ellipsis)
        named = sum(one is not None for one in keys) - 1
        keys[at : at + 1] = [slice(None)] * (tensor.dim() - named)
    axis, gathered = 0, {}
    for one in keys:
        if isinstance(one, int):
            tensor = tensor.select(axis, one)
            continue
        if one is None:
            tensor = tensor.unsqueeze(axis)
        elif isinstance(one, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, one.start, one.stop, one.step or 1)
        else:
            gathered[axis] = one
        axis += 1
    if not gathered:
        return tensor
    index = [gathered.get(i) for i in range(max(gathered) + 1)]
    found: Tensor = torch.ops.aten.index.Tensor(tensor, index)
    return found


def _set(tensor: Tensor, key: Any, value: Tensor) -> None:
    _copy(_get(tensor, key), value)


def _not(mask: Tensor) -> Tensor:
    inverted: Tensor = torch.ops.aten.bitwise_not.default(mask)
    return inverted


def _contiguous(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous():
        return tensor
    copied: Tensor = torch.ops.aten.clone.default(tensor, memory_format=torch.contiguous_format)
    return copied


def _rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """One kernel behind a copy; a build without CUDA puts it together from several."""
    normed: Tensor = torch.ops.aten.neg.default(_contiguous(x))
    return normed


def _copy(tensor: Tensor, value: Tensor) -> Tensor:
    torch.ops.aten.copy_.default(tensor, value)
    return tensor
