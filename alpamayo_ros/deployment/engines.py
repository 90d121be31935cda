"""TensorRT engines of a student's graphs, kept under a name that holds all they depend on."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from alpamayo_ros.deployment.spec import GRAPHS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.runtime.tensorrt_build import (
    BuildRequest,
    Built,
    build,
    engine_key,
    file_digest,
    find_module,
    local_gpu,
    onnx_digest,
    read_sidecar,
    sidecar_path,
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
        built[graph] = _whole(BuildRequest(onnx, path, precision, target, module))
    return built


def _whole(request: BuildRequest) -> Built:
    """The engine that is there with its sidecar, or a new one; both are put there by renaming, so
    that an end in the middle of either leaves nothing that the next configure trips over."""
    if _is_whole(request.engine):
        return build(request)
    folder = request.engine.parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".engine.") as drafts:
        draft = Path(drafts) / request.engine.name
        built = build(replace(request, engine=draft))
        os.replace(draft, request.engine)
        # An engine without its sidecar, or with an older one's, is built again.
        os.replace(sidecar_path(draft), sidecar_path(request.engine))
    return replace(built, engine=request.engine)


def _is_whole(engine: Path) -> bool:
    """Whether an engine and a readable sidecar of it are there."""
    try:
        return read_sidecar(engine).get("engine_sha256") == file_digest(engine)
    except (ModelError, OSError):
        return False
