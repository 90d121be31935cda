"""Every case of a folder through its comparison; a file of an unknown kind is a fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.golden import fast, inputs, parts
from alpamayo_ros.vla.golden.answer import check_answer
from alpamayo_ros.vla.golden.model import golden_model
from alpamayo_ros.vla.golden.result import CaseResult
from alpamayo_ros.vla.golden.trajectory import Arrays, check_trajectory
from alpamayo_ros.vla.load import find_device
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.tokenizer import AlpamayoTokenizer, load_tokenizer
from alpamayo_ros.vla.vocabulary import Vocabulary

PARTS = {
    "parts_unicycle": parts.check_unicycle,
    "parts_flow_matching": parts.check_flow_matching,
    "parts_action_in_proj": parts.check_action_projection,
    "parts_sampling": parts.check_sampling,
    "parts_token_utils": parts.check_token_utils,
    "parts_preprocess": inputs.check_preprocess,
    "parts_dataset": inputs.check_dataset,
    "parts_metrics": inputs.check_metrics,
}
VERSIONS = {"r1_": "r1", "r15_": "1.5"}
RUNTIMES = ("eager", "fast")


CHECKS = {
    "eager": (check_trajectory, check_answer),
    "fast": (fast.check_trajectory, fast.check_answer),
}


class GoldenFolder:
    """A folder of cases, and the models and tokenizers that they share."""

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        tokenizer_folder: Path | None = None,
        runtime: str = "eager",
    ) -> None:
        self._folder, self._device = folder, str(find_device(device))
        if runtime not in RUNTIMES:
            raise ModelError(f"runtime {runtime!r} is none of {', '.join(RUNTIMES)}")
        self._runtime = runtime
        if not folder.is_dir():
            raise ModelError(f"no folder {folder}")
        self.cases = sorted(folder.glob("*.npz"))
        if not self.cases:
            raise ModelError(f"{folder} holds no case: .npz files are wanted")
        self._tokenizer_folder = tokenizer_folder
        self._models: dict[str, AlpamayoModel] = {}

    def run(self, only: str = "") -> Iterator[CaseResult]:
        """One result a case whose name contains `only`, as it is done."""
        for path in self.cases:
            if only in path.stem:
                yield self.check(path)

    def check(self, path: Path) -> CaseResult:
        """Compare one file. What goes wrong is in the result."""
        result = CaseResult(path.stem)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._check(path.stem, dict(arrays), result)
        except Exception as error:  # a damaged file may raise anything; the others still count
            result.fault = f"{type(error).__name__}: {error}"
        return result

    def _check(self, name: str, arrays: Arrays, result: CaseResult) -> None:
        if name in PARTS:
            with torch.no_grad():
                PARTS[name](arrays, result)
        elif name == "parts_tokenizers":
            self._check_tokenizers(arrays, result)
        elif name == "full_prompts":
            inputs.check_prompts(arrays, self._tokenizers(), result)
        elif "in_input_ids" in arrays:
            model = self._model(name)
            of_runs, of_answers = CHECKS[self._runtime]
            check = of_runs if "in_ego_history_xyz" in arrays else of_answers
            check(model, arrays, result)
            if any(name.startswith("text_") for name in arrays):
                result.notes.append("texts not compared: the tiny vocabulary's words are not here")
        else:
            result.fault = "a case of a kind that is not known here"

    def _check_tokenizers(self, arrays: Arrays, result: CaseResult) -> None:
        parts.check_tokenizers(arrays, result)
        unicycle = self._folder / "parts_unicycle.npz"
        if unicycle.exists():
            with np.load(unicycle, allow_pickle=False) as histories:
                parts.check_future_tokens(arrays, dict(histories), result)
        else:
            result.notes.append("future tokens not compared: parts_unicycle.npz has their futures")

    def _model(self, name: str) -> AlpamayoModel:
        version = next((v for prefix, v in VERSIONS.items() if name.startswith(prefix)), None)
        if version is None:
            raise ModelError(f"the name says no version: {' or '.join(VERSIONS)} begins it")
        if version not in self._models:
            self._models[version] = golden_model(self._folder, version, self._device)
        return self._models[version]

    def _tokenizers(self) -> dict[str, AlpamayoTokenizer] | None:
        if self._tokenizer_folder is None:
            return None
        return {
            version: load_tokenizer(self._tokenizer_folder, Vocabulary.for_base(version=version))
            for version in VERSIONS.values()
        }


def as_json(result: CaseResult) -> dict[str, Any]:
    """A result for a file."""
    return {
        "case": result.name,
        "ok": result.ok,
        "fault": result.fault,
        "notes": result.notes,
        "stages": {
            name: {"error": stage.error if np.isfinite(stage.error) else None,
                   "limit": stage.limit}
            for name, stage in result.worst().items()
        },
    }  # fmt: skip
