"""The benchmark of the runtimes: its plain algorithm plans what `eager` does; table, JSON, plot."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from vla import small_model as small

from alpamayo_ros import cli
from alpamayo_ros.bench import vla_reference
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
