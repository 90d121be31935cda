"""ONNX files to TensorRT engines, in a process of their own, with a sidecar that describes them.

One code path for TensorRT (JetPack, DriveOS, data centre) and TensorRT for RTX, whose Python API is
the same. A builder can crash the process it runs in, and keeps gigabytes: hence the subprocess.
Types are those of the ONNX file (strongly typed networks), shapes are static.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError

MODULES = ("tensorrt", "tensorrt_rtx")
SIDECAR = ".json"  # behind the engine's whole name
FORMAT = 1
LISTED = 8  # faults in an error message; the rest are counted
REMEDY = (
    "TensorRT comes with JetPack and DriveOS, or from NVIDIA's package index (pip install tensorrt "
    "--extra-index-url https://pypi.nvidia.com); TensorRT for RTX comes from PyPI (pip install "
    "tensorrt-rtx-cu13) and builds without a GPU, but runs only with one"
)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build of what."""

    onnx: Path
    engine: Path
    precision: str  # of the ONNX file; it is part of the cache's key and no setting of the builder
    # Compute capability as "sm89"; None: the GPU of this machine. TensorRT for RTX only.
    target: str | None = None
    module: str | None = None  # of MODULES; None: the first that is installed


@dataclass(frozen=True, slots=True)
class Built:
    """An engine on disk."""

    engine: Path
    sidecar: Mapping[str, Any]
    reused: bool  # whether it was there already, with the same key


def find_module(name: str | None = None) -> Any:
    """TensorRT's Python module. Raises ModelError that says where to get it."""
    if name is not None and name not in MODULES:
        raise ModelError(f"TensorRT module {name!r} is none of {', '.join(MODULES)}")
    failed = []
    for candidate in (name,) if name else MODULES:
        if importlib.util.find_spec(candidate) is not None:
            try:
                return importlib.import_module(candidate)
            except (ImportError, OSError, RuntimeError) as error:
                failed.append(f"{candidate} does not load: {error}")
    found = "; ".join(failed) or f"{name or ' or '.join(MODULES)} is not installed"
    raise ModelError(f"{found}. {REMEDY}")


def build(request: BuildRequest) -> Built:
    """Build an engine and its sidecar, or take those that are there of the same model, precision,
    GPU and TensorRT. Raises ModelError with every fault that the parser names."""
    module = find_module(request.module)
    if not request.onnx.exists():
        raise ModelError(f"ONNX file {request.onnx} does not exist")
    if request.target is not None and module.__name__ == "tensorrt":
        raise ModelError(
            "a target other than this machine's GPU needs TensorRT for RTX (pip install "
            "tensorrt-rtx-cu13, --tensorrt tensorrt_rtx); TensorRT builds for the GPU it runs on"
        )
    onnx_sha256 = onnx_digest(request.onnx)
    gpu = request.target or local_gpu()
    key = engine_key(onnx_sha256, request.precision, gpu, module)
    reused = _reusable(request.engine, key)
    if reused is not None:
        return Built(request.engine, reused, True)
    request.engine.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.engine.parent, prefix=".engine.") as folder:
        draft = Path(folder) / "draft.engine"
        built = _in_subprocess(request, module.__name__, draft)
        sidecar = {
            "format": FORMAT,
            "what": f"TensorRT engine of {request.onnx.name}",
            "key": key,
            "onnx": {"name": request.onnx.name, "sha256": onnx_sha256},
            "precision": request.precision,
            "gpu": gpu,
            "tensorrt": {"module": module.__name__, "version": module.__version__},
            "engine_sha256": file_sha256(draft),
            "bytes": draft.stat().st_size,
            **built,
        }
        said = sidecar_path(draft)
        said.write_text(json.dumps(sidecar, indent=1, sort_keys=True) + "\n")
        os.replace(draft, request.engine)
        os.replace(said, sidecar_path(request.engine))
    return Built(request.engine, sidecar, False)


def engine_key(onnx_sha256: str, precision: str, gpu: str, module: Any) -> str:
    """What an engine depends on, as one hash."""
    parts = [onnx_sha256, precision, gpu, module.__name__, module.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sidecar_path(engine: Path) -> Path:
    """Where an engine's sidecar lies."""
    return engine.with_name(engine.name + SIDECAR)


def read_sidecar(engine: Path) -> dict[str, Any]:
    """What is said of an engine. Raises ModelError where it is missing or damaged."""
    path = sidecar_path(engine)
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(
            f"{engine} has no {path.name} beside it, which says what it is: build it again, or "
            "copy both files"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; build the engine again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} is no sidecar of format {FORMAT}: build the engine again")
    return content


def local_gpu() -> str:
    """The GPU of this machine as "sm87 Orin". Raises ModelError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise ModelError(
            "there is no GPU here to build an engine for. Build it on the vehicle, or name a "
            "target (--target sm89), which TensorRT for RTX can build for without one"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor} {torch.cuda.get_device_name()}"


def onnx_digest(path: Path) -> str:
    """sha256 of an ONNX file and of `path`.data, where its weights are if they are large."""
    data = path.with_name(path.name + ".data")
    own = file_sha256(path)
    return hashlib.sha256((own + file_sha256(data)).encode()).hexdigest() if data.exists() else own


def _reusable(engine: Path, key: str) -> dict[str, Any] | None:
    if not engine.exists() or not sidecar_path(engine).exists():
        return None
    try:
        sidecar = read_sidecar(engine)
    except ModelError:  # cut short: the engine is built again
        return None
    same = sidecar.get("key") == key and sidecar.get("engine_sha256") == file_sha256(engine)
    return sidecar if same else None


def _in_subprocess(request: BuildRequest, module: str, draft: Path) -> dict[str, Any]:
    """Run `alpamayo_ros.runtime.tensorrt_builder` and read its answer."""
    answer = draft.with_name("answer.json")
    order = {k: str(v) for k, v in asdict(request).items() if v is not None}
    order |= {"module": module, "engine": str(draft), "answer": str(answer)}
    # The package's own folder: the subprocess may start elsewhere on the path than we did.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    ran = subprocess.run(
        [sys.executable, "-m", "alpamayo_ros.runtime.tensorrt_builder", json.dumps(order)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if not answer.exists():
        tail = " | ".join(ran.stderr.strip().splitlines()[-LISTED:])
        raise ModelError(
            f"{module}'s builder {_how_it_ended(ran.returncode)} on {request.onnx}: {tail}"
        )
    result = json.loads(answer.read_text())
    if result["faults"]:
        faults = result["faults"]
        more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise ModelError(
            f"{module} does not build {request.onnx}: {'; '.join(faults[:LISTED])}{more}"
        )
    built: dict[str, Any] = result["built"]
    return built


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code} and no answer"
    return f"was ended by {signal.Signals(-code).name}"
