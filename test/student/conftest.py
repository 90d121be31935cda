"""Students in PyTorch and their exports, made once for all tests of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

NEEDED = ("torch", "timm", "safetensors", "onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`torch` and `onnxruntime` of one student, `flow` and `flow_torch` of one with a flow head."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make test installs it")
    from student import exported

    folder = tmp_path_factory.mktemp("students")
    torch = exported.write_student(folder / "torch")
    flow = exported.write_student(folder / "flow_torch", "flow", "tiny_flow")
    return {
        "torch": torch,
        "onnxruntime": exported.export_onnx(torch, folder / "onnx"),
        "flow_torch": flow,
        "flow": exported.export_onnx(flow, folder / "flow"),
    }
