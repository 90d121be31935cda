"""What a student takes and gives, and whose it is: stated in each of its files and checked by all.

Nothing in the numbers of an ONNX file or an engine shows whose weights they hold, under which
licence, or how their images were prepared. So the file says it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from alpamayo_ros.errors import ModelError
from alpamayo_ros.student.config import StudentConfig, student_config
from alpamayo_ros.types import N_FRAMES, N_HISTORY, N_WAYPOINTS

KIND = "alpamayo student"
FORMAT = 1
PREFIX = "alpamayo."  # of every key, so that other tools' metadata does no harm
PRECISIONS = ("fp32", "fp16", "int8", "fp8")
GRAPHS = ("encoder", "policy")
OPSET = 18  # 17 comes out invalid of torch's exporter, 23 crashes TensorRT for RTX's builder
EXPORT = "alpamayo export"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StudentSpec:
    """One student's architecture and preparation of inputs, its origin and licence."""

    model: str  # the manifest's name
    licence: str  # as the manifest has it; it follows the weights
    source_sha256: str  # of the safetensors weights
    config: StudentConfig
    precision: str = "fp32"

    @property
    def encoder_inputs(self) -> dict[str, Shape]:
        """`images`: the newest frame of every camera."""
        return {"images": (1, len(self.config.cameras), 3, *self.config.input_size)}

    @property
    def features(self) -> Shape:
        """(1, C, T, D), the encoder's output."""
        return (1, len(self.config.cameras), self.config.image_tokens, self.config.width)

    @property
    def policy_inputs(self) -> dict[str, Shape]:
        """By name, in the graph's order; all float32 but `command`, int64."""
        cameras, config = len(self.config.cameras), self.config
        noise = {"noise": (1, N_WAYPOINTS, 2)} if config.head == "flow" else {}
        return {
            "features": (1, cameras, N_FRAMES, config.image_tokens, config.width),
            "history": (1, N_HISTORY, 3),
            "history_yaw": (1, N_HISTORY),
            "speed": (1,),
            "prior_action": (1, N_WAYPOINTS, 2),
            "command": (1,),
            "camera_mask": (1, cameras),
            **noise,
        }

    @property
    def action(self) -> Shape:
        """(1, 64, 2), the policy's output: normalised."""
        return (1, N_WAYPOINTS, 2)

    def inputs(self, graph: str) -> dict[str, Shape]:
        """Of "encoder" or "policy"."""
        return self.encoder_inputs if graph == "encoder" else self.policy_inputs

    def output(self, graph: str) -> tuple[str, Shape]:
        """Name and shape of a graph's only output."""
        return ("features", self.features) if graph == "encoder" else ("action", self.action)

    def metadata(self, graph: str) -> dict[str, str]:
        """As text, for ONNX's metadata and an engine's sidecar."""
        fields = {
            "kind": KIND,
            "format": str(FORMAT),
            "graph": graph,
            "model": self.model,
            "licence": self.licence,
            "source_sha256": self.source_sha256,
            "precision": self.precision,
            "config": json.dumps(self.config.to_dict(), sort_keys=True),
        }
        return {PREFIX + name: value for name, value in fields.items()}


def parse_metadata(metadata: Mapping[str, str], graph: str, where: str) -> StudentSpec:
    """The inverse of `metadata()`. Raises ModelError where `where` is no such graph of ours."""
    found = {k[len(PREFIX) :]: v for k, v in metadata.items() if k.startswith(PREFIX)}
    if found.get("kind") != KIND or found.get("graph") != graph:
        raise ModelError(
            f"{where} is no exported student's {graph}"
            + (f" but its {found['graph']}" if found.get("kind") == KIND else "")
            + f": make one with {EXPORT}"
        )
    if found.get("format") != str(FORMAT):
        raise ModelError(
            f"{where} has format {found.get('format')}, this version reads {FORMAT}: make it again "
            f"with {EXPORT}"
        )
    try:
        if found["precision"] not in PRECISIONS:
            raise ValueError(f"precision {found['precision']}")
        return StudentSpec(
            found["model"],
            found["licence"],
            found["source_sha256"],
            student_config(json.loads(found["config"]), where),
            found["precision"],
        )
    except (KeyError, ValueError, ModelError) as error:
        raise ModelError(
            f"{where}: its metadata is damaged ({error!r}); make it again with {EXPORT}"
        ) from error


def check_same(encoder: StudentSpec, policy: StudentSpec, where: str) -> None:
    """Raises ModelError where two graphs are not one export's."""
    faults = [
        f"{field.name} {getattr(encoder, field.name)!r} and {getattr(policy, field.name)!r}"
        for field in dataclasses.fields(StudentSpec)
        if getattr(encoder, field.name) != getattr(policy, field.name)
    ]
    if faults:
        raise ModelError(
            f"{where}: encoder and policy are not of one export ({'; '.join(faults)}): copy the "
            f"whole folder of one {EXPORT}"
        )


def check_precision(spec: StudentSpec, precision: str, where: str) -> None:
    """Raises ModelError where the manifest names another precision than its files have.

    It is no setting: the numbers' types are the files' own.
    """
    if spec.precision != precision:
        raise ModelError(
            f"{where}: option precision is {precision}, its files are {spec.precision}: set "
            f"precision={spec.precision}, or {EXPORT} --precision {precision} and use the manifest "
            "that it writes"
        )


def check_manifest(spec: StudentSpec, model: str, licence: str, where: str) -> None:
    """Raises ModelError where the manifest names another model or licence than the weights bear.

    A licence is a property of the weights: rewriting the manifest does not change it.
    """
    if (spec.model, spec.licence) != (model, licence):
        raise ModelError(
            f"{where} says model {model!r}, licence {licence!r}; its files were made of model "
            f"{spec.model!r}, licence {spec.licence!r}: use the manifest that {EXPORT} wrote"
        )
