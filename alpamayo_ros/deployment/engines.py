"""TensorRT engines of a student's graphs, kept under a name that holds all they depend on."""

from __future__ import annotations

from pathlib import Path

from alpamayo_ros.deployment.spec import GRAPHS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.runtime.tensorrt_build import (
    BuildRequest,
    Built,
    build,
    engine_key,
    find_module,
    local_gpu,
    onnx_digest,
)

KEY_LENGTH = 16  # hex digits of the key in a file name; the sidecar has all of it


def engine_path(
    onnx: Path, folder: Path, precision: str, target: str | None, module: str | None
) -> Path:
    """Where the engine of model, precision, GPU and TensorRT version belongs. Raises ModelError
    where there is no TensorRT, or no GPU and no target."""
    library = find_module(module)
    key = engine_key(onnx_digest(onnx), precision, target or local_gpu(), library)
    return folder / f"{onnx.stem}.{key[:KEY_LENGTH]}.engine"


def build_engines(
    folder: Path,
    graphs: dict[str, Path],
    precision: str,
    target: str | None = None,
    module: str | None = None,
) -> dict[str, Built]:
    """An engine for each of GRAPHS in `folder`, built unless it is there. Raises ModelError."""
    built = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"cannot make the folder for engines {folder}: {error.strerror}; name another one "
            "with option engines"
        ) from error
    for graph in GRAPHS:
        onnx = graphs[graph]
        path = engine_path(onnx, folder, precision, target, module)
        built[graph] = build(BuildRequest(onnx, path, precision, target, module))
    return built
