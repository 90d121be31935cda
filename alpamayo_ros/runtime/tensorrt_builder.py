"""The process that builds one engine: `tensorrt_build` starts it and reads its answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import ModelError
from alpamayo_ros.runtime.tensorrt_build import find_module

NO_ENGINE = "the builder gave no engine and no reason"


def main(order: dict[str, str]) -> dict[str, Any]:
    """Build what is ordered; `faults` is empty where it worked and `built` says what came out."""
    trt = find_module(order["module"])
    severities = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
    logged: list[str] = []

    class Log(trt.ILogger):  # type: ignore[name-defined]
        """Keeps errors for the answer."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in severities:
                logged.append(message.strip())

    log = Log()
    try:
        # Without a driver some versions give no object, others an exception.
        builder = trt.Builder(log)
        network = _network(trt, builder)
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"{trt.__name__} makes no builder here: {'; '.join(logged) or error}; it needs "
            "NVIDIA's driver and a GPU"
        ) from error
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(order["onnx"]):
        return {"faults": [*_parse_errors(parser), *_refused(trt, log, order["onnx"])], "built": {}}
    dynamic = [name for name, shape, _ in _tensors(network) if any(size < 0 for size in shape)]
    if dynamic:
        return {"faults": [f"{', '.join(dynamic)} has no static shape"], "built": {}}
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # what is asked for as fp32 is computed in fp32
    if "target" in order:
        _set_target(trt, config, order["target"])
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        return {"faults": logged or [NO_ENGINE], "built": {}}
    Path(order["engine"]).write_bytes(memoryview(serialized))
    return {"faults": [], "built": _description(network, order["onnx"])}


def _network(trt: Any, builder: Any) -> Any:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None:
        raise ModelError(f"{trt.__name__} {trt.__version__} is too old: 10.0 or newer is needed")
    network = builder.create_network(1 << int(flag))
    if network is None:
        raise RuntimeError("no network")
    return network


def _tensors(network: Any) -> Iterator[tuple[str, list[int], str]]:
    """Name, shape and type of every input and output."""
    for count, get in (
        (network.num_inputs, network.get_input),
        (network.num_outputs, network.get_output),
    ):
        for index in range(count):
            tensor = get(index)
            yield tensor.name, list(tensor.shape), str(tensor.dtype).rpartition(".")[2]


def _parse_errors(parser: Any) -> list[str]:
    faults = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
        kind = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
        faults.append(f"{node}{kind}: {error.desc()}")
    return faults


def _refused(trt: Any, log: Any, onnx: str) -> list[str]:
    """Every node that the parser would not take: parsing itself stops at the first."""
    builder = trt.Builder(log)
    network = _network(trt, builder)  # kept: the parser holds no reference and would crash
    parser = trt.OnnxParser(network, log)
    if not hasattr(parser, "supports_model_v2"):
        return []
    parser.supports_model_v2(Path(onnx).read_bytes(), onnx)
    nodes = sorted(
        node
        for index in range(parser.num_subgraphs)
        if not parser.is_subgraph_supported(index)
        for node in parser.get_subgraph_nodes(index)
    )
    return [f"nodes not taken by number: {', '.join(map(str, nodes))}"] if nodes else []


def _set_target(trt: Any, config: Any, target: str) -> None:
    wanted = getattr(trt.ComputeCapability, target.upper(), None)
    if wanted is None:
        known = sorted(n.lower() for n in dir(trt.ComputeCapability) if n.startswith("SM"))
        raise ModelError(
            f"{trt.__name__} {trt.__version__} builds for {', '.join(known)}, not for {target}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


def _description(network: Any, onnx: str) -> dict[str, Any]:
    import onnx as library

    model = library.load(onnx, load_external_data=False)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    taken = {node for layer in layers for node in _nodes(layer)}
    return {
        "layers": len(layers),
        "onnx_nodes": len(model.graph.node),
        # Constants may be folded; anything else here was left out of the engine.
        "onnx_nodes_without_layer": [n.name for n in model.graph.node if n.name not in taken],
        "tensors": {name: {"shape": shape, "type": kind}
                    for name, shape, kind in _tensors(network)},
        # The file's own, so that an engine says whose it is.
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }  # fmt: skip


def _nodes(layer: Any) -> Iterator[str]:
    """Names of the ONNX nodes that a layer was made for, as the parser notes them in it."""
    for part in str(getattr(layer, "metadata", "")).split("]"):
        _, found, name = part.partition("[ONNX Layer: ")
        if found:
            yield name


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    try:
        answer = main(given)
    except ModelError as fault:
        answer = {"faults": [str(fault)], "built": {}}
    Path(given["answer"]).write_text(json.dumps(answer))
