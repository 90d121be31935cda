"""The benchmark of the runtimes: its plain algorithm plans what `eager` does; table, JSON, plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from vla import small_model as small

from alpamayo_ros import cli
from alpamayo_ros.bench import vla_gpu, vla_reference
from alpamayo_ros.bench.vla import GIB, Peaks
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.token_sampling import TokenSampling


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("version", ["r1", "1.5"])
def test_the_plain_algorithm(version: str, n: int) -> None:
    """Greedy, where the seed does not matter: the tokens and trajectories of eager."""
    model, history = small.model(version), small.history()
    prompt = small.prompt(version, [small.row(version, 2)], [2])
    options = PlanningOptions(n, TokenSampling(top_k=1), max_new_tokens=5, flow_steps=3)
    plain = vla_reference.plan(model, prompt, *history, options, seed=4)
    eager = inference.plan(model, prompt, *history, options, seed=4)
    assert torch.equal(plain.sequences, eager.sequences)
    torch.testing.assert_close(plain.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=2e-3)
    assert set(plain.stage_ms) == {*eager.stage_ms, "prepare"}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three runtimes in one run: table, bars, JSON and a plot with a bar for every stage."""
    out, picture = tmp_path / "vla.json", tmp_path / "vla.svg"
    arguments = ["bench", "vla", "--version", "1.5", "--cameras", "1", "--tokens", "2"]
    arguments += ["--repeats", "1", "--steps", "1"]
    assert cli.main([*arguments, "--json", str(out), "--plot", str(picture)]) == 0
    result = json.loads(out.read_text())
    rows = {row["runtime"]: row for row in result["rows"]}
    assert list(rows) == ["reference", "eager", "fast"]
    for row in rows.values():
        assert row["peak_gib"] is None  # a process's highest is no runtime's
        took = row["stages_ms"]
        parts = sum(took[stage]["p50"] for stage in took if stage != "plan")
        # Stages are parts of the plan and next to all of it; a busy machine may pause between two.
        assert 0.2 * took["plan"]["p50"] < parts <= took["plan"]["p50"] * 1.001 + 1.0
    assert {bar["name"] for bar in result["bars"]} == {
        "eager / reference",
        *(f"{one} / fast, {what}" for one in ("reference", "eager")
          for what in ("1 sample", "flow of 1 sample")),
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "reference" in printed and "eager / reference" in printed
    shapes = ElementTree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert len(shapes) == 6 + 3 * 7  # the key; six stages and the rest of three rows


def test_each_runtimes_own_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in use in its own calls, the highest of them; none on a CPU."""
    held = [0]

    def reset(device: torch.device) -> None:
        held[0] = 2

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[0] * GIB)
    peaks, none = Peaks(torch.device("cuda")), Peaks(torch.device("cpu"))
    for name, used in (("eager", 9), ("fast", 5), ("eager", 7), ("fast", 6)):
        with peaks.of(name), none.of(name):
            held[0] = max(held[0], used)
    assert (peaks.gib("eager"), peaks.gib("fast"), peaks.gib("other")) == (9.0, 6.0, None)
    assert none.gib("eager") is None


def made_up_row(runtime: str, n: int, steps: int, tokens: int, plan_ms: float) -> dict[str, Any]:
    stages = ("prepare", "vision", "prefill", "reasoning", "flow", "unicycle")
    took = {stage: {"p50": plan_ms / 10, "p99": plan_ms / 10} for stage in stages}
    took["plan"] = {"p50": plan_ms, "p99": plan_ms * 1.1}
    return {
        "runtime": runtime, "samples": n, "flow_steps": steps, "reasoning_tokens": tokens,
        "stages_ms": took, "eager_over_this": {"plan": 700.0 / plan_ms}, "repeats": 3,
    }  # fmt: skip


def test_goals_of_a_gpu() -> None:
    """From the rows that they are of, met and missed."""
    cases = ((1, 5, 0, 90.0), (16, 5, 0, 200.0), (1, 10, 40, 400.0), (1, 10, 16, 100.0))
    rows = [made_up_row("fast", *case) for case in cases]
    goals = {goal["name"]: (goal["met"], goal["value"]) for goal in vla_gpu.goals(rows)}
    assert goals == {
        "reasoning off, 5 steps, 1 sample: p50 in ms": (True, 90.0),
        "the same: p99 / p50": (True, pytest.approx(1.1)),
        "decode: ms a token": (True, 1.0),
        "expert: ms a step": (False, 4.0),
        "16 samples / 1 sample": (False, pytest.approx(200 / 90)),
        "eager / fast, 16 tokens, 10 steps": (True, 7.0),
    }
