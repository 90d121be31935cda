"""A TensorRT engine run on torch tensors, bound by pointer, on a stream of its own.

Not executed where this was written, which had no NVIDIA GPU: tests run it against a stand-in for
TensorRT that reads and writes the pointers. What only a GPU shows (streams, speed, the engine's own
numbers) is untested.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.runtime.tensorrt_build import find_module, read_sidecar

TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
}


class Engine:
    """One engine with one execution context; not to be called from two threads at once."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises ModelError where the engine is missing, changed, or of another TensorRT or GPU,
        and for another GPU than the first: TensorRT takes the current one, which is that."""
        if device.index:
            raise ModelError(
                f"option device is {device}, and TensorRT runs on the first GPU that the process "
                f"sees: set device=cuda and start it with CUDA_VISIBLE_DEVICES={device.index}"
            )
        if not path.exists():
            raise ModelError(f"engine {path} does not exist; build it with --to tensorrt")
        self.path, self.device = path, device
        self.sidecar = read_sidecar(path)
        if self.sidecar["engine_sha256"] != file_sha256(path):
            raise ModelError(
                f"{path} is not the engine that {path.name}.json describes: copy both, or build it "
                "again"
            )
        module = self._module()
        self._check_gpu()
        self._log = module.Logger(module.Logger.WARNING)
        self._runtime = module.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            raise ModelError(
                f"{module.__name__} {module.__version__} cannot load {path}: it logged the reason. "
                "Too little GPU memory, or a GPU that it was not built for: build it on this "
                "machine"
            )
        self._engine, self._context = engine, context
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, torch.dtype] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
            place = self.inputs if is_input else self.outputs
            place[name] = tuple(engine.get_tensor_shape(name))
            self.types[name] = TYPES[str(engine.get_tensor_dtype(name)).rpartition(".")[2]]
        # Engines do not run on the default stream: TensorRT would add synchronisation to it.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every output for these inputs. The caller's stream waits for it, the CPU does not.

        Raises ModelError where an input is not of the engine's shape, type or device.
        """
        self._check(inputs)
        outputs = {
            name: torch.empty(shape, dtype=self.types[name], device=self.device)
            for name, shape in self.outputs.items()
        }
        for name, tensor in {**inputs, **outputs}.items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise ModelError(f"{self.path}: TensorRT does not take the address of {name}")
        stream = self._stream
        if stream is not None:
            caller = torch.cuda.current_stream(self.device)
            stream.wait_stream(caller)
        with self._on_stream():
            handle = 0 if stream is None else stream.cuda_stream
            if not self._context.execute_async_v3(handle):
                raise ModelError(f"{self.path}: TensorRT did not run the engine; it logged why")
        if stream is not None:
            # All tensors were made on the caller's stream, which reuses their memory only behind
            # this point.
            caller.wait_stream(stream)
        return outputs

    def layer_times(self, inputs: Mapping[str, Tensor], repeats: int) -> list[tuple[str, float]]:
        """(layer, ms of one run) in order, means of `repeats` by TensorRT's profiler.

        Raises ModelError as `run` does.
        """
        module = self._module()
        spans: dict[str, list[float]] = {}

        class Profiler(module.IProfiler):  # type: ignore[name-defined]
            """Hears every layer of every run."""

            def __init__(self) -> None:
                module.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                spans.setdefault(layer_name, []).append(ms)

        self.run(inputs)  # the first pays for allocations
        before = self._context.profiler
        self._context.profiler = profiler = Profiler()
        try:
            for _ in range(repeats):
                self.run(inputs)
        finally:
            self._context.profiler = before
            del profiler
        return [(layer, sum(times) / len(times)) for layer, times in spans.items()]

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        if set(inputs) != set(self.inputs):
            raise ModelError(
                f"{self.path} takes {', '.join(self.inputs)}; given were {', '.join(inputs)}"
            )
        for name, tensor in inputs.items():
            wanted = (self.inputs[name], self.types[name], self.device.type)
            given = (tuple(tensor.shape), tensor.dtype, tensor.device.type)
            if given != wanted or not tensor.is_contiguous():
                raise ModelError(
                    f"{self.path}: {name} is {given}, wanted {wanted}, in one piece of memory"
                )

    def _module(self) -> Any:
        built = self.sidecar["tensorrt"]
        module = find_module(built["module"])
        if module.__version__ != built["version"]:
            raise ModelError(
                f"{self.path} was built by {built['module']} {built['version']}, installed is "
                f"{module.__version__}: engines do not carry over, build it again"
            )
        return module

    def _check_gpu(self) -> None:
        if self.device.type != "cuda":
            return
        major, minor = torch.cuda.get_device_capability(self.device)
        own = f"sm{major}{minor}"
        built_for = str(self.sidecar["gpu"]).split()[0]
        if built_for != own:
            raise ModelError(
                f"{self.path} was built for {built_for} and this GPU is {own}: build it again with "
                f"--target {own}, or on this machine without --target"
            )
