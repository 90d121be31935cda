"""`fast` on CUDA as far as shapes and types go: its branches there, which no GPU has run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from vla.shapes_on_cuda import CUDA, Launched, shapes_on_cuda, without_numbers

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla.config import ACTION_DIMS
from alpamayo_ros.vla.fast import captured, captured_flow
from alpamayo_ros.vla.fast.cache import Shared, buffers
from alpamayo_ros.vla.fast.captured import CapturedPlan, PlanShape
from alpamayo_ros.vla.fast.flow import FastExpert, View
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.vision import FastVision
from alpamayo_ros.vla.initialise import random_model
from alpamayo_ros.vla.model import AlpamayoModel

STEM, TAIL, NEW, STEPS = 2900, 37, 21, 3
LAYERS = 3
# Kernels of a layer: 3 norms of 2, one behind a copy; 3 that turn queries and keys, 4 products, 2
# that keep keys and values, 2 of attention and 4 that put it together, 2 of the gate; 2 copies that
# put samples side by side. Another branch has its own of all that comes with keys. The expert's
# states are fp32, to which 2 products are added behind themselves.
A_LAYER, A_BRANCH, IN_FP32 = 26, 11, 2
# Of a token its mask, its embedding and the last norm; of a step the embedding and Euler's sum.
A_TOKEN, A_STEP = 8, 22


class Called:
    """In the place of Replayed: a graph needs a device."""

    def __init__(self, function: Callable[[], Tensor], device: torch.device) -> None:
        assert device.type == "cuda"
        self.function = function
        function()

    def __call__(self) -> Tensor:
        return self.function()


@pytest.fixture(scope="module")
def model() -> AlpamayoModel:
    return random_model("tiny", "1.5", torch.device("cpu"), torch.bfloat16, 0)


@pytest.fixture()
def on_cuda(model: AlpamayoModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[AlpamayoModel]:
    for module in (captured, captured_flow):
        monkeypatch.setattr(module, "Replayed", Called)
    # The highest position is a number, and there are none.
    monkeypatch.setattr(FastExpert, "positions", positions)
    with shapes_on_cuda(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        without_numbers(model)
        yield model


def positions(expert: Any, branches: list[Any]) -> Any:
    first = torch.cat([one.first_position for one in branches])
    return expert._table(first[:, None] + torch.arange(N_WAYPOINTS, device=CUDA))


def planned(model: AlpamayoModel, samples: int, guidance: float | None = None) -> CapturedPlan:
    """Captured behind a prompt whose tail is in use."""
    language, expert = FastLanguage(model), FastExpert(model)
    for table in (language.table, expert._table):
        table.reserve(4096)
    length, hidden = STEM + TAIL, language.text.embed_tokens.weight.shape[1]
    heads, width = language.layers[0]._kv_heads, language.layers[0]._width
    layers = buffers(LAYERS, (1, heads, length, width), model.dtype, CUDA)
    last = torch.empty(1, hidden, dtype=model.dtype, device=CUDA)
    delta = torch.zeros(1, 1, dtype=torch.long, device=CUDA)
    read = Shared(layers, length, last, delta, None)
    made = CapturedPlan(PlanShape(STEM, TAIL + NEW, samples, STEPS, None), read, language, expert)
    made.capture(guidance)
    made.load(read)
    return made


@pytest.mark.parametrize("samples", [1, 6])
def test_a_token(on_cuda: AlpamayoModel, samples: int) -> None:
    """Nothing in it asks for a number, and a layer is few kernels: on a GPU each costs some 2 us,
    which 36 layers multiply."""
    made = planned(on_cuda, samples)
    tokens = torch.zeros(samples, dtype=torch.long, device=CUDA)
    hidden = made.decode(tokens, TAIL)
    assert (hidden.shape, hidden.dtype) == ((samples, 64), torch.bfloat16)
    with Launched() as launched:
        made._decode()
    assert sum(launched.counts.values()) <= A_LAYER * LAYERS + A_TOKEN, launched.counts
    for kind in ("flash", "efficient"):
        assert launched.counts[f"_scaled_dot_product_{kind}_attention"] == LAYERS


@pytest.mark.parametrize("guidance", [None, 1.5])
@pytest.mark.parametrize("samples", [1, 6])
def test_a_flow(on_cuda: AlpamayoModel, samples: int, guidance: float | None) -> None:
    """As a token."""
    made = planned(on_cuda, samples, guidance)
    valid = torch.full((samples,), TAIL + 4, device=CUDA)
    owns = [own for own in (made.own, made.unguided) if own is not None]
    views = [View(own, valid + STEM, valid) for own in owns]
    noise = torch.empty(samples, N_WAYPOINTS, ACTION_DIMS, device=CUDA)
    found = made.denoise(views, noise, guidance)
    assert (found.shape, found.dtype) == (noise.shape, torch.float32)
    with Launched() as launched:
        made._flows[guidance]._once()
    layer = A_LAYER + IN_FP32 + A_BRANCH * (len(views) - 1)
    assert sum(launched.counts.values()) <= STEPS * (layer * LAYERS + A_STEP), launched.counts


def test_frames(on_cuda: AlpamayoModel) -> None:
    """Resized, cut and encoded in groups of four, the last filled up."""
    frames = torch.empty(5, 1080, 1920, 3, dtype=torch.uint8, device=CUDA)
    found = FastVision(on_cuda).encode_frames(frames)
    assert [one.embeddings.shape for one in found] == [(180, 64)] * 5
    assert {one.embeddings.dtype for one in found} == {torch.bfloat16}


def test_what_is_asked_for_is_an_error(on_cuda: AlpamayoModel) -> None:
    """The tests above can fail: a number, and shapes that do not fit."""
    made = planned(on_cuda, 1)
    with pytest.raises(Exception, match="aten._local_scalar_dense"):
        made._place.item()
    with pytest.raises(RuntimeError, match="index_copy_"):
        made.own.write_at(0, made._token, made._token, made._place)
