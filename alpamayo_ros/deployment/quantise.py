"""fp32 graphs to fp16, to int8 by static calibration, and to fp8: ONNX in, ONNX out.

Two kinds of int8, since what is right for one runtime is wrong for the other:
- ONNX Runtime: unsigned activations, signed weights of 7 bits. x86 CPUs without VNNI add two
  products in 16 bits, which 8-bit weights overflow (relative error 0.25 instead of 0.03).
- TensorRT: everything signed and symmetric, biases in floating point.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.deployment.spec import StudentSpec
from alpamayo_ros.errors import ModelError

Feeds = Iterable[Mapping[str, NDArray[Any]]]
LAYERS = ("Conv", "Gemm", "MatMul")


def to_fp16(source: Path, out: Path, graph: str, spec: StudentSpec) -> None:
    """Weights and arithmetic in half precision; inputs and output stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    _save(_sorted(model), out, graph, spec)


def to_int8(
    source: Path, out: Path, graph: str, spec: StudentSpec, feeds: Feeds, for_tensorrt: bool
) -> int:
    """Quantise and dequantise around convolutions and matrix products; how many layers were.

    The ranges are those of `feeds`. What has not seen an image yet (odometry in metres) and the
    last layer, whose output is the action, stay in fp32. Raises ModelError where nothing is left.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    prepared = out.with_name(f".{out.name}.prepared")
    try:
        _fold(source, prepared)
        chosen, left_out = quantisable(prepared, graph)
        with _quiet():
            quantize_static(
                prepared,
                out,
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=not for_tensorrt,
                op_types_to_quantize=list(LAYERS),
                nodes_to_exclude=left_out,
                extra_options={
                    "ActivationSymmetric": for_tensorrt,
                    "WeightSymmetric": True,
                    "QuantizeBias": not for_tensorrt,
                },
            )
    finally:
        prepared.unlink(missing_ok=True)
    import onnx

    _save(onnx.load(out), out, graph, spec)
    return len(chosen)


def quantisable(path: Path, graph: str) -> tuple[list[str], list[str]]:
    """Names of the layers to quantise, and of those to leave. Raises ModelError where none is."""
    import onnx

    nodes = list(onnx.load(path).graph.node)
    if any(not node.name for node in nodes):
        raise ModelError(f"{path.name} has nodes without names: export it again")
    seen = {"images" if graph == "encoder" else "features"}
    downstream, last = [], ""
    for node in nodes:
        if seen.intersection(node.input):
            seen.update(node.output)
            if node.op_type in LAYERS:
                downstream.append(node.name)
                last = node.name
    keep = {name for name in downstream if graph == "encoder" or name != last}
    layers = [node.name for node in nodes if node.op_type in LAYERS]
    if not keep:
        raise ModelError(f"the {graph} has no convolution or matrix product to quantise")
    return [name for name in layers if name in keep], [n for n in layers if n not in keep]


class _Reader:
    """Feeds one by one, as the quantiser asks for them."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = deque(feeds)

    def get_next(self) -> Any:
        return _widened(self._feeds.popleft()) if self._feeds else None

    def __iter__(self) -> Iterator[Any]:
        return map(_widened, self._feeds)

    def __len__(self) -> int:
        return len(self._feeds)


def _widened(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """float16, as images are kept, to the graph's float32."""
    return {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in feed.items()}


def _fold(source: Path, out: Path) -> None:
    """Constants folded and batch norms in their convolutions, so that ranges are of what runs."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    _name_nodes(out)


def _name_nodes(path: Path) -> None:
    import onnx

    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save(model, path)


def _sorted(model: Any) -> Any:
    """The converter appends its casts behind the nodes that they feed."""
    import onnx_ir as ir

    converted = ir.serde.deserialize_model(model)
    converted.graph.sort()
    return ir.serde.serialize_model(converted)


def _save(model: Any, out: Path, graph: str, spec: StudentSpec) -> None:
    """With our metadata, none of the tool's, and no type or shape that became untrue."""
    import onnx

    used = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(imports)
    onnx.helper.set_model_props(model, spec.metadata(graph))
    onnx.checker.check_model(model)
    onnx.save(model, out)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on standard error to do what was done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
