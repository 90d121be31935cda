"""Optional libraries and what is lost without them; the GPU, its driver, TensorRT."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from alpamayo_ros.doctor.findings import Finding, error, note, ok, warning

PYTHONS = ((3, 10), (3, 13))
# extra of setup.cfg -> its modules, and what needs them
FEATURES = {
    "vla": (("torch", "transformers", "safetensors", "tokenizers"), "Alpamayo R1 and 1.5"),
    "tensorrt": (("onnx", "onnxruntime", "onnxscript"), "the expert on ONNX Runtime or TensorRT"),
    "evaluate": (("pyarrow",), "`alpamayo evaluate`"),
    "convert": (("av", "pyarrow"), "`alpamayo convert`"),
    "lidar": (("DracoPy", "pyarrow"), "lidar of `alpamayo convert`"),
    "viz": (("av",), "videos"),
    "ray": (("ray",), "`alpamayo evaluate --ray`"),
    "student": (("onnxruntime",), "students on ONNX Runtime"),
    "train": (("torch", "torchvision", "timm", "safetensors"), "training of students"),
    "quant": (("torchao", "bitsandbytes", "optimum.quanto"), "quantised weights"),
}
REQUIRED = ("numpy", "cv2", "yaml")
OFF_VEHICLE = {"rosbags": "recordings", "panda3d": "rendered worlds"}
TENSORRT = ("tensorrt", "tensorrt_rtx")
PROC_DRIVER = Path("/proc/driver/nvidia/version")


def has(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def installed() -> Iterable[Finding]:
    """Python and libraries."""
    version = sys.version_info[:2]
    shown = ".".join(map(str, version))
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        yield warning(
            "python", f"{shown} is not one of those that are tested", "make setup PYTHON=python3.12"
        )
    else:
        yield ok("python", f"{shown} ({sys.executable})")
    for module in REQUIRED:
        if not has(module):
            yield error(
                "libraries", f"{module} is missing: nothing works", "pip install alpamayo_ros"
            )
    for module, feature in OFF_VEHICLE.items():
        if not has(module):
            yield note("libraries", f"without {module}: no {feature}", f"pip install {module}")
    for extra, (modules, feature) in FEATURES.items():
        missing = [module for module in modules if not has(module)]
        if missing:
            yield note(
                "libraries",
                f"without {', '.join(missing)}: no {feature}",
                f"pip install 'alpamayo_ros[{extra}]'",
            )
        else:
            yield ok("libraries", f"{feature}: {', '.join(map(_versioned, modules))}")


def _versioned(module: str) -> str:
    try:
        return f"{module} {importlib.metadata.version(module)}"
    except importlib.metadata.PackageNotFoundError:
        return module


def gpu(is_needed: bool) -> Iterable[Finding]:
    """Driver, device, PyTorch's CUDA and TensorRT; errors only where the model runs on a GPU."""
    missing = error if is_needed else note
    if not PROC_DRIVER.exists():
        yield missing(
            "gpu",
            "no NVIDIA driver is loaded",
            "install one (nvidia-smi tells), start the container with --gpus all, or set "
            "the model's option device=cpu",
        )
    else:
        yield ok("gpu", PROC_DRIVER.read_text().splitlines()[0])
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError as failure:
            yield missing(
                "gpu",
                f"the driver's library does not load: {failure}",
                "install the user-space driver, or start the container with --gpus all",
            )
    if has("torch"):
        import torch

        if torch.cuda.is_available():
            names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
            yield ok("gpu", f"PyTorch {torch.__version__} sees {', '.join(names)}")
        else:
            yield missing(
                "gpu",
                f"PyTorch {torch.__version__} sees no GPU",
                "install a CUDA build of PyTorch that fits the driver",
            )
    runtimes = [_versioned(module) for module in TENSORRT if has(module)]
    if runtimes:
        yield ok("gpu", f"TensorRT: {', '.join(runtimes)}")
    else:
        yield note(
            "gpu",
            "no TensorRT",
            "pip install tensorrt, or tensorrt-rtx-cu13; only expert_runtime=tensorrt needs it",
        )
