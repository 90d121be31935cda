"""What CUDA would capture, called as it is: fixed buffers, nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vla import small_model as small

from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.fast import captured
from alpamayo_ros.vla.fast.runtime import FastRuntime, without_reasoning
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.token_sampling import TokenSampling

OPTIONS = PlanningOptions(tokens=TokenSampling(2.0), max_new_tokens=16, flow_steps=3)
ATOL_M = 2e-3  # golden.result's
# Operators that hand a number, or a shape that depends on numbers, to the host.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::equal",
           "aten::masked_select", "aten::is_nonzero"}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Fails where an operator would wait for the device: a capture would, too."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        assert func.name() not in WAITING, func.name()
        return func(*args, **(kwargs or {}))


def checked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What would be replayed runs under NoWaiting; where its inputs lie, call by call."""
    calls: list[list[int]] = []
    plain = captured.Replayed.__call__

    def call(self: captured.Replayed) -> torch.Tensor:
        owner = self._function.__self__  # type: ignore[attr-defined]
        held = [owner._token, owner._place, *owner._turned, *owner.own.pair(0, owner.own.room),
                *owner.own.shared.layers[0]]  # fmt: skip
        calls.append([tensor.data_ptr() for tensor in held])
        with NoWaiting():
            return plain(self)

    monkeypatch.setattr(captured.Replayed, "__call__", call)
    return calls


@contextmanager
def opened(runtime: FastRuntime) -> Iterator[None]:
    runtime.captures.open = True
    yield
    runtime.captures.open = False


@pytest.mark.parametrize("reasoning", ["before", "off"])
@pytest.mark.parametrize("n", [1, 3])
def test_equal_to_eager(monkeypatch: pytest.MonkeyPatch, n: int, reasoning: str) -> None:
    """Prompt after prompt through the same buffers, reasonings of different lengths."""
    calls = checked(monkeypatch)
    model = small.model("1.5")
    changed = model.vlm.lm_head.weight.data.clone()
    changed[model.vocabulary.traj_future_start] *= 6.0  # so that reasonings end before the limit
    monkeypatch.setattr(model.vlm.lm_head.weight, "data", changed)
    runtime, options = FastRuntime(model), replace(OPTIONS, n_samples=n)
    lengths = set()
    for seed in range(4):
        prompt, history = (
            small.prompt("1.5", [small.row("1.5", 2, seed=seed)], [2]),
            small.history(),
        )
        runtime.captures.open = seed == 0
        fast = runtime.plan(prompt, *history, options, seed=seed, reasoning=reasoning)
        sequences = without_reasoning(model, prompt, n) if reasoning == "off" else None
        eager = inference.plan(model, prompt, *history, options, seed=seed, sequences=sequences)
        assert torch.equal(fast.sequences, eager.sequences)
        torch.testing.assert_close(fast.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=ATOL_M)
        lengths.add(fast.sequences.shape[1])
    assert runtime.captures.missed == 0
    assert len(calls) >= 8 and all(call == calls[0] for call in calls)
    if n == 1 and reasoning == "before":  # with more samples the last one decides
        assert len(lengths) > 1


def test_reasoning_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has buffers of its own: plans between its tokens change nothing."""
    checked(monkeypatch)
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model)
    prompts = [small.prompt("1.5", [small.row("1.5", 2, seed=seed)], [2]) for seed in range(2)]
    with opened(runtime):
        runtime.plan(prompts[0], *history, OPTIONS, seed=3, reasoning="after")
        assert runtime.fork is not None
        steps = runtime.reason_steps(runtime.fork)
        next(steps)
    runtime.plan(prompts[1], *history, OPTIONS, seed=4, reasoning="after")
    eager = inference.plan(model, prompts[0], *history, OPTIONS, seed=3)
    assert torch.equal(generation.finish(steps), eager.sequences)
    assert runtime.captures.missed == 0


def test_another_shape_runs_without(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is captured in a tick: it is planned as ever, counted, and told once."""
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model)
    prompt, longer = (small.prompt("1.5", [small.row("1.5", k)], [k]) for k in (2, 3))
    with opened(runtime):
        runtime.plan(prompt, *history, OPTIONS, seed=1)
    for _ in range(2):
        fast = runtime.plan(longer, *history, OPTIONS, seed=1)
    fresh = FastRuntime(model).plan(longer, *history, OPTIONS, seed=1)
    assert torch.equal(fast.xyz_in_rig_t0, fresh.xyz_in_rig_t0)
    assert runtime.captures.missed == 2
    assert caplog.text.count("no graph was captured at configure") == 1
