"""An exported student in the planner's process, over real DDS, on ONNX Runtime alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from alpamayo_ros.msg import PlannerStatus, ReasoningTrace
from drive import Drive
from harness import START_S, Bench

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

from student import exported

NEEDED = ("torch", "timm", "safetensors", "onnx", "onnxscript", "onnxruntime")
LOAD_S = 60.0
PLAN_S = 40.0


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a tiny exported student."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make test installs it")
    folder = tmp_path_factory.mktemp("student")
    return exported.export_onnx(exported.write_student(folder / "torch"), folder / "onnx")


def test_the_node_plans_with_it(bench: Bench, student: Path) -> None:
    """A path every tick, with licence, stages and reasoning; the process never loads PyTorch."""
    traces: list[ReasoningTrace] = []
    bench.node.create_subscription(
        ReasoningTrace, f"{bench.planner}/reasoning_trace", traces.append, 50
    )
    planner = bench.start_planner(
        model=str(student), model_options=["threads=1"], autostart=True, use_sim_time=True
    )
    bench.wait(lambda: bench.state() == "active", LOAD_S, "active planner")
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(5, PLAN_S)
    bench.wait(lambda: bool(traces), PLAN_S, "a reasoning")
    planned = [s for s in bench.statuses if s.outcome == PlannerStatus.PLANNED][-1]
    assert planned.model_licence == exported.LICENCE
    stages = {stage.stage for stage in planned.stages}
    assert {"encode", "policy", "unicycle", "model"} <= stages
    assert traces[-1].source == ReasoningTrace.SOURCE_TRAJECTORY and traces[-1].text
    maps = Path(f"/proc/{planner.process.pid}/maps")
    if maps.exists():
        loaded = maps.read_text()
        assert "onnxruntime" in loaded and "libtorch" not in loaded


def test_what_cannot_be_had(bench: Bench, student: Path) -> None:
    """Configure fails with the remedy in /diagnostics; the node stays up."""
    planner = bench.start_planner(model=str(student))
    for option, said in (
        ("provider=cuda", "has no CUDAExecutionProvider"),
        ("runtime=tensorrt", "TensorRT"),
        ("encoder=nowhere.onnx", "nowhere.onnx does not exist"),
    ):
        bench.wait_refused_option(option, said, LOAD_S)
    assert planner.alive
    assert "Traceback" not in planner.output
