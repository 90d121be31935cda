"""Students in PyTorch and their exports, made once for all tests of them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpamayo_ros.deployment.spec import StudentSpec

NEEDED = ("torch", "timm", "safetensors", "onnx", "onnxscript", "onnxruntime")


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """PyTorch's number of threads is the process's: what one test sets, the next must not have."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


@pytest.fixture
def graphs_kept(manifests: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's exporter takes seconds a graph: what it wrote once for a student is taken again.

    The comparison with PyTorch is made each time.
    """
    from alpamayo_ros.deployment import graphs

    def write(student: object, spec: StudentSpec, graph: str, path: Path) -> None:
        kept = "flow" if spec.config.head == "flow" else "onnxruntime"
        shutil.copy(manifests[kept].parent / f"{graph}.onnx", path)

    monkeypatch.setattr(graphs, "_write", write)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives' labels with all that a teacher may tell."""
    from student import small

    folder = tmp_path_factory.mktemp("labels") / "labels"
    small.write_labels(folder, extras=True)
    return folder


@pytest.fixture(scope="session")
def calibration_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered drive of 4 s with small pictures."""
    from alpamayo_ros.world.record import RecordOptions, record

    path = tmp_path_factory.mktemp("bags") / "drive"
    record(path, RecordOptions(seconds=4.0, seed=5, width_px=144, height_px=80))
    return path
