"""`options` of a student's manifest, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alpamayo_ros.deployment.spec import EXPORT, PRECISIONS
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest

RUNTIMES = ("torch", "onnxruntime", "tensorrt")
PROVIDERS = ("cpu", "cuda", "tensorrt")
TENSORRT = ("", "tensorrt", "tensorrt_rtx")
_PATHS = ("weights", "encoder", "policy", "engines", "explanations")


@dataclass(frozen=True, slots=True)
class StudentOptions:
    """What the manifest and `model_options` say. Paths start from the manifest's folder."""

    runtime: str = "onnxruntime"
    weights: Path | None = None  # safetensors, for torch
    encoder: Path | None = None  # .onnx, or .engine for tensorrt
    policy: Path | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)  # of every file, by its name
    precision: str = "fp32"  # of the files
    architecture: Mapping[str, Any] = field(default_factory=dict)  # for torch
    provider: str = "cpu"  # of onnxruntime
    device: str = "cpu"  # of torch; tensorrt and onnxruntime's GPU providers take the first GPU
    threads: int = 0  # of a CPU; 0: as many as it has cores
    seed: int = 0  # of a flow head's noise: the same seed and sample give the same plan
    tensorrt: str = ""  # which module builds engines; empty: the first that is installed
    engines: Path | None = None  # where engines built at configure are kept; None: user's cache
    explanations: Path | None = None  # labels of the teacher, whose reasoning is looked up

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> StudentOptions:
        """Raises ModelError naming the option that is unknown, missing or of the wrong kind."""
        known = {entry.name: entry for entry in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name, value in manifest.options.items():
            if name not in known:
                raise ModelError(
                    f"{manifest.path}: unknown option {name}; known: {', '.join(sorted(known))}"
                )
            if value is not None:
                values[name] = _converted(name, value, str(known[name].type), manifest)
        options = cls(**values)
        options._check(manifest)
        return options

    def files(self) -> dict[str, Path]:
        """The files that the runtime reads, by their option's name."""
        names = ("weights",) if self.runtime == "torch" else ("encoder", "policy")
        return {name: path for name in names if (path := getattr(self, name)) is not None}

    def _check(self, manifest: Manifest) -> None:
        for name, allowed in (("runtime", RUNTIMES), ("provider", PROVIDERS),
                              ("tensorrt", TENSORRT), ("precision", PRECISIONS)):  # fmt: skip
            value = getattr(self, name)
            if value not in allowed:
                wanted = ", ".join(entry or "nothing" for entry in allowed)
                raise ModelError(
                    f"{manifest.path}: option {name} is {value!r}, wanted one of {wanted}"
                )
        if self.threads < 0:
            raise ModelError(f"{manifest.path}: option threads is {self.threads}, wanted 0 or more")
        if self.runtime != "onnxruntime" and self.provider != "cpu":
            raise ModelError(
                f"{manifest.path}: option provider is onnxruntime's, and runtime is {self.runtime}"
            )
        self._check_device(manifest)
        needed = ("weights",) if self.runtime == "torch" else ("encoder", "policy")
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ModelError(
                f"{manifest.path}: runtime {self.runtime} needs option {', '.join(missing)}: "
                f"use the manifest that {EXPORT} wrote"
            )
        for name, path in self.files().items():
            self._check_suffix(name, path, manifest)

    def _check_device(self, manifest: Manifest) -> None:
        """ONNX Runtime would ignore it, and plan on the CPU where a GPU was asked for; TensorRT
        would, on the first GPU."""
        if self.runtime == "onnxruntime" and self.device != "cpu":
            raise ModelError(
                f"{manifest.path}: option device is {self.device!r}, which is for runtime torch; "
                "onnxruntime runs where option provider says: set device=cpu and provider=cuda"
            )
        if self.runtime == "tensorrt" and self.device not in ("cpu", "cuda", "cuda:0"):
            raise ModelError(
                f"{manifest.path}: option device is {self.device!r}, and tensorrt runs on the "
                "first GPU that the process sees: leave it out, and choose by CUDA_VISIBLE_DEVICES"
            )

    def _check_suffix(self, name: str, path: Path, manifest: Manifest) -> None:
        wanted = {
            "torch": (".safetensors",),
            "onnxruntime": (".onnx",),
            "tensorrt": (".engine", ".onnx"),
        }[self.runtime]
        if path.suffix not in wanted:
            to = "tensorrt" if self.runtime == "tensorrt" else "onnx"
            raise ModelError(
                f"{manifest.path}: {name} is {path.name}, and runtime {self.runtime} reads "
                f"{' or '.join(wanted)}; {EXPORT} --to {to} writes one"
            )


def _converted(name: str, value: Any, kind: str, manifest: Manifest) -> Any:
    where = f"{manifest.path}: option {name} is {value!r}, wanted"
    if name in _PATHS:
        if not isinstance(value, str) or not value:
            raise ModelError(f"{where} a path")
        return manifest.path.parent / Path(value).expanduser()
    if kind.startswith("Mapping"):
        if not isinstance(value, dict):
            raise ModelError(f"{where} a mapping")
        return value
    if kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{where} a whole number")
        return value
    if not isinstance(value, str):
        raise ModelError(f"{where} text")
    return value
