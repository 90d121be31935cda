"""Plans of `fast` beside those of `eager`: tokens equal, trajectories within the tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vla import small_model as small

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast import cache, language, reason
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.generation import Prompt
from alpamayo_ros.vla.inference import Planned, PlanningOptions
from alpamayo_ros.vla.token_sampling import TokenSampling

GREEDY = TokenSampling(top_k=1)
OPTIONS = PlanningOptions(tokens=GREEDY, max_new_tokens=6, flow_steps=4)
ATOL_M = 2e-3  # golden.result's


@pytest.fixture(autouse=True)
def dirty_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may hold NaN: what is read before it is written would reach a plan, in any test."""
    made = cache.buffers

    def dirty(*arguments: Any) -> list[cache.Pair]:
        pairs = made(*arguments)
        for keys, values in pairs:
            keys.fill_(float("nan"))
            values.fill_(float("nan"))
        return pairs

    monkeypatch.setattr(cache, "buffers", dirty)
    monkeypatch.setattr(language, "buffers", dirty)


def both(
    version: str, prompt: Prompt, options: PlanningOptions, seed: int = 5
) -> tuple[Planned, Planned]:
    """The plan of each runtime, fast first."""
    model = small.model(version)
    history = small.history(len(prompt.input_ids))
    fast = FastRuntime(model).plan(prompt, *history, options, seed=seed)
    return fast, inference.plan(model, prompt, *history, options, seed=seed)


def equal(fast: Planned, eager: Planned) -> None:
    assert torch.equal(fast.sequences, eager.sequences)
    torch.testing.assert_close(fast.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=ATOL_M)
    torch.testing.assert_close(fast.rot_in_rig_t0, eager.rot_in_rig_t0, rtol=0, atol=ATOL_M)


@pytest.mark.parametrize("version", ["r1", "1.5"])
@pytest.mark.parametrize("images", [[2], [1, 4, 2]])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    "tokens", [GREEDY, TokenSampling(), TokenSampling(1.0, 0.5), TokenSampling(1.0, 1.0, 7)]
)
def test_equal_to_eager(version: str, images: Sequence[int], n: int, tokens: TokenSampling) -> None:
    """Single prompts and left-padded batches, greedy and drawn by lot with the same seed."""
    rows = [small.row(version, count, seed=count) for count in images]
    prompt = small.prompt(version, rows, list(images))
    equal(*both(version, prompt, replace(OPTIONS, n_samples=n, tokens=tokens)))


@pytest.mark.parametrize("version", ["r1", "1.5"])
def test_samples_equal_single_runs(version: str) -> None:
    """One prefill for 16 samples with the noise that each would have by itself."""
    runtime = FastRuntime(small.model(version))
    prompt = small.prompt(version, [small.row(version, 2)], [2])
    noise = torch.randn(16, 64, 2, generator=torch.Generator().manual_seed(0))
    history = small.history()
    many = runtime.plan(prompt, *history, replace(OPTIONS, n_samples=16), noise=noise)
    for s in (0, 7, 15):
        one = runtime.plan(prompt, *history, OPTIONS, noise=noise[s : s + 1])
        assert torch.equal(many.sequences[s], one.sequences[0])
        torch.testing.assert_close(many.xyz_in_rig_t0[s], one.xyz_in_rig_t0[0], rtol=0, atol=ATOL_M)


def steered(monkeypatch: pytest.MonkeyPatch, version: str, **scales: float) -> None:
    """Raise lm_head's rows of these tokens, so that samples draw them at different steps."""
    model = small.model(version)
    changed = model.vlm.lm_head.weight.data.clone()
    for name, scale in scales.items():
        changed[getattr(model.vocabulary, name)] *= scale
    monkeypatch.setattr(model.vlm.lm_head.weight, "data", changed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "scales", [{"traj_future_start": 6.0}, {"traj_future_start": 5.0, "im_end": 5.0}]
)
def test_stop_rule(monkeypatch: pytest.MonkeyPatch, scales: dict[str, float], seed: int) -> None:
    """Samples that start at different tokens are dropped; one that ends its turn takes all back."""
    steered(monkeypatch, "1.5", **scales)
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    options = replace(OPTIONS, n_samples=4, tokens=TokenSampling(2.0), max_new_tokens=24)
    equal(*both("1.5", prompt, options, seed))


class Looks(TorchDispatchMode):
    """Counts what hands numbers of the device to the host, as `bool` and masks do."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.count += func.name() in ("aten::_local_scalar_dense", "aten::nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tokens", [GREEDY, TokenSampling(0.2, 0.6), TokenSampling(2.0)])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_one_look_a_token(
    monkeypatch: pytest.MonkeyPatch, tokens: TokenSampling, scale: float
) -> None:
    """Whoever is done, dropped or started; one more where the likeliest tokens do not decide."""
    steered(monkeypatch, "1.5", traj_future_start=scale)
    runtime, options = FastRuntime(small.model("1.5")), replace(OPTIONS, n_samples=4, tokens=tokens)
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    lists: list[int] = []
    again: list[int] = []
    plain, sure = torch.Tensor.tolist, reason.certain

    def certain(*arguments: Any) -> torch.Tensor:
        again.append(1)
        return sure(*arguments)

    def tolist(tensor: torch.Tensor) -> Any:
        lists.append(tensor.numel())
        return plain(tensor)

    monkeypatch.setattr(reason, "certain", certain)
    with inference.inference_precision(runtime.model):
        own = runtime.prefill(prompt, runtime.see_patches(prompt), options)
        monkeypatch.setattr(torch.Tensor, "tolist", tolist)
        steps = runtime.reasoner.steps(
            prompt, own, tokens, options.max_new_tokens, torch.Generator().manual_seed(2)
        )
        for count in range(1, options.max_new_tokens):
            with Looks() as looks:
                if next(steps, "done") == "done":
                    break
            assert len(lists) == count + len(again) and looks.count == 0
    assert len(lists) > 1 and (tokens is not GREEDY or not again)


@pytest.mark.parametrize("images", [[2], [1, 3]])
@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("n", [1, 3])
def test_guidance(
    monkeypatch: pytest.MonkeyPatch, images: Sequence[int], weight: float, n: int
) -> None:
    steered(monkeypatch, "1.5", traj_future_start=6.0)
    rows = [small.row("1.5", count, route=4 + count, seed=count) for count in images]
    options = replace(
        OPTIONS, n_samples=n, guidance_weight=weight, flow_temperature=0.6,
        tokens=TokenSampling(2.0),
    )  # fmt: skip
    equal(*both("1.5", small.prompt("1.5", rows, list(images)), options))


@pytest.mark.parametrize("reasoning", ["after", "off"])
@pytest.mark.parametrize("version", ["r1", "1.5"])
@pytest.mark.parametrize("n", [1, 3])
def test_without_reasoning(version: str, n: int, reasoning: str) -> None:
    """What the reference plans where the first token already starts the trajectory."""
    model = small.model(version)
    prompt = small.prompt(version, [small.row(version, 2)], [2])
    options = replace(OPTIONS, n_samples=n)
    ids = prompt.input_ids.repeat_interleave(n, 0)
    empty = ids.new_tensor([[model.vocabulary.traj_future_start, 5]]).expand(n, -1)
    eager = inference.plan(
        model, prompt, *small.history(), options, seed=3, sequences=torch.cat((ids, empty), dim=1)
    )
    fast = FastRuntime(model).plan(prompt, *small.history(), options, seed=3, reasoning=reasoning)
    equal(fast, eager)


@pytest.mark.parametrize("images", [[2], [1, 3]])
def test_reasoning_after(monkeypatch: pytest.MonkeyPatch, images: Sequence[int]) -> None:
    """A token a step, with another plan between any two: the tokens that eager draws before."""
    steered(monkeypatch, "1.5", traj_future_start=3.0)
    model = small.model("1.5")
    rows = [small.row("1.5", count, seed=count) for count in images]
    prompt, history = small.prompt("1.5", rows, list(images)), small.history(len(images))
    options = replace(OPTIONS, tokens=TokenSampling(2.0), max_new_tokens=9)
    runtime = FastRuntime(model)
    runtime.plan(prompt, *history, options, seed=4, reasoning="after")
    assert runtime.fork is not None
    steps, count = runtime.reason_steps(runtime.fork), 1
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            sequences = end.value
            break
        other = small.prompt("1.5", [small.row("1.5", 1, seed=count)], [1])
        runtime.plan(other, *small.history(), options, seed=count, reasoning="after")
    eager = inference.plan(model, prompt, *history, options, seed=4)
    assert torch.equal(sequences, eager.sequences)
    assert 2 < count <= 9


def test_a_forced_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the limit the trajectory's start, as if it had been drawn there."""
    steered(monkeypatch, "1.5", traj_future_start=5.0)
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    options = replace(OPTIONS, n_samples=4, tokens=TokenSampling(2.0), max_new_tokens=8)
    fast = FastRuntime(model).plan(prompt, *small.history(), options, seed=1, force_start=True)
    started = (fast.sequences == model.vocabulary.traj_future_start).any(dim=1)
    assert started.all()
    eager = inference.plan(
        model, prompt, *small.history(), options, seed=1, sequences=fast.sequences
    )
    equal(fast, eager)


def test_layouts_and_buffers_serve_again() -> None:
    """Plans one after another, of other prompts between: each is what it would be first."""
    runtime = FastRuntime(small.model("1.5"))
    for images in (2, 3, 2, 1, 2):
        prompt = small.prompt("1.5", [small.row("1.5", images, seed=images)], [images])
        ours = runtime.plan(prompt, *small.history(), OPTIONS, seed=1)
        fresh = FastRuntime(small.model("1.5")).plan(prompt, *small.history(), OPTIONS, seed=1)
        assert torch.equal(ours.xyz_in_rig_t0, fresh.xyz_in_rig_t0)


def test_bfloat16() -> None:
    """Under autocast it plans, in fp32 at the end, for one sample and for more."""
    from alpamayo_ros.vla.initialise import random_model

    model = random_model("tiny", "r1", torch.device("cpu"), torch.bfloat16, seed=3)
    prompt = small.prompt("r1", [small.row("r1", 2)], [2])
    for n in (1, 2):
        options = replace(OPTIONS, n_samples=n)
        planned = FastRuntime(model).plan(prompt, *small.history(), options, seed=1)
        assert planned.xyz_in_rig_t0.dtype == torch.float32
        assert torch.isfinite(planned.xyz_in_rig_t0).all()


def test_refusals() -> None:
    runtime = FastRuntime(small.model("1.5"))
    prompt = small.prompt("1.5", [small.row("1.5", 2)], [3])
    with pytest.raises(ModelError, match="12 image tokens.*18"):
        runtime.plan(prompt, *small.history(), OPTIONS)
    with pytest.raises(ModelError, match="reasoning is 'later', wanted before, after, off"):
        runtime.plan(prompt, *small.history(), OPTIONS, reasoning="later")
    with pytest.raises(ModelError, match="no navigation text"):
        runtime.plan(prompt, *small.history(), replace(OPTIONS, guidance_weight=1.5))
