"""Every golden case within tolerance, and every deliberate fault out of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vla.qwen_vocabulary import GOLDEN, needs_golden, qwen_folder, ranks_file

from alpamayo_ros import cli
from alpamayo_ros.vla import expert, generation, trajectory_tokens
from alpamayo_ros.vla.golden.result import CaseResult
from alpamayo_ros.vla.golden.run import GoldenFolder
from alpamayo_ros.vla.model import AlpamayoModel, round_constants

CASES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
SINGLE, STAGGERED = "r1_A_single_greedy_eos", "r1_C_three_samples_staggered"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> GoldenFolder:
    """The golden folder, with the real vocabulary where a package has it."""
    tokenizer = qwen_folder(tmp_path_factory.getbasetemp()) if ranks_file() else None
    return GoldenFolder(GOLDEN, tokenizer_folder=tokenizer)


@needs_golden
@pytest.mark.parametrize("case", CASES)
def test_case(folder: GoldenFolder, case: str) -> None:
    result = folder.check(GOLDEN / f"{case}.npz")
    assert result.ok, result.line()


@needs_golden
def test_all_cases_are_there() -> None:
    """Five runs of the whole model, nine parts, the prompts."""
    assert len([case for case in CASES if case.startswith("r1")]) >= 5
    assert len([case for case in CASES if case.startswith("parts_")]) >= 9
    assert "full_prompts" in CASES


def _causal_expert(patch: pytest.MonkeyPatch) -> None:
    context = expert.expert_context

    def causal(*args: Any) -> Any:
        made = context(*args)
        mask = made.mask.clone()
        later = torch.ones(64, 64).triu(1).bool()
        mask[..., -64:] = mask[..., -64:].masked_fill(later, torch.finfo(mask.dtype).min)
        return expert.ExpertContext(made.prefix, made.positions, mask)

    patch.setattr(expert, "expert_context", causal)


def _no_gap_mask(patch: pytest.MonkeyPatch) -> None:
    context = expert.expert_context

    def open_gap(*args: Any) -> Any:
        made = context(*args)
        return expert.ExpertContext(made.prefix, made.positions, torch.zeros_like(made.mask))

    patch.setattr(expert, "expert_context", open_gap)


def _shifted_positions(patch: pytest.MonkeyPatch) -> None:
    context = expert.expert_context

    def shifted(*args: Any) -> Any:
        made = context(*args)
        return expert.ExpertContext(made.prefix, made.positions + 1, made.mask)

    patch.setattr(expert, "expert_context", shifted)


def _late_decoding(patch: pytest.MonkeyPatch) -> None:
    prefill = generation.prefill

    def late(*args: Any) -> Any:
        prefix = prefill(*args)
        prefix.rope_delta = prefix.rope_delta + 1
        return prefix

    patch.setattr(generation, "prefill", late)


def _history_in_the_future_s_bins(patch: pytest.MonkeyPatch) -> None:
    encode = trajectory_tokens.DeltaTokenizer.encode
    patch.setattr(trajectory_tokens.DeltaTokenizer, "encode", lambda *args: encode(*args) - 3000)


def _no_deepstack(patch: pytest.MonkeyPatch) -> None:
    see = generation.see

    def flat(*args: Any) -> Any:
        features = see(*args)
        zeros = [torch.zeros_like(layer) for layer in features.deepstack]
        return generation.ImageFeatures(features.embeddings, zeros)

    patch.setattr(generation, "see", flat)


def _swapped_colours(patch: pytest.MonkeyPatch) -> None:
    see = generation.see

    def swapped(model: AlpamayoModel, pixels: torch.Tensor, grid: torch.Tensor) -> Any:
        return see(model, pixels.unflatten(1, (3, -1)).flip(1).flatten(1), grid)

    patch.setattr(generation, "see", swapped)


@needs_golden
@pytest.mark.parametrize(
    ("fault", "case", "stages"),
    [
        (_causal_expert, SINGLE, {"mask", "velocity", "xyz_m"}),
        (_no_gap_mask, STAGGERED, {"mask", "velocity", "xyz_m"}),
        (_shifted_positions, SINGLE, {"mask", "velocity", "xyz_m"}),
        (_late_decoding, SINGLE, {"positions", "logits"}),
        (_history_in_the_future_s_bins, SINGLE, {"prompt", "prefill"}),
        (_no_deepstack, SINGLE, {"vision", "prefill"}),
        (_swapped_colours, SINGLE, {"vision", "prefill"}),
    ],
)
def test_a_fault_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch], None],
    case: str,
    stages: set[str],
) -> None:
    """Each fault puts the stages that it touches out of tolerance."""
    fault(monkeypatch)
    result = GoldenFolder(GOLDEN).check(GOLDEN / f"{case}.npz")
    assert not result.ok
    failed = {name for name, stage in result.worst().items() if not stage.ok}
    assert stages <= failed, result.line()


@needs_golden
def test_rounded_constants_are_seen() -> None:
    """Constants rounded to bfloat16 move velocities by more than 0.1: neither may pass as other."""
    golden = GoldenFolder(GOLDEN)
    round_constants(golden._model(SINGLE))
    result = golden.check(GOLDEN / f"{SINGLE}.npz")
    assert result.worst()["velocity"].error > 0.1
    assert not result.ok


@needs_golden
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a case; exit code 1 where one is out of tolerance; other names of cases work."""
    for name in ("tiny_r1_weights.safetensors", "tiny_r1_config.json",
                 "tiny_backbone_config.json"):  # fmt: skip
        shutil.copy(GOLDEN / name, tmp_path / name)
    arrays = dict(np.load(GOLDEN / f"{SINGLE}.npz"))
    np.savez(tmp_path / "r1_another.npz", **arrays)
    assert cli.main(["vla", "check", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    assert "ok   r1_another" in capsys.readouterr().out
    arrays["diffusion_v"] = arrays["diffusion_v"] + 1e-3
    np.savez(tmp_path / "r1_wrong.npz", **arrays)
    assert cli.main(["vla", "check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL r1_wrong" in printed and "velocity 1.0e-03 > 0.0001" in printed
    assert "1 of 2 cases within tolerance" in printed


def test_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty or missing folder is wrong use, not success."""
    assert cli.main(["vla", "check", str(tmp_path)]) == 2
    assert "holds no case" in capsys.readouterr().err
    assert cli.main(["vla", "check", str(tmp_path / "missing")]) == 2
    np.savez(tmp_path / "r1_odd.npz", x=np.zeros(3))
    assert cli.main(["vla", "check", str(tmp_path)]) == 1
    assert "not known here" in capsys.readouterr().out


@needs_golden
def test_a_damaged_file_does_not_end_the_check(tmp_path: Path) -> None:
    """Cut off, empty, with ids beyond the vocabulary: each is a line of its own that says so."""
    for name in ("tiny_r1_weights.safetensors", "tiny_r1_config.json",
                 "tiny_backbone_config.json"):  # fmt: skip
        shutil.copy(GOLDEN / name, tmp_path / name)
    content = (GOLDEN / f"{SINGLE}.npz").read_bytes()
    (tmp_path / "r1_cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "r1_empty.npz").write_bytes(b"")
    arrays = dict(np.load(GOLDEN / f"{SINGLE}.npz"))
    np.savez(tmp_path / "r1_good.npz", **arrays)
    wild = arrays["in_input_ids"].copy()
    wild[0, 3] = 99_999
    np.savez(tmp_path / "r1_wild.npz", **{**arrays, "in_input_ids": wild})
    results = {result.name: result for result in GoldenFolder(tmp_path).run()}
    assert [name for name, result in results.items() if result.ok] == ["r1_good"]
    assert all(results[name].fault for name in ("r1_cut", "r1_empty", "r1_wild"))


def test_a_result_without_stages_is_no_success() -> None:
    result = CaseResult("empty")
    assert not result.ok
    result.close("nan", np.array([np.nan]), np.array([1.0]))
    assert not result.ok
