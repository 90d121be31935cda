"""A student's two graphs to ONNX: static shapes, batch one, the flow's steps unrolled.

torch's dynamo exporter at opset 18, as for the action expert; what it wrote is compared with
PyTorch before it is put in place.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alpamayo_ros.deployment.spec import GRAPHS, OPSET, StudentSpec
from alpamayo_ros.errors import ModelError

Say = Callable[[str], None]
TOLERANCE = 1e-4  # in features relative to their size, and in normalised actions


class _Encoder(nn.Module):
    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student: Any = student

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.student.encode(images)
        return features


class _Policy(nn.Module):
    """Arguments by position, in the order of the spec: the exporter names inputs so."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student: Any = student

    def forward(self, *inputs: Tensor) -> Tensor:
        action: Tensor = self.student.policy(*inputs)
        return action


def graph_of(student: nn.Module, graph: str) -> nn.Module:
    """The module whose forward is one graph, for evaluation."""
    module = _Encoder(student) if graph == "encoder" else _Policy(student)
    return module.eval()


def example_inputs(spec: StudentSpec, graph: str, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs of a graph, in the range of real ones; every camera there."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for name, shape in spec.inputs(graph).items():
        if name == "command":
            made[name] = np.zeros(shape, np.int64)
        elif name == "camera_mask":
            made[name] = np.ones(shape, np.float32)
        else:
            made[name] = rng.standard_normal(shape).astype(np.float32)
    if graph == "policy":
        made["speed"] = np.abs(made["speed"]) * 10
        made["history"][0, :, 0] = np.linspace(-15, 0, made["history"].shape[1])
    return made


def write_graphs(
    student: nn.Module, spec: StudentSpec, folder: Path, say: Say = lambda _line: None
) -> dict[str, float]:
    """Write `encoder.onnx` and `policy.onnx` in fp32 to `folder`; the largest differences from
    PyTorch by graph. Raises ModelError where one is over TOLERANCE, and writes neither."""
    require_onnx()
    student = student.eval()
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as draft:
        for graph in GRAPHS:
            say(f"exporting the {graph}")
            path = Path(draft) / f"{graph}.onnx"
            _write(student, spec, graph, path)
            errors[graph] = compare(student, spec, graph, path)
        for graph in GRAPHS:
            os.replace(Path(draft) / f"{graph}.onnx", folder / f"{graph}.onnx")
    return errors


def compare(student: nn.Module, spec: StudentSpec, graph: str, path: Path) -> float:
    """The largest difference of a graph from PyTorch over a few random inputs, features relative
    to their largest. Raises ModelError where it is over TOLERANCE."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    module = graph_of(student, graph)
    worst = 0.0
    for seed in range(3):
        inputs = example_inputs(spec, graph, seed)
        with torch.no_grad():
            reference = module(*map(torch.from_numpy, inputs.values())).numpy()
        (ours,) = session.run(None, inputs)
        size = max(1.0, float(np.abs(reference).max())) if graph == "encoder" else 1.0
        worst = max(worst, float(np.abs(ours - reference).max()) / size)
    if not worst <= TOLERANCE:  # NaN is not
        raise ModelError(
            f"the exported {graph} and PyTorch differ by {worst:.3g}, allowed is {TOLERANCE:g}: "
            "it is not written. Another version of torch or onnxscript may export it right"
        )
    return worst


def _write(student: nn.Module, spec: StudentSpec, graph: str, path: Path) -> None:
    example = tuple(map(torch.from_numpy, example_inputs(spec, graph).values()))
    name, shape = spec.output(graph)
    module = graph_of(student, graph)
    with torch.no_grad():
        given = tuple(module(*example).shape)
        if given != shape:
            raise ModelError(f"the student's {graph} gives {given}, its description says {shape}")
        with _quiet():
            program = torch.onnx.export(
                module,
                example,
                input_names=list(spec.inputs(graph)),
                output_names=[name],
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
    assert program is not None
    model: Any = program.model
    # The exporter notes where in whose source each node arose; that is nobody's business.
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(spec.metadata(graph))
    program.save(str(path), external_data=False)


def require_onnx() -> None:
    """Raises ModelError naming the packages of export that are missing."""
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ModelError(f"export needs {', '.join(missing)}: pip install {' '.join(missing)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of torchvision's absence and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
