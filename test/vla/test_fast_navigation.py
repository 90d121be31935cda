"""Captured plans with navigation text of any common length, guided and not, behind one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from vla import small_model as small
from vla.test_fast_captured import NoWaiting, checked
from vla.test_fast_plan import steered

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.fast.captured import CapturedPlan
from alpamayo_ros.vla.fast.replayed import Replayed
from alpamayo_ros.vla.fast.runtime import FastRuntime, without_reasoning
from alpamayo_ros.vla.fast.stem import ROUTE_TEXT_ROOM, Division, divide
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import Planned, PlanningOptions
from alpamayo_ros.vla.initialise import write_checkpoint
from alpamayo_ros.vla.token_sampling import TokenSampling

GREEDY, DRAWN = TokenSampling(top_k=1), TokenSampling(2.0)
WEIGHT = 1.7
OPTIONS = PlanningOptions(tokens=DRAWN, max_new_tokens=16, flow_steps=3)
# Of normalised actions of size 4: keys in two places instead of one are summed in another order.
# `fast` and `eager` are 1e-4 apart for the same reason, another text or token 0.1 and more.
ATOL = 5e-4
DIRT = float("nan")  # what one plan that overflows leaves behind; a mask alone does not stop it
# Tokens of text, guided or not: long before short and none, and both after both.
TICKS = ((ROUTE_TEXT_ROOM, True), (3, False), (0, False), (5, True), (60, False), (0, False),
         (1, True), (9, True))  # fmt: skip


def told(route: int, seed: int = 0, version: str = "1.5") -> Prompt:
    """Two pictures, and a text of that many tokens."""
    return small.prompt(version, [small.row(version, 2, route, seed)], [2])


def guided(options: PlanningOptions) -> PlanningOptions:
    return replace(options, guidance_weight=WEIGHT)


def captured_plans(runtime: FastRuntime) -> list[CapturedPlan]:
    return list(runtime.captures._plans.values())


@torch.inference_mode()
def soil(runtime: FastRuntime) -> None:
    """Put into every place behind a stem what would show in any plan that looks there."""
    for plan in captured_plans(runtime):
        for own in (plan.own, plan.unguided):
            for pair in own._layers if own is not None else ():
                for tensor in pair:
                    tensor.fill_(DIRT)


def equal(ours: Planned, theirs: Planned) -> None:
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.normalised_action, theirs.normalised_action, rtol=0, atol=ATOL)


@pytest.mark.parametrize("reasoning", ["before", "off"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("tokens", [GREEDY, DRAWN])
def test_one_capture_for_any_text(
    monkeypatch: pytest.MonkeyPatch, n: int, tokens: TokenSampling, reasoning: str
) -> None:
    """Captured with the first plan, then texts and reasonings of all lengths: eager's plans and
    those without a capture. What lies in places that no plan has written does not matter."""
    steered(monkeypatch, "1.5", traj_future_start=6.0, im_end=-5.0)
    calls = checked(monkeypatch)
    model, history = small.model("1.5"), small.history()
    runtime, plain = FastRuntime(model), FastRuntime(model)
    lengths, padded, moved = set(), set(), []
    for seed, (route, is_guided) in enumerate(TICKS):
        options = replace(OPTIONS, n_samples=n, tokens=tokens)
        options = guided(options) if is_guided else options
        prompt = told(route, seed)
        runtime.captures.open = not seed
        soil(runtime)
        ours, theirs = (
            one.plan(prompt, *history, options, seed=seed, reasoning=reasoning)
            for one in (runtime, plain)
        )
        equal(ours, theirs)
        sequences = without_reasoning(model, prompt, n) if reasoning == "off" else None
        equal(ours, inference.plan(model, prompt, *history, options, seed, sequences=sequences))
        new = ours.sequences[:, ours.prompt_length :]
        lengths.add(new.shape[1])
        # Pads behind an ended turn: the unguided branch's tokens do not see them, its waypoints do.
        padded.add(is_guided and bool((new[:, :-1] == model.vocabulary.im_end).any()))
        moved.append(ours.normalised_action)
    assert runtime.captures.missed == 0 and len(captured_plans(runtime)) == 1
    assert calls.stayed() and len(calls.of) == 3  # a token, the flow, the guided flow
    assert reasoning == "off" or len(lengths) > 1
    assert (True in padded) == (n == 3 and tokens is DRAWN and reasoning == "before")
    assert float((moved[0] - moved[3]).abs().max()) > 100 * ATOL  # other prompts, other plans


@pytest.mark.parametrize(("n", "draft", "forced"), [(1, 4, False), (1, 4, True), (3, 0, True)])
def test_drafts_and_forced_starts(
    monkeypatch: pytest.MonkeyPatch, n: int, draft: int, forced: bool
) -> None:
    """What is written beside the captured token goes behind the text, too, whether a trajectory
    starts by itself or not."""
    steered(monkeypatch, "1.5", traj_future_start=6.0)
    model, history = small.model("1.5"), small.history()
    runtime, plain = FastRuntime(model, draft_tokens=draft), FastRuntime(model)
    lengths = set()
    for tick, (route, seed) in enumerate(((20, 1), (9, 7), (9, 7), (0, 2), (3, 1))):
        options = replace(OPTIONS, n_samples=n)
        options = guided(options) if route else options
        runtime.captures.open = not tick
        soil(runtime)
        prompt = told(route, seed)
        ours, theirs = (
            one.plan(prompt, *history, options, seed=seed, force_start=forced)
            for one in (runtime, plain)
        )
        equal(ours, theirs)
        followed = ours.sequences
        equal(ours, inference.plan(model, prompt, *history, options, seed, sequences=followed))
        lengths.add(ours.sequences.shape[1] - ours.prompt_length)
    assert runtime.captures.missed == 0 and len(lengths) > 1
    assert not draft or (runtime.draft is not None and runtime.draft.kept)


def test_a_capture_runs_what_it_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a token is put at the first place then, and flows run, of what holds no prompt yet:
    the plan that is captured is right, and so is one between two captures."""
    made = Replayed.__init__

    def warmed(self: Replayed, function: Any, device: torch.device) -> None:
        made(self, function, device)
        with NoWaiting():
            function()

    monkeypatch.setattr(Replayed, "__init__", warmed)
    model, history = small.model("1.5"), small.history()
    runtime, plain = FastRuntime(model), FastRuntime(model)
    runtime.captures.open = True
    for options in (OPTIONS, guided(OPTIONS), replace(guided(OPTIONS), n_samples=2)):
        ours, theirs = (one.plan(told(7), *history, options, seed=2) for one in (runtime, plain))
        equal(ours, theirs)


@pytest.mark.parametrize("first", [0, 11])
def test_reasoning_after(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Between its tokens plans with other texts are made; none changes it or misses a capture."""
    checked(monkeypatch)
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model)
    for tick, route in enumerate((first, 6, 0, 40)):
        runtime.captures.open = not tick
        soil(runtime)
        prompt = told(route, tick)
        runtime.plan(prompt, *history, OPTIONS, seed=tick, reasoning="after")
        assert runtime.fork is not None
        steps = runtime.reason_steps(runtime.fork)
        next(steps)
        runtime.plan(told(50 - route, 9), *history, OPTIONS, seed=9, reasoning="after")
        eager = inference.plan(model, prompt, *history, OPTIONS, seed=tick)
        assert torch.equal(generation.finish(steps), eager.sequences)
    assert runtime.captures.missed == 0 and len(captured_plans(runtime)) == 2


def test_what_runs_without(caplog: pytest.LogCaptureFixture) -> None:
    """A text beyond the room, a weight that was not captured, and guidance where none was: planned
    as ever, counted and told."""
    model, history = small.model("1.5"), small.history()
    runtime, plain = FastRuntime(model), FastRuntime(model)
    runtime.captures.open = True
    runtime.plan(told(0), *history, OPTIONS, seed=1)
    runtime.captures.open = False
    for missed, (route, options) in enumerate((
        (ROUTE_TEXT_ROOM, OPTIONS),
        (ROUTE_TEXT_ROOM + 1, OPTIONS),
        (3, guided(OPTIONS)),
        (3, replace(OPTIONS, guidance_weight=WEIGHT + 1)),
    )):  # fmt: skip
        ours, theirs = (
            one.plan(told(route), *history, options, seed=1) for one in (runtime, plain)
        )
        equal(ours, theirs)
        assert runtime.captures.missed == missed
        assert caplog.text.count("no graph was captured at configure") == missed


def test_division() -> None:
    """The stem is the same with a text and without; R1 has no room for one."""
    vocabulary = small.model("1.5").vocabulary
    rest = 8  # of small.row
    stem = told(0).input_ids.shape[1] - rest
    for route in (0, 1, 70):
        found = divide(told(route), vocabulary)
        assert found == Division(stem, route + 2 if route else 0, rest)
        assert found.room("1.5", 5) == rest + 5 + max(ROUTE_TEXT_ROOM, route) + 2
        assert Division(stem, 0, rest).room("r1", 5) == rest + 5
    rows = [small.row("1.5", 2)] * 2
    assert divide(small.prompt("1.5", rows, [2, 2]), vocabulary) is None
    ids = told(3).input_ids
    start = ids == vocabulary.id_of("route_start")
    for changed in (
        ids.masked_fill(ids == vocabulary.traj_history_end, 5),
        torch.cat((ids[start][None], ids), dim=1),  # a route in front of the history
    ):
        assert divide(replace(told(3), input_ids=changed), vocabulary) is None


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("navigation") / "tiny", "tiny", "1.5")


@pytest.mark.parametrize("reasoning", ["before", "after"])
@pytest.mark.parametrize(
    ("weight", "takes_it", "flows"),
    [(None, True, {None}), (2.0, True, {None, 2.0}), (2.0, False, {None})],
)
def test_configure_captures_what_plans_need(
    manifest: Path, weight: float | None, takes_it: bool, flows: set[float | None], reasoning: str
) -> None:
    """One plan at configure, and later ones miss nothing; a flow of two branches is made only where
    it can be wanted."""
    options = {"max_new_tokens": 3, "flow_steps": 2, "runtime": "fast", "reasoning": reasoning}
    text = manifest.read_text().replace("takes_navigation: true", f"takes_navigation: {takes_it}")
    path = manifest.with_name(f"takes_{takes_it}.yaml")
    path.write_text(text)
    planner = create_backend(str(path), "", {**options, "guidance_weight": weight})
    assert isinstance(planner, VlaBackend)
    planner.load()
    assert planner._fast is not None and not planner._fast.captures.wanted  # no graphs on a CPU
    planner._fast.captures.wanted = True
    planner.warm_up(("front_wide",))
    plans = captured_plans(planner._fast)
    assert {weight for plan in plans for weight in plan._flows} == flows
    for navigation in (None, "Turn left in 30m", "Go on", None) if takes_it else (None,):
        planner.plan(small.sample(("front_wide",), navigation=navigation))
        if reasoning == "after":
            generation.finish(planner.reason())
    assert planner._fast.captures.missed == 0
    assert len(plans) == len(captured_plans(planner._fast)) == (2 if reasoning == "after" else 1)
