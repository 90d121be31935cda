"""Drafted reasoning: the tokens that are drawn without a draft, several from one pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from vla import small_model as small
from vla.test_fast_plan import steered

from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.fast.captured import CapturedPlan
from alpamayo_ros.vla.fast.draft import REMEMBERED, Draft
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.token_sampling import TokenSampling

GREEDY = TokenSampling(top_k=1)
OPTIONS = PlanningOptions(tokens=GREEDY, max_new_tokens=16, flow_steps=2)
ATOL_M = 2e-3  # golden.result's


def test_what_followed_last() -> None:
    """The longest match, of the newest reasoning, before the prompt's; never behind a limit."""
    draft = Draft(3)
    assert draft.guess([1, 2, 3], 9) == []
    assert draft.guess([1, 2, 3, 4, 9, 2], 9) == [3, 4, 9]
    assert draft.guess([1, 2, 3, 4, 9, 2], 2) == [3, 4]
    draft.remember([0, 5, 6], [7, 8, 2, 11])
    assert draft.guess([1, 2, 3, 4, 9, 2], 9) == [11]
    assert draft.guess([8, 2, 3, 0, 5, 6], 9) == [7, 8, 2]
    draft.remember([0, 5, 6], [7, 12])
    assert draft.guess([4, 0, 5, 6], 9) == [7, 12]
    assert draft.guess([4, 0, 5, 6], 0) == []
    for _ in range(REMEMBERED):
        draft.remember([], [1])
    assert draft.guess([9, 0, 5, 6], 9) == []


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("tokens", [GREEDY, TokenSampling(2.0)])
def test_the_same_tokens(
    monkeypatch: pytest.MonkeyPatch, tokens: TokenSampling, scale: float | None
) -> None:
    """Tick after tick, of which some repeat an earlier one: right guesses and wrong ones."""
    if scale is not None:
        steered(monkeypatch, "1.5", traj_future_start=scale, im_end=scale)
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model, draft_tokens=4)
    options = replace(OPTIONS, tokens=tokens)
    assert runtime.draft is not None
    for seed in (0, 1, 2, 0, 1, 0, 2):
        prompt = small.prompt("1.5", [small.row("1.5", 2, seed=seed)], [2])
        fast = runtime.plan(prompt, *history, options, seed=seed)
        eager = inference.plan(model, prompt, *history, options, seed=seed)
        assert torch.equal(fast.sequences, eager.sequences)
        torch.testing.assert_close(fast.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=ATOL_M)
    assert 0 < runtime.draft.kept < runtime.draft.guessed


def test_fewer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reasoning that is said again is read in passes of five tokens: one drawn, four guessed."""
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model, draft_tokens=4)
    prompt = small.prompt("1.5", [small.row("1.5", 2)], [2])
    passes: list[int] = []
    extend = runtime.language.extend

    def counted(own: object, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        passes.append(tokens.shape[1])
        return extend(own, tokens, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime.language, "extend", counted)
    first = runtime.plan(prompt, *history, OPTIONS, seed=0)
    passes.clear()
    again = runtime.plan(prompt, *history, OPTIONS, seed=0)
    assert torch.equal(first.sequences, again.sequences)
    assert len(passes) <= OPTIONS.max_new_tokens // 3


def test_over_captured_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single token goes through what was captured, several beside it: over the same places."""
    model, history = small.model("1.5"), small.history()
    runtime, singles = FastRuntime(model, draft_tokens=4), 0
    decode = CapturedPlan.decode

    def counted(self: CapturedPlan, tokens: torch.Tensor, index: int) -> torch.Tensor:
        nonlocal singles
        singles += 1
        return decode(self, tokens, index)

    monkeypatch.setattr(CapturedPlan, "decode", counted)
    for seed in (0, 0, 1):
        runtime.captures.open = not seed
        prompt = small.prompt("1.5", [small.row("1.5", 2, seed=seed)], [2])
        fast = runtime.plan(prompt, *history, OPTIONS, seed=seed)
        eager = inference.plan(model, prompt, *history, OPTIONS, seed=seed)
        assert torch.equal(fast.sequences, eager.sequences)
        torch.testing.assert_close(fast.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=ATOL_M)
    assert runtime.captures.missed == 0 and singles
    assert runtime.draft is not None and runtime.draft.kept


@pytest.mark.parametrize("force_start", [False, True])
def test_several_samples_and_forced_starts(force_start: bool) -> None:
    """Samples side by side go without a draft; behind a limit the trajectory starts as ever."""
    model, history = small.model("1.5"), small.history()
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    drafting, plain = FastRuntime(model, draft_tokens=4), FastRuntime(model)
    for n in (1, 2, 1):
        options = replace(OPTIONS, n_samples=n, max_new_tokens=7)
        ours, theirs = (
            runtime.plan(prompt, *history, options, seed=1, force_start=force_start)
            for runtime in (drafting, plain)
        )
        assert torch.equal(ours.sequences, theirs.sequences)
        torch.testing.assert_close(ours.xyz_in_rig_t0, theirs.xyz_in_rig_t0, rtol=0, atol=ATOL_M)


def test_reasoning_after() -> None:
    """Behind the plan, several tokens a step."""
    model, history = small.model("1.5"), small.history()
    prompt = small.prompt("1.5", [small.row("1.5", 2)], [2])
    runtime = FastRuntime(model, draft_tokens=4)
    eager = inference.plan(model, prompt, *history, OPTIONS, seed=4)
    for _ in range(2):
        runtime.plan(prompt, *history, OPTIONS, seed=4, reasoning="after")
        assert runtime.fork is not None
        said = generation.finish(runtime.reason_steps(runtime.fork))
        assert torch.equal(said, eager.sequences)
    assert runtime.draft is not None and runtime.draft.kept
