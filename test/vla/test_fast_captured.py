"""What CUDA would capture, called as it is: fixed buffers, nothing that waits for the device."""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vla import small_model as small

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.fast.captured import CapturedPlan
from alpamayo_ros.vla.fast.captured_flow import CapturedFlow
from alpamayo_ros.vla.fast.replayed import Replayed
from alpamayo_ros.vla.fast.runtime import FastRuntime, without_reasoning
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.quant.model import quantise
from alpamayo_ros.vla.quant.precisions import FLOATS, PRECISIONS, choice
from alpamayo_ros.vla.token_sampling import TokenSampling

OPTIONS = PlanningOptions(tokens=TokenSampling(2.0), max_new_tokens=16, flow_steps=3)
ATOL_M = 2e-3  # golden.result's
# Operators that hand a number, or a shape that depends on numbers, to the host.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::equal",
           "aten::masked_select", "aten::is_nonzero"}  # fmt: skip
# Tensors of Python's data or numpy's: on a GPU an unpinned copy from the host.
FROM_HOST = {"aten::lift_fresh", "aten::lift", "aten::lift_fresh_copy"}
COPIES = {"aten::_to_copy", "aten::copy_"}


def masks(args: tuple[Any, ...]) -> bool:
    """Whether an index is a mask: how much it takes depends on its numbers."""
    flat = [one for arg in args if isinstance(arg, (list, tuple)) for one in arg]
    return any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in flat)


def crosses(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy is from one device to another; between a CPU and itself none is."""
    devices = {one.device for one in args if isinstance(one, torch.Tensor)}
    wanted = kwargs.get("device")
    return len(devices | ({torch.device(wanted)} if wanted is not None else set())) > 1


class NoWaiting(TorchDispatchMode):
    """Fails where an operator would wait for the device or take from the host: a capture would."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.name()
        assert name not in WAITING and name not in FROM_HOST, name
        assert not (name.startswith("aten::index") and masks(args)), f"{name} by a mask"
        assert not (name in COPIES and crosses(args, kwargs or {})), f"{name} across devices"
        return func(*args, **(kwargs or {}))


def held(owner: CapturedPlan | CapturedFlow) -> list[torch.Tensor]:
    """What a token or a flow reads and writes."""
    if isinstance(owner, CapturedPlan):
        owns, tensors = [owner.own], [owner._token, owner._place, *owner._turned]
    else:
        owns = [branch.own for branch in owner._branches]
        masks = [branch.mask for branch in owner._branches if branch.mask is not None]
        tensors = [owner._x, *owner._turned, *masks]
    for own in owns:
        tensors += [*own.pair(0, own.room), *own.shared.layers[0]]
    return tensors


class Calls:
    """Where the inputs of what was replayed lay, call by call of each owner."""

    def __init__(self) -> None:
        self.of: dict[CapturedPlan | CapturedFlow, list[list[int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.of.values()))

    def stayed(self) -> bool:
        """Whether every owner's inputs lay where they did at first."""
        return all(call == calls[0] for calls in self.of.values() for call in calls)


def checked(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What would be replayed runs under NoWaiting."""
    calls = Calls()
    plain = Replayed.__call__

    def call(self: Replayed) -> torch.Tensor:
        owner = self._function.__self__  # type: ignore[union-attr]
        calls.of.setdefault(owner, []).append([tensor.data_ptr() for tensor in held(owner)])
        with NoWaiting():
            return plain(self)

    monkeypatch.setattr(Replayed, "__call__", call)
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
    assert len(calls) >= 8 and calls.stayed()
    if n == 1 and reasoning == "before":  # with more samples the last one decides
        assert len(lengths) > 1


def test_reasoning_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has buffers of its own: plans between its tokens change nothing, and the prompt as it was
    read, 0.42 GiB of the 10B model, is let go of."""
    checked(monkeypatch)
    model, history = small.model("1.5"), small.history()
    runtime = FastRuntime(model)
    prompts = [small.prompt("1.5", [small.row("1.5", 2, seed=seed)], [2]) for seed in range(2)]
    with opened(runtime):
        runtime.plan(prompts[0], *history, OPTIONS, seed=3, reasoning="after")
        assert runtime.fork is not None and runtime.fork.shared is not None
        read = weakref.ref(runtime.fork.shared.layers[0][0])
        steps = runtime.reason_steps(runtime.fork)
        assert read() is not None
        next(steps)
        assert read() is None
        with pytest.raises(ModelError, match="begun before"):
            next(runtime.reason_steps(runtime.fork))
    runtime.plan(prompts[1], *history, OPTIONS, seed=4, reasoning="after")
    eager = inference.plan(model, prompts[0], *history, OPTIONS, seed=3)
    assert torch.equal(generation.finish(steps), eager.sequences)
    assert runtime.captures.missed == 0


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name not in FLOATS])
def test_each_precision(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A token and a flow on coded weights make nothing of the host's data, and plan the same."""
    if name == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs bitsandbytes: make test installs it")
    calls = checked(monkeypatch)
    model = random_model("tiny", "1.5", torch.device("cpu"), torch.float32, seed=3)
    quantise(model, choice(name, "float32"))
    prompt, history = small.prompt("1.5", [small.row("1.5", 2)], [2]), small.history()
    options = replace(OPTIONS, max_new_tokens=3)
    runtime = FastRuntime(model)
    with opened(runtime):
        fast = runtime.plan(prompt, *history, options, seed=1)
    assert len(calls) > 1
    eager = inference.plan(model, prompt, *history, options, seed=1)
    assert torch.equal(fast.sequences, eager.sequences)
    torch.testing.assert_close(fast.xyz_in_rig_t0, eager.xyz_in_rig_t0, rtol=0, atol=ATOL_M)


def test_what_no_capture_takes() -> None:
    """The guard itself: host-made tensors, masks as an index, and what waits."""
    x = torch.ones(3)
    for forbidden in (lambda: torch.tensor([1.0]), lambda: x[x > 0], lambda: bool(x.any()),
                      lambda: x.to("meta")):  # fmt: skip
        with pytest.raises(AssertionError), NoWaiting():
            forbidden()


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
