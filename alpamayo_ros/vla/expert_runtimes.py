"""What runs the action expert: PyTorch, ONNX Runtime, or a TensorRT engine.

A runtime takes a context once a plan and then gives velocities, or the whole flow where its file
has the steps in it. What was asked for runs, or an error says why not: nothing falls back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import flow_matching
from alpamayo_ros.vla.backbone import read_backbone
from alpamayo_ros.vla.checkpoint import find_shards
from alpamayo_ros.vla.expert import ExpertContext, velocity
from alpamayo_ros.vla.expert_file import (
    EXPORT,
    ExpertFile,
    ExpertIdentity,
    check_belongs,
    check_shape,
    identify,
    parse_metadata,
)
from alpamayo_ros.vla.expert_graph import in_bucket
from alpamayo_ros.vla.expert_sessions import Run, open_onnx, open_tensorrt
from alpamayo_ros.vla.flow_matching import Velocity
from alpamayo_ros.vla.model import AlpamayoModel

if TYPE_CHECKING:
    from alpamayo_ros.backends.vla_options import VlaOptions
    from alpamayo_ros.manifest import Manifest


class ExpertRuntime(Protocol):
    """The flow's velocity behind a context, whatever computes it."""

    @property
    def loop_steps(self) -> int:
        """K Euler steps in one call of `action`; 0: `prepare` gives velocities."""
        ...

    def prepare(self, context: ExpertContext) -> Velocity:
        """The velocity (N, 64, 2) fp32 of x (N, 64, 2) at t (N,). Raises ModelError: sizes."""
        ...

    def action(self, context: ExpertContext, noise: Tensor) -> Tensor:
        """All K steps at once: (N, 64, 2) fp32 from noise of that shape. Raises ModelError."""
        ...


def denoise(
    runtime: ExpertRuntime,
    context: ExpertContext,
    noise: Tensor,
    steps: int,
    unguided: ExpertContext | None = None,
    weight: float | None = None,
) -> Tensor:
    """Normalised actions (N, 64, 2) from noise; with `unguided` and `weight`, guided by both.

    Raises ModelError where the runtime's file cannot do it.
    """
    if runtime.loop_steps:
        check_loop(runtime.loop_steps, steps, weight)
        return runtime.action(context, noise)
    field = runtime.prepare(context)
    if unguided is not None and weight is not None:
        field = flow_matching.guided(field, runtime.prepare(unguided), weight)
    return flow_matching.integrate(field, noise, steps)


def check_loop(loop_steps: int, steps: int, weight: float | None) -> None:
    """Raises ModelError where a file with its steps inside cannot do what is asked."""
    if weight is not None:
        raise ModelError(
            f"the expert's file has its {loop_steps} flow steps inside and cannot be guided "
            f"(guidance_weight {weight:g}): make one of a single step, {EXPORT} without --steps"
        )
    if steps != loop_steps:
        raise ModelError(
            f"the expert's file has {loop_steps} flow steps inside and {steps} are asked for: "
            f"set flow_steps to {loop_steps}, or {EXPORT} --steps {steps}"
        )


class TorchExpert:
    """The model itself: the cache is extended and cut back in every step."""

    loop_steps = 0

    def __init__(self, model: AlpamayoModel) -> None:
        self._model = model

    def prepare(self, context: ExpertContext) -> Velocity:
        """Nothing to prepare."""
        return lambda x, t: velocity(self._model, context, x, t)

    def action(self, context: ExpertContext, noise: Tensor) -> Tensor:
        """Never called: steps are taken one by one."""
        raise ModelError("the expert in PyTorch takes its steps one by one")


@dataclass(frozen=True, slots=True)
class GraphExpert:
    """A static graph: the cache is padded into its bucket once a plan."""

    model: AlpamayoModel
    file: ExpertFile
    run: Run

    @property
    def loop_steps(self) -> int:
        """As the file has it."""
        return self.file.shape.loop_steps

    def prepare(self, context: ExpertContext) -> Velocity:
        """Keys, values and mask are kept in the bucket for every step. Raises ModelError."""
        bucket = in_bucket(self.model, context, self.file.shape, self.file.dtype)
        return lambda x, t: self.run({"x": _plain(x), "t": _plain(t), **bucket})

    def action(self, context: ExpertContext, noise: Tensor) -> Tensor:
        """One call for all steps. Raises ModelError."""
        bucket = in_bucket(self.model, context, self.file.shape, self.file.dtype)
        return self.run({"x": _plain(noise), **bucket})


def _plain(tensor: Tensor) -> Tensor:
    """fp32 in one piece: t comes expanded from a single number."""
    return tensor.float().contiguous()


def open_expert(
    runtime: str, path: Path | None, model: AlpamayoModel, identity: ExpertIdentity | None
) -> ExpertRuntime:
    """The runtime of that name. Raises ModelError where its file is missing, is not the loaded
    checkpoint's, or cannot run here."""
    if runtime == "torch":
        return TorchExpert(model)
    openers = {"onnxruntime": open_onnx, "tensorrt": open_tensorrt}
    if runtime not in openers:
        raise ModelError(f"expert_runtime {runtime!r} is none of torch, {', '.join(openers)}")
    if path is None or identity is None:
        raise ModelError(f"expert_runtime {runtime} needs expert_model: make it with {EXPORT}")
    if not path.exists():
        raise ModelError(f"expert_model {path} does not exist: make it with {EXPORT}")
    wanted = ".onnx" if runtime == "onnxruntime" else ".engine"
    if path.suffix != wanted:
        raise ModelError(
            f"expert_model {path.name} is no {wanted} file, which expert_runtime {runtime} takes: "
            f"{EXPORT} {'--to tensorrt ' if runtime == 'tensorrt' else ''}writes one"
        )
    metadata, run = openers[runtime](path, model.device)
    file = parse_metadata(metadata, str(path))
    check_belongs(file, identity, str(path))
    check_shape(file, model, str(path))
    return GraphExpert(model, file, run(file))


def check_options(
    runtime: ExpertRuntime, samples: int, steps: int, guidance_weight: float | None
) -> None:
    """Raises ModelError at configure for what would fail in every plan."""
    if not isinstance(runtime, GraphExpert):
        return
    shape = runtime.file.shape
    if samples != shape.samples:
        raise ModelError(
            f"the expert's file is for exactly {shape.samples} samples and option samples is "
            f"{samples}: set it to {shape.samples}, or make a file for them: {EXPORT} --samples "
            f"{samples} --prefix {shape.prefix}"
        )
    if shape.loop_steps:
        check_loop(shape.loop_steps, steps, guidance_weight)


def expert_of(manifest: Manifest, options: VlaOptions, model: AlpamayoModel) -> ExpertRuntime:
    """The runtime that a manifest's options ask for, checked against the checkpoint just loaded
    and against what its plans will want. Raises ModelError."""
    identity = None
    if options.expert_runtime != "torch":
        backbone, shards = read_backbone(options.backbone), find_shards(options.checkpoint)
        identity = identify(manifest.name, manifest.licence, model, backbone, shards)
    runtime = open_expert(options.expert_runtime, options.expert_model, model, identity)
    steps = options.flow_steps or model.config.flow_steps
    check_options(runtime, options.samples, steps, options.guidance_weight)
    return runtime
