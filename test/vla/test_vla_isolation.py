"""Alpamayo in a process of its own: plans and answers equal those of a thread to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from vla import small_model as small

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.isolation.backend import IsolatedBackend, isolated
from alpamayo_ros.types import Answer, Plan
from alpamayo_ros.vla.initialise import write_checkpoint

LIMIT_S = 300.0  # transformers alone takes 4 to 20 s to import, by what else the machine does


def _comparable(plan: Plan) -> dict[str, Any]:
    return {
        entry.name: value.tobytes() if isinstance(value, np.ndarray) else value
        for entry in dataclasses.fields(plan)
        for value in [getattr(plan, entry.name)]
        if entry.name != "stage_ms"  # the only thing that is measured
    }


def _run(backend: PlannerBackend) -> tuple[list[dict[str, Any]], Answer, list[str]]:
    """Two plans, the second chosen by the first, and an answer begun between them."""
    sample = small.sample(("front_wide",))
    later = dataclasses.replace(sample, t0_ns=sample.t0_ns + 100_000_000, navigation="Turn left")
    first = backend.plan(sample)
    asked = backend.ask(sample, "Is the lane ahead free?")
    next(asked)
    second = backend.plan(later)
    while True:
        try:
            next(asked)
        except StopIteration as stop:
            answer = stop.value
            break
    return [_comparable(first), _comparable(second)], answer, sorted(first.stage_ms)


def test_equal_to_a_thread(tmp_path: Path) -> None:
    """It is the default for Alpamayo; frames are resized by the same filter on this side."""
    manifest = str(write_checkpoint(tmp_path / "tiny", "tiny", "1.5"))
    options = {"samples": 2, "choice": "closest", "max_new_tokens": 4, "flow_steps": 2,
               "max_answer_tokens": 4}  # fmt: skip
    here, inner = (create_backend(manifest, "", options) for _ in range(2))
    there = isolated(inner, "auto", LIMIT_S, LIMIT_S)
    assert isinstance(there, IsolatedBackend) and there.resize is here.resize
    here.load()
    there.load()
    try:
        plans, answer, stages = _run(here)
        plans_there, answer_there, stages_there = _run(there)
        assert plans_there == plans
        assert (answer_there.text, answer_there.t0_ns) == (answer.text, answer.t0_ns)
        assert stages_there == stages
    finally:
        there.close()
