"""The expert as a TensorRT engine: built without a GPU, and fed on a stand-in for TensorRT.

No engine is run here: that needs a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alpamayo_ros.commands import vla as vla_command
from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.runtime import tensorrt_build, tensorrt_engine
from alpamayo_ros.runtime.tensorrt_build import BuildRequest, build, sidecar_path
from alpamayo_ros.vla.expert import velocity
from alpamayo_ros.vla.expert_check import ATOL_VELOCITY, random_context
from alpamayo_ros.vla.expert_export import Exported, export_expert, load_expert
from alpamayo_ros.vla.expert_file import ExpertIdentity, parse_metadata
from alpamayo_ros.vla.expert_graph import graph_shape
from alpamayo_ros.vla.expert_runtimes import GraphExpert, open_expert
from alpamayo_ros.vla.initialise import write_checkpoint
from alpamayo_ros.vla.model import AlpamayoModel

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="no TensorRT for RTX: pip install tensorrt-rtx-cu13",
)
SAMPLES = 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Alpamayo 1.5 on disk."""
    return write_checkpoint(tmp_path_factory.mktemp("engine") / "checkpoint", "tiny", "1.5")


def loaded(manifest: Path) -> tuple[AlpamayoModel, ExpertIdentity]:
    """Its expert alone."""
    folder = manifest.parent
    return load_expert(folder, folder / "backbone", "float32", "fp32", "tiny", "none")


@pytest.fixture(scope="module")
def exported(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One velocity a call, fp32, for two samples."""
    model, identity = loaded(manifest)
    out = tmp_path_factory.mktemp("files") / "expert.onnx"
    return export_expert(model, identity, graph_shape(model, SAMPLES, 64), out)


def command(*words: str) -> int:
    """`alpamayo vla …`"""
    parser = argparse.ArgumentParser()
    vla_command.add_arguments(parser)
    return vla_command.run(parser.parse_args(words))


@needs_rtx
def test_tensorrt_takes_every_node(manifest: Path, tmp_path: Path) -> None:
    """The command to an engine for SM89, built without a GPU; a second time it is kept."""
    out = tmp_path / "expert.onnx"
    words = ["export-expert", "--model", str(manifest), "--out", str(out), "--prefix", "128",
             "--precision", "bf16", "--to", "tensorrt", "--tensorrt", "tensorrt_rtx",
             "--target", "sm89", "--json", str(tmp_path / "result.json")]  # fmt: skip
    assert command(*words) == 0
    engine = tmp_path / "expert.engine"
    assert json.loads((tmp_path / "result.json").read_text())["engine"] == str(engine)
    sidecar = tensorrt_build.read_sidecar(engine)
    assert sidecar["bytes"] == engine.stat().st_size > 100_000
    assert sidecar["onnx_nodes"] > 200 and sidecar["onnx_nodes_without_layer"] == []
    assert sidecar["gpu"] == "sm89" and sidecar["tensorrt"]["module"] == "tensorrt_rtx"
    file = parse_metadata(sidecar["metadata"], "it")
    assert {k: tuple(v["shape"]) for k, v in sidecar["tensors"].items()} == {
        **file.shape.inputs(), "velocity": (1, 64, 2)
    }  # fmt: skip
    request = BuildRequest(out, engine, "bf16", "sm89", "tensorrt_rtx")
    assert build(request).reused
    assert not build(replace(request, target="sm86")).reused
    with pytest.raises(ModelError, match="builds for .*sm89.*not for sm87"):
        build(replace(request, target="sm87"))


@needs_rtx
def test_what_tensorrt_refuses_is_named(tmp_path: Path) -> None:
    """The node, its operator and the reason; no engine is left."""
    import onnx
    from onnx import helper

    value = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in "xy"]
    node = helper.make_node("Nonsense", ["x"], ["y"], "the_odd_one", domain="nobody")
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "bad.onnx")
    request = BuildRequest(tmp_path / "bad.onnx", tmp_path / "bad.engine", "fp32", "sm89",
                           "tensorrt_rtx")  # fmt: skip
    with pytest.raises(ModelError, match="the_odd_one.*Nonsense"):
        build(request)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.onnx"]


def test_missing_tensorrt_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """JetPack, NVIDIA's index, or PyPI."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="not installed.*JetPack.*nvidia.com.*tensorrt-rtx-cu13"):
        tensorrt_build.find_module()


def test_arguments_are_checked(manifest: Path, tmp_path: Path) -> None:
    """Before anything is read."""
    model = ["export-expert", "--model", str(manifest), "--out"]
    with pytest.raises(UserError, match="ends in .onnx"):
        command(*model, str(tmp_path / "expert"))
    with pytest.raises(UserError, match="takes 1 to 7 cameras, --cameras is 9"):
        command(*model, str(tmp_path / "e.onnx"), "--cameras", "9")


# ---- an engine, on a stand-in for TensorRT -------------------------------------------------------


class StandIn:
    """TensorRT's runtime API over ONNX Runtime: reads and writes the addresses that it is given.

    It shows that names, shapes, types and pointers are right. It shows nothing of CUDA.
    """

    __name__, __version__ = "tensorrt", "0"
    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)

    def __init__(self, exported: Exported) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(exported.path))
        shape = exported.file.shape
        self._shapes = {**shape.inputs(), shape.output: shape.inputs()["x"]}
        self._output, self.addresses = shape.output, {}
        self.num_io_tensors = len(self._shapes)

    def Logger(self, severity: object) -> object:  # noqa: N802
        return object()

    Logger.WARNING = 1  # type: ignore[attr-defined]

    def Runtime(self, log: object) -> StandIn:  # noqa: N802
        return self

    def deserialize_cuda_engine(self, content: bytes) -> StandIn:
        return self

    def create_execution_context(self) -> StandIn:
        return self

    def get_tensor_name(self, index: int) -> str:
        return list(self._shapes)[index]

    def get_tensor_mode(self, name: str) -> int:
        return int(name == self._output)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "DataType.FLOAT"

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        arrays = {}
        for name, shape in self._shapes.items():
            kind = ctypes.c_float * int(np.prod(shape))
            array = np.frombuffer(kind.from_address(self.addresses[name]), np.float32)
            arrays[name] = array.reshape(shape)
        out = arrays.pop(self._output)
        out[...] = self._session.run(None, arrays)[0]
        return True


@pytest.fixture
def engine(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tensorrt_engine.Engine:
    """An engine file of nothing, its sidecar, and a stand-in that knows what to compute."""
    path = tmp_path / "expert.engine"
    path.write_bytes(b"engine")
    sidecar = {
        "format": tensorrt_build.FORMAT,
        "engine_sha256": tensorrt_build.file_sha256(path),
        "gpu": "sm89",
        "tensorrt": {"module": "tensorrt", "version": "0"},
        "metadata": exported.file.metadata(),
    }
    sidecar_path(path).write_text(json.dumps(sidecar))
    stand_in = StandIn(exported)
    monkeypatch.setattr(tensorrt_engine, "find_module", lambda name: stand_in)
    return tensorrt_engine.Engine(path, torch.device("cpu"))


def test_an_engine_is_fed_by_pointer(
    engine: tensorrt_engine.Engine, exported: Exported, manifest: Path
) -> None:
    """Velocities through the addresses are PyTorch's; t comes expanded from one number."""
    model, _ = loaded(manifest)
    run = lambda inputs: engine.run(inputs)["velocity"]  # noqa: E731
    expert = GraphExpert(model, exported.file, run)
    context = random_context(model, exported.file.shape, 50)
    x, t = torch.randn(SAMPLES, 64, 2), torch.tensor(0.4).expand(SAMPLES)
    with torch.inference_mode():
        wanted = velocity(model, context, x, t)
        ours = expert.prepare(context)(x, t)
    torch.testing.assert_close(ours, wanted, atol=ATOL_VELOCITY, rtol=0)
    with pytest.raises(ModelError, match="x is .*wanted"):
        engine.run({name: torch.zeros(1) for name in exported.file.shape.inputs()})


def test_another_gpu_than_the_first(engine: tensorrt_engine.Engine) -> None:
    """Refused: it would run on the first one, over the other's addresses."""
    with pytest.raises(ModelError, match="CUDA_VISIBLE_DEVICES=1"):
        tensorrt_engine.Engine(engine.path, torch.device("cuda", 1))


def test_engines_that_do_not_fit_are_named(engine: tensorrt_engine.Engine) -> None:
    """Changed, of another TensorRT, without its sidecar, and without a GPU."""
    cpu, path = torch.device("cpu"), engine.path
    with pytest.raises(ModelError, match="needs the model on a GPU.*device=cuda"):
        fake = SimpleNamespace(device=cpu)
        open_expert("tensorrt", path, fake, SimpleNamespace())  # type: ignore[arg-type]
    sidecar = json.loads(sidecar_path(path).read_text())
    sidecar["tensorrt"]["version"] = "9"
    sidecar_path(path).write_text(json.dumps(sidecar))
    with pytest.raises(ModelError, match="built by tensorrt 9, installed is 0"):
        tensorrt_engine.Engine(path, cpu)
    path.write_bytes(b"another")
    with pytest.raises(ModelError, match="is not the engine that expert.engine.json describes"):
        tensorrt_engine.Engine(path, cpu)
    sidecar_path(path).unlink()
    with pytest.raises(ModelError, match="has no expert.engine.json beside it"):
        tensorrt_engine.Engine(path, cpu)


def test_a_crashing_builder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies in its own process; the signal and its last words are named."""
    monkeypatch.setattr(tensorrt_build, "find_module", lambda name=None: StandIn)
    died = SimpleNamespace(returncode=-11, stderr="last words")
    monkeypatch.setattr(tensorrt_build.subprocess, "run", lambda *a, **k: died)
    monkeypatch.setattr(tensorrt_build, "local_gpu", lambda: "sm89")
    (tmp_path / "e.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="ended by SIGSEGV.*last words"):
        build(BuildRequest(tmp_path / "e.onnx", tmp_path / "e.engine", "fp32"))
    assert [p.name for p in tmp_path.iterdir()] == ["e.onnx"]
