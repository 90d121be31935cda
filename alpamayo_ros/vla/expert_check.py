"""An exported expert against `expert.velocity`, by ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla import flow_matching
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.expert import ExpertContext, expert_context, velocity
from alpamayo_ros.vla.expert_file import ExpertFile
from alpamayo_ros.vla.expert_graph import GraphShape, in_bucket
from alpamayo_ros.vla.generation import Prefix, new_cache
from alpamayo_ros.vla.inference import inference_precision
from alpamayo_ros.vla.model import AlpamayoModel

# One velocity in fp32, largest difference: sums in another order make 1e-6 to 1e-5.
ATOL_VELOCITY = 1e-4
# K steps in fp32: an error of one step is turned by the next through Fourier frequencies of up to
# 100; the tiny model of random weights makes 1e-3 of ten steps, a fault 1e-1 and more.
ATOL_ACTION = 1e-2
# In half precision PyTorch's own rounding is what is compared with, and the largest of many
# differences says little: here the root mean square over that of the velocities. Random weights
# make 0.3 % in fp16 and 4 % in bf16, a causal expert 20 % and more.
RELATIVE_RMS = {"fp16": 0.02, "bf16": 0.12}
GAP = 5  # hidden places behind a sample's trajectory start


def random_context(
    model: AlpamayoModel, shape: GraphShape, length: int | None = None, seed: int = 0
) -> ExpertContext:
    """A context of random keys and values that does not fill its bucket, with gaps that differ
    from sample to sample: what a file gets wrong, it gets wrong here."""
    length = max(1, shape.prefix - 7) if length is None else length
    generator = torch.Generator().manual_seed(seed)
    cache = new_cache()
    size = (shape.samples, shape.kv_heads, length, shape.head_dim)
    for layer in range(shape.layers):
        keys, values = (torch.randn(size, generator=generator).to(model.dtype) for _ in range(2))
        cache.update(keys, values, layer)
    seen = torch.ones(shape.samples, length, dtype=torch.long)
    prefix = Prefix(cache, torch.empty(0), seen, torch.full((shape.samples, 1), -length // 2))
    gaps = torch.tensor([GAP - index % (GAP + 1) for index in range(shape.samples)])
    return expert_context(model, prefix, (length - gaps).clamp(min=1))


def check_onnx(model: AlpamayoModel, file: ExpertFile, path: Path) -> tuple[float, float]:
    """The error of an ONNX file and what is allowed. Raises ModelError where it is larger.

    In fp32 the error is the largest difference; else the relative root mean square. bf16, which
    ONNX Runtime does not run on a CPU, is compared through a copy that widens it to fp32.
    """
    error, tolerance = onnx_error(model, file, path)
    if not error <= tolerance:
        measure = "differ by up to" if file.precision == "fp32" else "have a relative error of"
        raise ModelError(
            f"the exported expert and PyTorch {measure} {error:.3g}, allowed is {tolerance:g} in "
            f"{file.precision}: it is not written. Another precision, or another version of torch "
            "or onnxscript, may export it right"
        )
    return error, tolerance


def onnx_error(model: AlpamayoModel, file: ExpertFile, path: Path) -> tuple[float, float]:
    """As above, without judging."""
    shape = file.shape
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape.samples, N_WAYPOINTS, ACTION_DIMS, generator=generator)
    t = torch.rand(shape.samples, generator=generator)
    context = random_context(model, shape)
    bucket = in_bucket(model, context, shape, file.dtype)
    reference = _reference(model, context, shape, x, t)
    given = {"x": x} if shape.loop_steps else {"x": x, "t": t}
    inputs = {**given, **bucket}
    if file.precision == "bf16":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            ours = _run(widened(path, Path(folder)), {k: v.float() for k, v in inputs.items()})
    else:
        ours = _run(path, inputs)
    difference = ours.astype(np.float64) - reference
    if file.precision == "fp32":
        return float(np.abs(difference).max()), ATOL_ACTION if shape.loop_steps else ATOL_VELOCITY
    relative = np.sqrt((difference**2).mean() / (reference**2).mean())
    return float(relative), RELATIVE_RMS[file.precision]


def _reference(
    model: AlpamayoModel, context: ExpertContext, shape: GraphShape, x: Tensor, t: Tensor
) -> NDArray[np.float64]:
    with inference_precision(model):
        if not shape.loop_steps:
            return velocity(model, context, x, t).double().numpy()
        end = flow_matching.integrate(
            lambda x, t: velocity(model, context, x, t), x, shape.loop_steps
        )
        return end.double().numpy()


def _run(path: Path, inputs: Mapping[str, Tensor]) -> NDArray[np.float32]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (result,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    except Exception as error:  # ONNX Runtime's own errors share no base
        raise ModelError(f"ONNX Runtime cannot run the exported expert: {error}") from error
    output: NDArray[np.float32] = result
    return output


def widened(path: Path, folder: Path) -> Path:
    """A copy of a bf16 file in `folder` with every bf16 as fp32: the same graph and weights."""
    import onnx_ir as ir

    half, wide = ir.DataType.BFLOAT16, ir.DataType.FLOAT
    model = ir.load(path)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == half:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float32), name=value.name)
            value.dtype = wide
    for value in model.graph.inputs:
        if value.dtype == half:
            value.dtype = wide
    for node in model.graph:
        for name, attribute in list(node.attributes.items()):
            _widen(node, name, attribute, half, wide)
        for value in node.outputs:
            if value.dtype == half:
                value.dtype = wide
    ir.save(model, folder / path.name, external_data=f"{path.name}.data")
    return folder / path.name


def _widen(node: Any, name: str, attribute: Any, half: Any, wide: Any) -> None:
    import onnx_ir as ir

    if name == "to" and attribute.value == int(half):
        node.attributes[name] = ir.AttrInt64(name, int(wide))
    elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == half:
        tensor = ir.tensor(attribute.value.numpy().astype(np.float32))
        node.attributes[name] = ir.AttrTensor(name, tensor)
