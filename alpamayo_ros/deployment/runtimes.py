"""What computes a student: PyTorch, ONNX Runtime or TensorRT, behind two calls on numpy arrays.

What was asked for runs, or an error says why not and what to do: nothing falls back.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.spec import EXPORT, StudentSpec, check_manifest, check_precision
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.student.config import student_config

Arrays = Mapping[str, NDArray[Any]]


class StudentRuntime(Protocol):
    """One loaded student; not to be called from two threads at once."""

    spec: StudentSpec

    def run(self, graph: str, inputs: Arrays) -> NDArray[np.float32]:
        """ "encoder" or "policy" on `spec.inputs(graph)`; its only output."""
        ...

    def layer_times(self, graph: str, inputs: Arrays, repeats: int) -> list[tuple[str, str, float]]:
        """(layer, kind, ms of one run) in order. Raises ModelError where it cannot be measured."""
        ...

    def describe(self) -> str:
        """What runs where, e.g. "ONNX Runtime 1.31.1, CPUExecutionProvider"."""
        ...

    def close(self) -> None:
        """Give back memory and devices."""
        ...


def open_runtime(manifest: Manifest, options: StudentOptions) -> StudentRuntime:
    """The runtime that the options ask for, its files checked. Raises ModelError."""
    check_files(manifest, options)
    runtime: StudentRuntime
    if options.runtime == "torch":
        from alpamayo_ros.deployment.torch_runtime import TorchRuntime

        runtime = TorchRuntime(manifest, options)
    elif options.runtime == "onnxruntime":
        from alpamayo_ros.deployment.onnx_runtime import OnnxRuntime

        runtime = OnnxRuntime(options)
    else:
        from alpamayo_ros.deployment.tensorrt_runtime import TensorrtRuntime

        runtime = TensorrtRuntime(options)
    check_manifest(runtime.spec, manifest.name, manifest.licence, str(manifest.path))
    check_precision(runtime.spec, options.precision, str(manifest.path))
    if options.architecture:
        where = f"{manifest.path}: option architecture"
        if student_config(options.architecture, where) != runtime.spec.config:
            raise ModelError(
                f"{where} is not the one that the graphs were exported with: {EXPORT} again rather "
                "than edit the manifest"
            )
    return runtime


def check_files(manifest: Manifest, options: StudentOptions) -> None:
    """Every file that will be read is there and is the one that the manifest was written for.

    Raises ModelError with its path and the remedy.
    """
    for option, path in options.files().items():
        if not path.is_file():
            raise ModelError(
                f"{manifest.path}: {option} {path} does not exist: copy the whole folder that "
                f"{EXPORT} wrote, or export again"
            )
        stated = options.sha256.get(path.name)
        if not isinstance(stated, str):
            raise ModelError(
                f"{manifest.path}: option sha256 lacks {path.name}: use the manifest that {EXPORT} "
                "wrote"
            )
        found = file_sha256(path)
        if not hmac.compare_digest(found, stated):
            raise ModelError(
                f"{path} is not the file of {manifest.path}: its sha256 is {found[:12]}…, the "
                f"manifest says {stated[:12]}…: copy the whole folder again, or export again"
            )


def check_inputs(spec: StudentSpec, graph: str, inputs: Arrays) -> None:
    """Raises ModelError where names or shapes are not the graph's."""
    wanted = spec.inputs(graph)
    given = {name: tuple(array.shape) for name, array in inputs.items()}
    if given != wanted:
        raise ModelError(f"the {graph} of {spec.model} takes {wanted}, given were {given}")


def contiguous(inputs: Arrays) -> dict[str, NDArray[Any]]:
    """In one piece and of the graph's types."""
    return {
        name: np.ascontiguousarray(array, np.int64 if name == "command" else np.float32)
        for name, array in inputs.items()
    }


def cache_folder() -> Path:
    """Where engines are kept that no folder was named for."""
    import os

    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "alpamayo_ros" / "engines"
