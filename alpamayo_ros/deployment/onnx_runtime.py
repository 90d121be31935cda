"""A student on ONNX Runtime: CPU, CUDA or TensorRT execution provider.

Executed on the CPU provider only where this was written. The GPU providers are told to refuse what
they would leave to the CPU.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.runtimes import Arrays, cache_folder, check_inputs, contiguous
from alpamayo_ros.deployment.spec import (
    EXPORT,
    GRAPHS,
    StudentSpec,
    check_same,
    parse_metadata,
)
from alpamayo_ros.errors import ModelError

NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
REMEDY = {
    "cpu": "pip install onnxruntime",
    "cuda": "pip install onnxruntime-gpu in place of onnxruntime, or set option provider=cpu",
    "tensorrt": "pip install onnxruntime-gpu in place of onnxruntime, with TensorRT's libraries on "
    "LD_LIBRARY_PATH, or set option provider=cuda or cpu",
}


class OnnxRuntime:
    """Encoder and policy as two sessions."""

    def __init__(self, options: StudentOptions) -> None:
        """Raises ModelError where a file is none of ours or the provider cannot be had."""
        assert options.encoder is not None and options.policy is not None
        self._ort = _library(options.provider)
        self._options = options
        self._paths = {"encoder": options.encoder, "policy": options.policy}
        self._sessions: dict[str, Any] = {}
        specs: dict[str, StudentSpec] = {}
        for graph in GRAPHS:
            path = self._paths[graph]
            session = self._session(path)
            metadata = session.get_modelmeta().custom_metadata_map
            specs[graph] = parse_metadata(metadata, graph, str(path))
            self._check_shapes(session, graph, specs[graph])
            self._sessions[graph] = session
        check_same(specs["encoder"], specs["policy"], str(options.encoder.parent))
        self.spec = specs["encoder"]

    def run(self, graph: str, inputs: Arrays) -> NDArray[np.float32]:
        """Raises ModelError on other inputs than the graph's."""
        check_inputs(self.spec, graph, inputs)
        (output,) = self._sessions[graph].run(None, contiguous(inputs))
        result: NDArray[np.float32] = output
        return result

    def layer_times(self, graph: str, inputs: Arrays, repeats: int) -> list[tuple[str, str, float]]:
        """By ONNX Runtime's own profiler, in a session of its own; the first run is left out."""
        check_inputs(self.spec, graph, inputs)
        with tempfile.TemporaryDirectory() as folder:
            session = self._session(self._paths[graph], Path(folder) / "profile")
            for _ in range(repeats + 1):
                session.run(None, contiguous(inputs))
            events = json.loads(Path(session.end_profiling()).read_text())
        spans: dict[str, list[float]] = {}
        kinds: dict[str, str] = {}
        for event in events:
            name = str(event.get("name", ""))
            if event.get("cat") == "Node" and name.endswith("_kernel_time"):
                layer = name.removesuffix("_kernel_time")
                spans.setdefault(layer, []).append(event["dur"] / 1e3)
                kinds[layer] = event["args"]["op_name"]
        return [
            (layer, kinds[layer], float(np.mean(times[1:] or times)))
            for layer, times in spans.items()
        ]

    def describe(self) -> str:
        """Version, provider and threads."""
        threads = self._options.threads or available_threads()
        return f"ONNX Runtime {self._ort.__version__}, {NAMES[self._options.provider]}" + (
            f", {threads} threads" if self._options.provider == "cpu" else ""
        )

    def close(self) -> None:
        """End both sessions."""
        self._sessions.clear()

    def _session(self, path: Path, profile: Path | None = None) -> Any:
        options, ort = self._options, self._ort
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = options.threads or available_threads()
        # Threads that wait in busy loops take the cores of cameras and of the graph beside.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if profile is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(profile)
        if options.provider != "cpu":
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = NAMES[options.provider]
        try:
            session = ort.InferenceSession(str(path), settings, providers=self._providers())
        except Exception as error:  # ONNX Runtime's own errors share no base
            raise ModelError(
                f"ONNX Runtime cannot load {path} on {provider}: {error}. Export it again "
                f"({EXPORT} --to onnx), or set another option provider"
            ) from error
        if session.get_providers()[0] != provider:
            raise ModelError(
                f"ONNX Runtime did not start its {provider}, and would compute elsewhere: check "
                "that CUDA, cuDNN and TensorRT are those that this onnxruntime-gpu wants"
            )
        return session

    def _providers(self) -> list[Any]:
        provider = NAMES[self._options.provider]
        if self._options.provider != "tensorrt":
            return [provider]
        folder = self._options.engines or cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        # The provider keys its cache by model, GPU and version itself.
        precision = self._options.precision
        settings = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_fp16_enable": precision == "fp16",
            "trt_int8_enable": precision == "int8",
        }
        return [(provider, settings), NAMES["cuda"]]

    @staticmethod
    def _check_shapes(session: Any, graph: str, spec: StudentSpec) -> None:
        found = {entry.name: tuple(entry.shape) for entry in session.get_inputs()}
        outputs = {entry.name: tuple(entry.shape) for entry in session.get_outputs()}
        if found != spec.inputs(graph) or outputs != dict([spec.output(graph)]):
            raise ModelError(
                f"the {graph} takes {found} and gives {outputs}, its metadata says "
                f"{spec.inputs(graph)} and {spec.output(graph)}: export it again with {EXPORT}"
            )


def available_threads() -> int:
    """OMP_NUM_THREADS where it is set, as for PyTorch, else the cores that this process may use.

    ONNX Runtime's own default is every core of the machine, also where a process has one of them.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(int(wanted), 1) if wanted.isdecimal() else len(os.sched_getaffinity(0))


def _library(provider: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"runtime onnxruntime is not installed: {REMEDY[provider]}") from error
    if NAMES[provider] not in onnxruntime.get_available_providers():
        raise ModelError(
            f"this ONNX Runtime {onnxruntime.__version__} has no {NAMES[provider]}: "
            f"{REMEDY[provider]}"
        )
    return onnxruntime
