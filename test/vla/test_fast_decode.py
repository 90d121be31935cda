"""The nucleus without a sort, and the draw: those of `token_sampling`."""

from __future__ import annotations

from unittest import mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vla import small_model as small

from alpamayo_ros.vla import generation
from alpamayo_ros.vla.fast import decode
from alpamayo_ros.vla.fast.decode import FastHead, attempt, certain, lots, nucleus
from alpamayo_ros.vla.token_sampling import TokenSampling, draw, filter_logits

SAMPLINGS = st.builds(
    TokenSampling, st.floats(0.2, 3.0), st.floats(0.05, 1.0), st.none() | st.integers(2, 40)
)


@st.composite
def logits(draw_from: st.DrawFn) -> torch.Tensor:
    """Rows of any shape: flat, peaked, with equals; few columns, which are sorted, and more."""
    seed, spread = draw_from(st.integers(0, 2**31)), draw_from(st.floats(0.0, 12.0))
    columns = draw_from(st.sampled_from([5, 300, decode.SMALL, decode.SMALL + 1, 6000]))
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(draw_from(st.integers(1, 4)), columns, generator=generator) * spread
    return made.round() if draw_from(st.booleans()) else made


@settings(max_examples=150, deadline=None)
@given(logits(), SAMPLINGS)
def test_the_nucleus(made: torch.Tensor, sampling: TokenSampling) -> None:
    """The same tokens kept, with the same probabilities."""
    filtered = filter_logits(made, sampling)
    expected = filtered.softmax(dim=-1)
    found, unsure = nucleus(made, sampling)
    if bool(unsure):
        found = decode.filtered(made, sampling)
    ours = torch.zeros_like(expected).scatter_(1, found.tokens, found.probabilities)
    kept = torch.zeros_like(expected, dtype=torch.bool)
    kept.scatter_(1, found.tokens, found.probabilities > 0)
    assert torch.equal(kept, expected > 0)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), SAMPLINGS, st.sampled_from([0, decode.SMALL]))
def test_the_draw(seed: int, sampling: TokenSampling, sorted_whole: int) -> None:
    """The token of the same lots, though trajectory rows are never multiplied; with the small
    model's vocabulary sorted whole and not."""
    with mock.patch.object(decode, "SMALL", sorted_whole):
        check_the_draw(seed, sampling)


def check_the_draw(seed: int, sampling: TokenSampling) -> None:
    model = small.model("1.5")
    head = FastHead(model)
    hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(seed)) * 4
    with torch.inference_mode():
        full = generation.planning_logits(model, hidden)
        torch.testing.assert_close(head.all_logits(hidden), full, rtol=0, atol=1e-5)
        expected = draw(full, sampling, torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed)
        drawn = lots(3, head.vocabulary_size, hidden.device, generator)
        picked, unsure = attempt(head, head(hidden), sampling, drawn)
        if bool(unsure):
            picked = certain(head, head(hidden), sampling, drawn)
        assert torch.equal(picked, expected)
        likeliest, unsure = attempt(head, head(hidden), sampling, None)
        assert torch.equal(likeliest, full.argmax(-1)) and not unsure


def test_most_nuclei_need_no_sort() -> None:
    """Of realistic logits over the full vocabulary the likeliest decide."""
    generator = torch.Generator().manual_seed(0)
    decided = 0
    for _ in range(20):
        made = torch.randn(1, 151_697, generator=generator)
        made[0, :400] += torch.linspace(12.0, 0.0, 400)
        decided += not decode.nucleus(made, TokenSampling(0.6, 0.98))[1]
    assert decided >= 15


def test_what_is_not_a_number() -> None:
    """Logits of NaN draw some token: an index out of range would end a CUDA process."""
    for columns in (300, decode.SMALL + 1):
        found, _ = nucleus(torch.full((2, columns), float("nan")), TokenSampling(0.6, 0.98))
        assert bool((found.tokens < columns).all())
