"""An exported expert against `expert.velocity`, by ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import flow_matching
from alpamayo_ros.vla.expert import ExpertContext, expert_context, velocity
from alpamayo_ros.vla.expert_file import ExpertFile
from alpamayo_ros.vla.expert_graph import GraphShape, in_bucket
from alpamayo_ros.vla.generation import Prefix, new_cache
from alpamayo_ros.vla.model import AlpamayoModel

# One velocity, largest difference: sums in another order make 1e-6 to 5e-6 of random weights up to
# the small size, the least fault tried (a visible gap in a full bucket of 3200) 6e-3.
ATOL_VELOCITY = 1e-4
# K steps, root mean square of the difference over that of the actions: each step turns the last
# one's error through Fourier frequencies of up to 100, so that single values say little.
RELATIVE_ACTION = 5e-3
# fp16 as ONNX Runtime computes it, against fp32, in the same measure: rounding makes 0.1 % of one
# velocity and 2 % of ten steps. It is there to catch what overflows; the graph was compared before.
RELATIVE_FP16 = 0.05
# Both are tried: behind a short context the waypoints' own mask and gaps weigh most (the least
# fault makes 9 % there and 0.2 % in a full bucket of 3200), a full one reaches every place.
SHORT = 16
GAP = 5  # hidden places behind a sample's trajectory start


def random_context(
    model: AlpamayoModel,
    shape: GraphShape,
    length: int | None = None,
    dtype: torch.dtype | None = None,
) -> ExpertContext:
    """A context of random keys and values that does not fill its bucket, with gaps that differ
    from sample to sample: what a file gets wrong, it gets wrong here. `dtype`: the model's."""
    length = max(1, shape.prefix - 7) if length is None else length
    generator = torch.Generator().manual_seed(0)
    dtype = dtype or model.dtype
    cache = new_cache()
    size = (shape.samples, shape.kv_heads, length, shape.head_dim)
    for layer in range(shape.layers):
        keys, values = (torch.randn(size, generator=generator).to(dtype) for _ in range(2))
        cache.update(keys, values, layer)
    seen = torch.ones(shape.samples, length, dtype=torch.long)
    prefix = Prefix(cache, torch.empty(0), seen, torch.full((shape.samples, 1), -length // 2))
    gaps = torch.tensor([GAP - index % (GAP + 1) for index in range(shape.samples)])
    return expert_context(model, prefix, (length - gaps).clamp(min=1), length)


def check_onnx(model: AlpamayoModel, file: ExpertFile, path: Path) -> tuple[float, float]:
    """The error of an ONNX file and what is allowed. Raises ModelError where it is larger.

    The largest difference of one velocity, or the relative root mean square of all steps'. A file
    in half precision is compared through a copy that computes in fp32 with the same weights, as is
    the model: in half precision, rounding would hide most faults. fp16 also runs as it is; bf16 is
    not run by ONNX Runtime on a CPU.
    """
    shape = file.shape
    tolerance = RELATIVE_ACTION if shape.loop_steps else ATOL_VELOCITY
    measure = _relative if shape.loop_steps else _largest
    lengths = sorted({min(SHORT, shape.prefix), max(1, shape.prefix - GAP - 2)})
    inputs = _inputs(shape)

    def bucket(length: int, dtype: torch.dtype) -> Mapping[str, Tensor]:
        context = random_context(model, shape, length, dtype=torch.float32)
        return in_bucket(model, context, shape, dtype)

    # One after the other: the wide weights are in memory once, here or in ONNX Runtime.
    with _in_fp32(model):
        references = {length: _reference(model, shape, length, inputs) for length in lengths}
    worst = 0.0
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wide = path if file.precision == "fp32" else widened(path, Path(folder))
        for length, reference in references.items():
            ours = _run(wide, {**inputs, **bucket(length, torch.float32)})
            worst = _judged(measure(ours, reference), worst, tolerance)
    if file.precision == "fp16":
        for length, reference in references.items():
            ours = _run(path, {**inputs, **bucket(length, torch.float16)})
            _judged(_relative(ours, reference), 0.0, RELATIVE_FP16, " computed in fp16")
    return worst, tolerance


def _judged(error: float, worst: float, tolerance: float, how: str = "") -> float:
    if not error <= tolerance:  # NaN is not
        raise ModelError(
            f"the exported expert{how} and PyTorch differ by {error:.3g}, allowed is "
            f"{tolerance:g}: it is not written. Another --precision, or another version of torch "
            "or onnxscript, may export it right"
        )
    return max(error, worst)


def _largest(ours: NDArray[np.float32], reference: NDArray[np.float64]) -> float:
    return float(np.abs(ours - reference).max())


def _relative(ours: NDArray[np.float32], reference: NDArray[np.float64]) -> float:
    return float(np.sqrt(((ours - reference) ** 2).mean() / (reference**2).mean()))


@contextmanager
def _in_fp32(model: AlpamayoModel) -> Iterator[None]:
    """The model's parameters widened in place, and narrowed again: both ways exact."""
    dtype = model.dtype
    try:
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
        yield
    finally:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)


def _inputs(shape: GraphShape) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape.inputs()["x"], generator=generator)
    return {"x": x} if shape.loop_steps else {"x": x, "t": torch.rand(len(x), generator=generator)}


def _reference(
    model: AlpamayoModel, shape: GraphShape, length: int, inputs: Mapping[str, Tensor]
) -> NDArray[np.float64]:
    context = random_context(model, shape, length)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return velocity(model, context, x, t)

    with torch.inference_mode():
        if shape.loop_steps:
            result = flow_matching.integrate(field, inputs["x"], shape.loop_steps)
        else:
            result = field(inputs["x"], inputs["t"])
    return result.double().numpy()


def _run(path: Path, inputs: Mapping[str, Tensor]) -> NDArray[np.float32]:
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        # Neither makes the result better, and both make copies of the weights.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (result,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    except Exception as error:  # ONNX Runtime's own errors share no base
        raise ModelError(f"ONNX Runtime cannot run the exported expert: {error}") from error
    output: NDArray[np.float32] = result
    return output


def widened(path: Path, folder: Path) -> Path:
    """A copy of a file in `folder` with every half-precision type as fp32: the same graph and
    weights."""
    import onnx_ir as ir

    model = ir.load(path)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        values += node.outputs
        for name, attribute in list(node.attributes.items()):
            _widen(node, name, attribute)
    for value in values:
        tensor = value.const_value
        if tensor is not None and tensor.dtype in _half():
            value.const_value = _lazily_wide(tensor)
        if value.dtype in _half():
            value.dtype = ir.DataType.FLOAT
    ir.save(model, folder / path.name, external_data=f"{path.name}.data")
    return folder / path.name


def _lazily_wide(tensor: Any) -> Any:
    """fp32 when it is written, so that one tensor at a time is in memory twice."""
    import onnx_ir as ir

    def widen() -> Any:
        return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)

    return ir.LazyTensor(widen, ir.DataType.FLOAT, tensor.shape, name=tensor.name)


def _widen(node: Any, name: str, attribute: Any) -> None:
    import onnx_ir as ir

    if name == "to" and attribute.value in _half():
        node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in _half():
        tensor = ir.tensor(attribute.value.numpy().astype(np.float32))
        node.attributes[name] = ir.AttrTensor(name, tensor)


def _half() -> tuple[Any, Any]:
    import onnx_ir as ir

    return ir.DataType.FLOAT16, ir.DataType.BFLOAT16
