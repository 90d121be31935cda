"""`options` of an Alpamayo manifest, checked before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from alpamayo_ros.candidates import POLICIES
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest

RUNTIMES = ("eager", "fast")
REASONING = ("before", "after", "off")
MOST_DRAFTED = 16
EXPERT_RUNTIMES = ("torch", "tensorrt", "onnxruntime")
PATHS = ("checkpoint", "tokenizer", "backbone", "expert_model", "chain_of_causation")


@dataclass(frozen=True, slots=True)
class VlaOptions:
    """What the manifest and `model_options` say. Paths start from the manifest's folder."""

    checkpoint: Path
    tokenizer: Path | None = None
    backbone: Path | None = None  # None: Qwen3-VL-8B
    sha256: Mapping[str, str] = field(default_factory=dict)
    device: str = "cuda"
    dtype: str = "bfloat16"
    weights: str | Mapping[str, str] | None = None  # fewer bits, for all or by part
    samples: int = 1
    choice: str = "first"
    temperature: float = 0.6
    top_p: float = 0.98
    top_k: int | None = None
    max_new_tokens: int = 256
    flow_steps: int | None = None  # None: as the checkpoint says
    flow_temperature: float = 1.0
    guidance_weight: float | None = None  # None: navigation text goes in the prompt alone
    max_answer_tokens: int = 128
    seed: int = 0
    runtime: str = "eager"
    # "after" and "off" are fast's: the trajectory without reasoning, which follows it or does not
    reasoning: str = "before"
    force_start: bool = False  # fast's: max_new_tokens of reasoning, then the trajectory
    approximate_streaming: bool = False  # fast's: keys and values of known frames serve again
    draft_tokens: int = 0  # fast's: of a reasoning, guessed at once; 0: none
    expert_runtime: str = "torch"
    expert_model: Path | None = None  # ONNX file or engine, for the other runtimes
    chain_of_causation: Path | None = None  # None: the shipped table

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> VlaOptions:
        """Raises ModelError naming the option that is unknown, missing or of the wrong kind."""
        known = {entry.name: entry for entry in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in manifest.options.items():
            if name not in known:
                raise ModelError(
                    f"{manifest.path}: unknown option {name}; known: {', '.join(sorted(known))}"
                )
            if value is None:
                continue
            values[name] = _converted(name, value, str(known[name].type), manifest)
        if "checkpoint" not in values:
            raise ModelError(
                f"{manifest.path}: option `checkpoint` is missing: the folder of the release, with "
                "config.json and safetensors (README, Weights)"
            )
        options = cls(**values)
        options._check(manifest)
        return options

    def _check(self, manifest: Manifest) -> None:
        for name, wanted, good in (
            ("samples", "1 or more", self.samples >= 1),
            ("max_new_tokens", "1 or more", self.max_new_tokens >= 1),
            ("max_answer_tokens", "1 or more", self.max_answer_tokens >= 1),
            ("flow_steps", "1 or more", self.flow_steps is None or self.flow_steps >= 1),
            ("flow_temperature", "> 0", self.flow_temperature > 0),
            ("temperature", "> 0; for greedy decoding set top_k: 1", self.temperature > 0),
            ("top_p", "> 0 and <= 1", 0 < self.top_p <= 1),
            ("top_k", "1 or more", self.top_k is None or self.top_k >= 1),
            ("choice", " or ".join(POLICIES), self.choice in POLICIES),
            ("runtime", " or ".join(RUNTIMES), self.runtime in RUNTIMES),
            ("reasoning", ", ".join(REASONING), self.reasoning in REASONING),
            ("reasoning", "before, or runtime fast",
             self.reasoning == "before" or self.runtime == "fast"),
            ("force_start", "false, or runtime fast",
             not self.force_start or self.runtime == "fast"),
            ("approximate_streaming", "false, or runtime fast",
             not self.approximate_streaming or self.runtime == "fast"),
            ("draft_tokens", f"0 to {MOST_DRAFTED}", 0 <= self.draft_tokens <= MOST_DRAFTED),
            ("draft_tokens", "0, or runtime fast with reasoning before or after and samples 1",
             not self.draft_tokens or self._says_one_reasoning()),
            ("expert_runtime", "torch with runtime fast, which has its own",
             self.expert_runtime == "torch" or self.runtime == "eager"),
            ("expert_runtime", " or ".join(EXPERT_RUNTIMES),
             self.expert_runtime in EXPERT_RUNTIMES),
        ):  # fmt: skip
            if not good:
                raise ModelError(
                    f"{manifest.path}: option {name} is {getattr(self, name)!r}, wanted {wanted}"
                )
        if self.expert_runtime != "torch" and self.expert_model is None:
            raise ModelError(
                f"{manifest.path}: expert_runtime {self.expert_runtime} needs expert_model, the "
                "file that `alpamayo vla export-expert` writes"
            )

    def refuse_what_r1_cannot(self, manifest: Manifest) -> None:
        """Raises ModelError naming what needs Alpamayo 1.5."""
        faults = []
        if manifest.takes_navigation:
            faults.append("takes_navigation")
        if self.guidance_weight is not None:
            faults.append("guidance_weight")
        if self.flow_temperature != 1.0:
            faults.append("flow_temperature")
        if faults:
            raise ModelError(
                f"{manifest.path}: {', '.join(faults)} needs Alpamayo 1.5, and {self.checkpoint} "
                "is R1"
            )

    def _says_one_reasoning(self) -> bool:
        if self.runtime != "fast" or self.reasoning == "off":
            return False
        return self.samples == 1 or self.reasoning == "after"


def _weights(value: Any, where: str) -> str | Mapping[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    if not isinstance(value, (str, dict)) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in pairs
    ):
        raise ModelError(f"{where} a precision, or a mapping of parts to precisions")
    return value


def _converted(name: str, value: Any, kind: str, manifest: Manifest) -> Any:
    where = f"{manifest.path}: option {name} is {value!r}, wanted"
    if name in PATHS:
        if not isinstance(value, str) or not value:
            raise ModelError(f"{where} a path")
        return manifest.path.parent / Path(value).expanduser()
    if name == "weights":
        return _weights(value, where)
    if name == "sha256":
        if not isinstance(value, dict) or not all(
            isinstance(k, str) and isinstance(v, str) for k, v in value.items()
        ):
            raise ModelError(f"{where} a mapping of file names to sha256")
        return value
    if name == "reasoning" and value is False:
        return "off"  # which YAML reads as false where it has no quotes
    if kind == "bool":
        if not isinstance(value, bool):
            raise ModelError(f"{where} true or false")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = number and abs(value) <= sys.float_info.max
    if kind.startswith("int"):
        if not number or int(value) != value:
            raise ModelError(f"{where} a whole number")
        return int(value)
    if kind.startswith("float"):
        if not number:
            raise ModelError(f"{where} a number")
        return float(value)
    if not isinstance(value, str):
        raise ModelError(f"{where} text")
    return value
