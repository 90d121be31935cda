"""A student on TensorRT: inputs through pinned memory, on the engine's own CUDA stream.

Complete, and not executed where it was written, which had no GPU: engines are built there and never
run. Tests cover what comes before the first launch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.deployment.engines import build_engines
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.runtimes import Arrays, cache_folder, check_inputs, contiguous
from alpamayo_ros.deployment.spec import EXPORT, GRAPHS, StudentSpec, check_same, parse_metadata
from alpamayo_ros.errors import ModelError
from alpamayo_ros.runtime.tensorrt_build import find_module, read_sidecar

if TYPE_CHECKING:
    import torch


class TensorrtRuntime:
    """Encoder and policy as two engines, loaded, or built at configure of the ONNX files."""

    def __init__(self, options: StudentOptions) -> None:
        """Raises ModelError: no TensorRT, no GPU, no engine, or one of another GPU or version."""
        assert options.encoder is not None and options.policy is not None
        module = find_module(options.tensorrt or None)
        torch = _torch_with_gpu(module.__name__)
        from alpamayo_ros.runtime.tensorrt_engine import Engine

        device = torch.device("cuda", torch.cuda.current_device())
        paths = {"encoder": options.encoder, "policy": options.policy}
        if all(path.suffix == ".onnx" for path in paths.values()):
            folder = options.engines or cache_folder()
            built = build_engines(folder, paths, options.precision, module=module.__name__)
            paths = {graph: one.engine for graph, one in built.items()}
        specs = engine_specs(paths)
        self.spec = specs["encoder"]
        self._version = f"{module.__name__} {module.__version__}"
        self._gpu = torch.cuda.get_device_name(device)
        self._engines = {graph: Engine(path, device) for graph, path in paths.items()}
        for graph, engine in self._engines.items():
            if engine.inputs != self.spec.inputs(graph):
                raise ModelError(
                    f"{paths[graph]} takes {engine.inputs}, its sidecar says "
                    f"{self.spec.inputs(graph)}: build it again"
                )
        self._pinned = {graph: self._pinned_inputs(graph) for graph in GRAPHS}
        self._device_inputs = {
            graph: {name: tensor.to(device) for name, tensor in tensors.items()}
            for graph, tensors in self._pinned.items()
        }
        self._torch = torch

    def run(self, graph: str, inputs: Arrays) -> NDArray[np.float32]:
        """Copies by pinned memory, runs, and waits for the output. Raises ModelError."""
        self._upload(graph, inputs)
        name, _ = self.spec.output(graph)
        output = self._engines[graph].run(self._device_inputs[graph])[name]
        result: NDArray[np.float32] = output.float().cpu().numpy()  # waits
        return result

    def layer_times(self, graph: str, inputs: Arrays, repeats: int) -> list[tuple[str, str, float]]:
        """By TensorRT's profiler: what `trtexec --dumpProfile` prints."""
        self._upload(graph, inputs)
        times = self._engines[graph].layer_times(self._device_inputs[graph], repeats)
        return [(layer, "engine", ms) for layer, ms in times]

    def describe(self) -> str:
        """Module, version and GPU."""
        return f"{self._version} on {self._gpu}"

    def close(self) -> None:
        """Give the engines' memory back."""
        self._engines.clear()
        self._device_inputs.clear()
        self._pinned.clear()
        self._torch.cuda.empty_cache()

    def _pinned_inputs(self, graph: str) -> dict[str, torch.Tensor]:
        import torch

        return {
            name: torch.empty(shape, dtype=self._engines[graph].types[name], pin_memory=True)
            for name, shape in self.spec.inputs(graph).items()
        }

    def _upload(self, graph: str, inputs: Arrays) -> None:
        check_inputs(self.spec, graph, inputs)
        import torch

        for name, array in contiguous(inputs).items():
            pinned = self._pinned[graph][name]
            pinned.copy_(torch.from_numpy(array))
            self._device_inputs[graph][name].copy_(pinned, non_blocking=True)


def engine_specs(paths: dict[str, Path]) -> dict[str, StudentSpec]:
    """What the engines' sidecars say, which is what their ONNX files said. Raises ModelError."""
    specs = {}
    for graph, path in paths.items():
        if path.suffix != ".engine":
            raise ModelError(
                f"{path} is no engine and the other graph is one: name two engines, or two ONNX "
                f"files of one {EXPORT}"
            )
        specs[graph] = parse_metadata(read_sidecar(path).get("metadata", {}), graph, str(path))
    check_same(specs["encoder"], specs["policy"], str(paths["encoder"].parent))
    return specs


def _torch_with_gpu(module: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            "runtime tensorrt moves its tensors with PyTorch, which is not installed: pip install "
            "torch (a CUDA build), or set option runtime=onnxruntime with the ONNX files"
        ) from error
    if not torch.cuda.is_available():
        raise ModelError(
            f"runtime tensorrt needs an NVIDIA GPU and its driver; PyTorch {torch.__version__} "
            f"sees none ({module} is installed). Set option runtime=onnxruntime with the ONNX files"
        )
    return torch
