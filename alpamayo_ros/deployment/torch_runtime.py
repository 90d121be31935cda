"""A student in PyTorch: the reference that every other runtime is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.runtimes import Arrays, check_files, check_inputs, contiguous
from alpamayo_ros.deployment.spec import StudentSpec
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.student.config import student_config


def load_student(manifest: Manifest, options: StudentOptions) -> tuple[nn.Module, StudentSpec]:
    """The module with its weights, and what it is. Raises ModelError: files, sizes, packages."""
    check_files(manifest, options)
    assert options.weights is not None
    try:
        from safetensors import safe_open
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(
            "a student in PyTorch needs safetensors: pip install 'alpamayo_ros[train]'"
        ) from error
    from alpamayo_ros.student.model import Student

    config = student_config(options.architecture, f"{manifest.path}: option architecture")
    student = Student(config)
    try:
        with safe_open(options.weights, framework="pt") as file:
            licence = (file.metadata() or {}).get("licence", manifest.licence)
        student.load_state_dict(load_file(options.weights))
    except Exception as error:  # safetensors' own errors share no base with torch's
        raise ModelError(
            f"{options.weights} is not of the architecture in {manifest.path}: {error}"
        ) from error
    check_manifest_licence(licence, manifest)
    spec = StudentSpec(manifest.name, manifest.licence, file_sha256(options.weights), config)
    return student.eval().requires_grad_(False), spec


def check_manifest_licence(licence: str, manifest: Manifest) -> None:
    """Raises ModelError where the manifest names another licence than the weights bear."""
    if licence != manifest.licence:
        raise ModelError(
            f"{manifest.path} says licence {manifest.licence!r}, its weights bear {licence!r}: use "
            "the manifest that training wrote"
        )


class TorchRuntime:
    """Both halves on one device, in fp32."""

    def __init__(self, manifest: Manifest, options: StudentOptions) -> None:
        """Raises ModelError where weights or device cannot be had."""
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(
                f"option device is {options.device} and PyTorch {torch.__version__} sees no GPU: "
                "set device=cpu, or install a CUDA build of torch and NVIDIA's driver"
            )
        try:
            self._device = torch.device(options.device)
        except RuntimeError as error:
            raise ModelError(f"option device is {options.device!r}: {error}") from error
        if options.threads:
            torch.set_num_threads(options.threads)
        student, self.spec = load_student(manifest, options)
        self._student: Any = student.to(self._device)

    def run(self, graph: str, inputs: Arrays) -> NDArray[np.float32]:
        """Raises ModelError on other inputs than the graph's."""
        check_inputs(self.spec, graph, inputs)
        tensors = [
            torch.from_numpy(array).to(self._device) for array in contiguous(inputs).values()
        ]
        half = self._student.encode if graph == "encoder" else self._student.policy
        with torch.inference_mode():
            result: NDArray[np.float32] = half(*tensors).cpu().numpy()
        return result

    def layer_times(self, graph: str, inputs: Arrays, repeats: int) -> list[tuple[str, str, float]]:
        """By torch's profiler, an entry for each kind of operator."""
        from torch.profiler import ProfilerActivity, profile

        self.run(graph, inputs)
        on_gpu = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities) as profiler:
            for _ in range(repeats):
                self.run(graph, inputs)
        spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        return [
            (event.key, "operator", getattr(event, spent) / 1e3 / repeats)
            for event in profiler.key_averages()
            if getattr(event, spent) > 0
        ]

    def describe(self) -> str:
        """Version, device and threads."""
        if self._device.type == "cuda":
            return f"PyTorch {torch.__version__} on {torch.cuda.get_device_name(self._device)}"
        return f"PyTorch {torch.__version__}, cpu, {torch.get_num_threads()} threads"

    def close(self) -> None:
        """Give the weights' memory back."""
        self._student = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
