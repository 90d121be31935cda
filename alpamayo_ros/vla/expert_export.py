"""The action expert to ONNX: loaded by itself, exported, compared with PyTorch, then put in place.

torch's dynamo exporter at opset 18. It refers to the weights where they are and streams them to
disk, so that they are in memory once; the older exporter copies them. Opset 17 comes out invalid
and 23 crashes TensorRT for RTX's builder.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.checkpoint import Progress, Shards, find_shards, load_weights
from alpamayo_ros.vla.expert_check import check_onnx, random_context
from alpamayo_ros.vla.expert_file import (
    PARTS,
    PRECISIONS,
    ExpertFile,
    ExpertIdentity,
    identify,
)
from alpamayo_ros.vla.expert_graph import ExpertStep, GraphShape, expert_graph, in_bucket
from alpamayo_ros.vla.load import read_head
from alpamayo_ros.vla.model import AlpamayoModel, empty_model, round_constants

OPSET = 18
# A protobuf may have 2 GiB; beyond, weights go to a file beside it.
ONE_FILE_BYTES = 1_800_000_000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written and compared."""

    path: Path
    file: ExpertFile
    bytes: int  # with its external data
    error: float  # as `check_onnx` measures it
    tolerance: float


def load_expert(
    checkpoint: Path,
    backbone: Path | None,
    run_dtype: str,
    precision: str,
    name: str,
    licence: str,
    progress: Progress | None = None,
) -> tuple[AlpamayoModel, ExpertIdentity]:
    """A checkpoint's expert without its language model, on the CPU in a precision's type.

    `run_dtype` is the manifest's `dtype`: it decides, as when loading, whether constants are
    rounded. Raises ModelError.
    """
    shards, config, shape = find_shards(checkpoint), read_head(checkpoint), read_backbone(backbone)
    model = empty_model(config, shape)
    del model.vlm
    wanted = model.state_dict()
    parts = {
        file: tuple(n for n in names if n in wanted or n.startswith(PARTS))
        for file, names in shards.tensors.items()
    }
    own = Shards(shards.folder, {file: names for file, names in parts.items() if names})
    load_weights(model, own, torch.device("cpu"), PRECISIONS[precision], progress)
    if "bfloat16" in (config.model_dtype, run_dtype):
        round_constants(model)
    return model, identify(name, licence, model, shape, own)


def export_expert(
    model: AlpamayoModel,
    identity: ExpertIdentity,
    shape: GraphShape,
    out: Path,
    say: Say = lambda _line: None,
) -> Exported:
    """Write `out` (and `out`.data where it is large). What does not agree is not left behind.

    Raises ModelError naming the error and its tolerance, or the package that is missing.
    """
    _require_onnx()
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == model.dtype)
    file = ExpertFile(identity, shape, precision)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        draft = Path(folder) / out.name
        say(f"exporting {shape.layers} layers, {shape.loop_steps or 'no'} steps unrolled")
        with torch.no_grad():
            _write(expert_graph(model, shape), _example(model, shape), file, draft)
        say("comparing with PyTorch")
        error, tolerance = check_onnx(model, file, draft)
        written = sorted(Path(folder).glob(f"{out.name}*"))
        size = sum(path.stat().st_size for path in written)
        for path in reversed(written):  # data before the file that refers to it
            os.replace(path, out.parent / path.name)
    return Exported(out, file, size, error, tolerance)


def _example(model: AlpamayoModel, shape: GraphShape) -> tuple[torch.Tensor, ...]:
    """Inputs of the right shapes and types; their values are not looked at."""
    bucket = in_bucket(model, random_context(model, shape), shape, model.dtype)
    given = [torch.zeros(size) for name, size in shape.inputs().items() if name in ("x", "t")]
    return (*given, *bucket.values())


def _write(
    graph: ExpertStep, example: tuple[torch.Tensor, ...], file: ExpertFile, path: Path
) -> None:
    with _quiet():
        program = torch.onnx.export(
            graph,
            example,
            input_names=list(file.shape.inputs()),
            output_names=[file.shape.output],
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
    model.metadata_props.update(file.metadata())
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    program.save(str(path), external_data=weights > ONE_FILE_BYTES)


def _require_onnx() -> None:
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ModelError(
            f"exporting the expert needs {', '.join(missing)}: pip install {' '.join(missing)}"
        )


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
