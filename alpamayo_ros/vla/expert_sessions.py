"""An exported expert opened by ONNX Runtime or TensorRT: its metadata, and how to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.expert_file import EXPORT, ExpertFile

Inputs = Mapping[str, Tensor]
Run = Callable[[Inputs], Tensor]  # every input of the graph to its output (N, 64, 2) fp32
Opened = tuple[Mapping[str, str], Callable[[ExpertFile], Run]]


def open_onnx(path: Path, device: torch.device) -> Opened:
    """An ONNX file on ONNX Runtime's CPU or CUDA provider, whichever the model is on."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ModelError(
            "expert_runtime onnxruntime needs the package: pip install onnxruntime, or "
            "onnxruntime-gpu for a GPU"
        ) from error
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if provider not in ort.get_available_providers():
        raise ModelError(
            f"the model is on {device} and this ONNX Runtime has no {provider}: pip install "
            "onnxruntime-gpu in place of onnxruntime, or set option device=cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    chosen: list[Any] = [
        (provider, {"device_id": device.index or 0} if device.type == "cuda" else {})
    ]
    try:
        session = ort.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:  # ONNX Runtime's own errors share no base
        raise ModelError(
            f"ONNX Runtime cannot load {path} on {device}: {error}. It runs fp32 and fp16: "
            f"{EXPORT} --precision fp32; bf16 is for TensorRT"
        ) from error
    if provider not in session.get_providers():
        raise ModelError(
            f"ONNX Runtime did not start its {provider}, and would compute on the CPU: check that "
            "CUDA and cuDNN are those that this onnxruntime-gpu wants"
        )
    return session.get_modelmeta().custom_metadata_map, lambda file: _onnx_runner(
        session, file, device
    )


def _onnx_runner(session: Any, file: ExpertFile, device: torch.device) -> Run:
    import numpy as np

    numpy_types = {torch.float32: np.float32, torch.float16: np.float16}
    if file.dtype not in numpy_types:
        raise ModelError(
            f"ONNX Runtime is given fp32 or fp16 here and the file is {file.precision}: {EXPORT} "
            "--precision fp32"
        )
    shape = file.shape.inputs()["x"]
    where = (device.type, device.index or 0)

    def run(inputs: Inputs) -> Tensor:
        # Bound by pointer: the bucket is not copied in any step.
        output = torch.empty(shape, dtype=torch.float32, device=device)
        binding = session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(
                name, *where, numpy_types[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()
            )
        binding.bind_output(file.shape.output, *where, np.float32, shape, output.data_ptr())
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # ONNX Runtime has a stream of its own
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return output

    return run


def open_tensorrt(path: Path, device: torch.device) -> Opened:
    """The engine on torch's CUDA tensors. Complete, and not executed where it was written: that
    machine had no GPU (see runtime/tensorrt_engine.py)."""
    from alpamayo_ros.runtime.tensorrt_engine import Engine

    if device.type != "cuda":
        raise ModelError(
            f"expert_runtime tensorrt needs the model on a GPU, it is on {device}: set option "
            "device=cuda, or expert_runtime=onnxruntime with an ONNX file"
        )
    engine = Engine(path, device)
    metadata = engine.sidecar.get("metadata", {})

    def runner(file: ExpertFile) -> Run:
        if engine.inputs != file.shape.inputs():
            raise ModelError(
                f"{path} takes {engine.inputs}, its sidecar says {file.shape.inputs()}: build it "
                "again"
            )
        return lambda inputs: engine.run(inputs)[file.shape.output]

    return metadata, runner
