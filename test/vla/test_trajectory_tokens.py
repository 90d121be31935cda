"""History and future tokens: the reference's ids, and what comes back of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.trajectory_tokens import (
    DeltaTokenizer,
    FutureTokenizer,
    fuse_history,
    tangent_weights,
)
from alpamayo_ros.vla.unicycle import UnicycleActionSpace
from alpamayo_ros.vla.vocabulary import Vocabulary

CASES = (
    "r1_A_single_greedy_eos",
    "r1_C_three_samples_staggered",
    "r15_D_four_cams_greedy",
    "r15_E_nav_cfg15_two_samples",
)
EYES = torch.eye(3).expand(1, 16, 3, 3)


def parts() -> dict[str, Any]:
    """The golden arrays as tensors."""
    arrays = np.load(GOLDEN / "parts_tokenizers.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@needs_golden
@pytest.mark.parametrize("yaw", (False, True))
def test_the_reference_s_history_tokens(yaw: bool) -> None:
    """Ids exact, positions too: both are float32 sums of the same numbers in the same order.

    Rotations: 1e-5. The cubic fits are solved in float64 here and in float32 there, which shows
    where a path hardly moves and its tangent is the quotient of two small numbers (2e-6 measured).
    """
    golden, tokenizer = parts(), DeltaTokenizer(predict_yaw=yaw)
    name = "delta_yaw" if yaw else "delta"
    tokens = tokenizer.encode(golden["delta_in_xyz"], golden["delta_in_rot"])
    assert tokens.dtype == torch.int64 and tokens.shape[1] == tokenizer.tokens
    np.testing.assert_array_equal(tokens, golden[f"{name}_tokens"])
    xyz, rot = tokenizer.decode(tokens)
    np.testing.assert_array_equal(xyz, golden[f"{name}_decoded_xyz"])
    np.testing.assert_allclose(rot, golden[f"{name}_decoded_rot"], rtol=0, atol=1e-5)


@needs_golden
def test_the_reference_s_future_tokens() -> None:
    """Ids exact from a path in world terms, by way of our own actions: those differ by up to 6e-5
    from the reference's float32 ones, a hundredth of a bin. Positions decoded: 4e-5 m, the
    rounding of 64 float32 sums (2e-5 measured)."""
    golden = parts()
    unicycle = np.load(GOLDEN / "parts_unicycle.npz")
    of = unicycle["real_hist_index"]
    history = [torch.from_numpy(unicycle[name][of]) for name in ("hist_xyz", "hist_rot")]
    future = [torch.from_numpy(unicycle[f"real_fut_{name}"]) for name in ("xyz", "rot")]
    space, tokenizer = UnicycleActionSpace(), FutureTokenizer()
    tokens = tokenizer.encode(space.to_action(*future, *history))
    np.testing.assert_array_equal(tokens, golden["discrete_tokens"])
    xyz, rot = space.to_trajectory(tokenizer.decode(tokens), *history)
    np.testing.assert_allclose(xyz, golden["discrete_decoded_xyz"], rtol=0, atol=4e-5)
    np.testing.assert_allclose(rot, golden["discrete_decoded_rot"], rtol=0, atol=4e-6)


@needs_golden
@pytest.mark.parametrize("case", CASES)
def test_the_reference_s_fused_prompts(case: str) -> None:
    """A prompt's placeholders replaced, exact."""
    arrays = np.load(GOLDEN / f"{case}.npz")
    np.testing.assert_array_equal(fused(arrays, Vocabulary.for_base(1050)), in_golden(arrays))


def in_golden(arrays: Any) -> np.ndarray:
    fused_ids: np.ndarray = arrays["fused_input_ids"]
    return fused_ids


def fused(arrays: Any, vocabulary: Vocabulary, start: int | None = None) -> torch.Tensor:
    """The case's prompt with its history, whose bins begin at `start`."""
    start = vocabulary.history_token_start if start is None else start
    tokens = DeltaTokenizer().encode(torch.from_numpy(arrays["in_ego_history_xyz"][:, 0]))
    ids = torch.from_numpy(arrays["in_input_ids"])
    return fuse_history(ids, vocabulary.traj_history, start + tokens)


@needs_golden
@pytest.mark.parametrize("fault", ("history in the future's bins", "off by one", "no origin"))
def test_wrong_history_is_seen(fault: str) -> None:
    """The comparison above does not pass a wrong offset of the ids, nor a first step that is not
    taken from the origin."""
    arrays = dict(np.load(GOLDEN / "r15_D_four_cams_greedy.npz"))
    vocabulary = Vocabulary.for_base(1050)
    start = {
        "history in the future's bins": vocabulary.traj_token_start,
        "off by one": vocabulary.history_token_start + 1,
    }.get(fault)
    if fault == "no origin":
        history = arrays["in_ego_history_xyz"]
        arrays["in_ego_history_xyz"] = history - history[:, :, :1]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(fused(arrays, vocabulary, start), in_golden(arrays))


def test_standing_still_is_a_tie() -> None:
    """499.5 goes to 500, in every axis; rounding half up would give the same, truncation not.

    2.5 bins tells half-to-even from half-up: it goes to 2."""
    assert DeltaTokenizer().encode(torch.zeros(1, 16, 3)).unique().tolist() == [500]
    tie = torch.tensor([[[2.5, 3.5]]])
    tokenizer = FutureTokenizer(low=(0.0, 0.0), high=(10.0, 10.0), bins=11)
    assert tokenizer.encode(tie).tolist() == [[2, 4]]


steps = st.lists(
    st.tuples(st.floats(-3.9, 3.9), st.floats(-3.9, 3.9), st.floats(-9.9, 9.9)),
    min_size=16,
    max_size=16,
)


@given(steps, st.booleans())
def test_histories_within_reach_come_back(displacements: list[Any], yaw: bool) -> None:
    """Every step to half a bin (4 mm, 4 mm, 10 mm), and what comes back has the same tokens."""
    xyz = torch.tensor([displacements], dtype=torch.float32).cumsum(dim=1)
    tokenizer = DeltaTokenizer(predict_yaw=yaw)
    tokens = tokenizer.encode(xyz, EYES)
    decoded, rot = tokenizer.decode(tokens)
    wanted = torch.tensor([displacements])
    got = decoded.diff(dim=1, prepend=torch.zeros(1, 1, 3))
    limit = torch.tensor([4.0, 4.0, 10.0]) / 999 + 1e-4
    assert ((got - wanted).abs() <= limit).all()
    np.testing.assert_array_equal(tokenizer.encode(decoded, EYES), tokens)
    np.testing.assert_allclose(rot @ rot.mT, EYES, atol=1e-5)


@given(st.lists(st.floats(-12.0, 12.0), min_size=8, max_size=8))
def test_futures_come_back(values: list[float]) -> None:
    """To half a bin within the bounds; clamped beyond."""
    action = torch.tensor(values).reshape(1, 4, 2)
    tokenizer = FutureTokenizer()
    decoded = tokenizer.decode(tokenizer.encode(action))
    assert ((decoded - action.clamp(-10, 10)).abs() <= 10 / 2999 + 1e-5).all()


def test_the_tangent_of_a_cubic() -> None:
    """Exact for any cubic, at the ends too."""
    at = torch.arange(16, dtype=torch.float64)
    slope = tangent_weights(16) @ (0.02 * at**3 - 0.3 * at**2 + at)
    np.testing.assert_allclose(slope, 0.06 * at**2 - 0.6 * at + 1, atol=1e-10)


@pytest.mark.parametrize(
    ("xyz", "rot", "said"),
    (
        (torch.zeros(1, 15, 3), None, r"history_xyz has shape \(1, 15, 3\), wanted \(B, 16, 3\)"),
        (torch.zeros(16, 3), None, r"history_xyz has shape \(16, 3\)"),
        (torch.zeros(1, 1, 16, 3), None, r"history_xyz has shape \(1, 1, 16, 3\)"),
        (torch.zeros(1, 16, 3), torch.zeros(1, 16, 4), r"history_rot has shape \(1, 16, 4\)"),
        (torch.full((2, 16, 3), torch.nan), None, "not finite at 32 poses, the first in row 0, "),
        (torch.zeros(1, 16, 3), EYES / 0, "history_rot is not finite at 16 poses"),
    ),
)
def test_histories_that_are_none(xyz: torch.Tensor, rot: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        DeltaTokenizer().encode(xyz, rot)


def test_other_wrong_input() -> None:
    with pytest.raises(ModelError, match="wants history_rot"):
        DeltaTokenizer(predict_yaw=True).encode(torch.zeros(1, 16, 3))
    with pytest.raises(ModelError, match=r"\(1, 47\), wanted \(B, 48\)"):
        DeltaTokenizer().decode(torch.zeros(1, 47).long())
    with pytest.raises(ModelError, match=r"\(64, 2\), wanted \(B, waypoints, 2\)"):
        FutureTokenizer().encode(torch.zeros(64, 2))
    with pytest.raises(ModelError, match=r"\(1, 127\), wanted"):
        FutureTokenizer().decode(torch.zeros(1, 127).long())


def test_placeholders_must_match() -> None:
    """Counted row by row: 3 and 1 are not 2 and 2."""
    ids = torch.tensor([[9, 9, 9, 0], [9, 0, 0, 0]])
    with pytest.raises(ModelError, match=r"row 0 has 3 .* \(id 9\), its history makes 2 tokens"):
        fuse_history(ids, 9, torch.ones(2, 2).long())
    with pytest.raises(ModelError, match=r"\(2, 4\) and history ids \(1, 2\)"):
        fuse_history(ids, 9, torch.ones(1, 2).long())
    good = torch.tensor([[9, 5, 9, 0], [0, 9, 9, 5]])
    tokens = torch.tensor([[1, 2], [3, 4]])
    assert fuse_history(good, 9, tokens).tolist() == [[1, 5, 2, 0], [0, 3, 4, 5]]
    assert good[0, 0] == 9, "the caller's ids stay"
