"""Every golden case through `fast`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros import cli
from alpamayo_ros.vla.fast.flow import FastExpert
from alpamayo_ros.vla.golden.run import GoldenFolder

RUNS = sorted(path.stem for path in GOLDEN.glob("r1*.npz"))


@pytest.fixture(scope="module")
def folder() -> GoldenFolder:
    return GoldenFolder(GOLDEN, runtime="fast")


@needs_golden
@pytest.mark.parametrize("case", RUNS)
def test_case(folder: GoldenFolder, case: str) -> None:
    result = folder.check(GOLDEN / f"{case}.npz")
    assert result.ok, result.line()
    assert {"logits", "prompt"} <= set(result.worst())


@needs_golden
def test_a_fault_is_seen(folder: GoldenFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waypoints one place too far: the check goes through fast and not past it."""
    positions = FastExpert.positions

    def late(self: FastExpert, branches: list) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = positions(self, branches)
        return cos.roll(1, 1), sin.roll(1, 1)

    monkeypatch.setattr(FastExpert, "positions", late)
    assert not folder.check(GOLDEN / f"{RUNS[-1]}.npz").ok


@needs_golden
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line says so, line by line and as JSON."""
    out = tmp_path / "check.json"
    arguments = ["vla", "check", str(GOLDEN), "--runtime", "fast", "--only", "r15_D"]
    assert cli.main([*arguments, "--json", str(out)]) == 0
    assert "ok   r15_D" in capsys.readouterr().out
    assert json.loads(out.read_text())["runtime"] == "fast"
