"""Rotary positions: equal to the reference's, whatever stands beside a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.positions import mrope_positions

FULL = ("r1_4cam", "r15_4cam", "r15_4cam_nav", "r15_1cam", "r15_2cam", "r15_7cam", "r15_vqa_1cam")
TINY = (
    "r1_A_single_greedy_eos",
    "r1_C_three_samples_staggered",
    "r15_D_four_cams_greedy",
    "r15_E_nav_cfg15_two_samples",
)
IMAGE = 7  # the image token of the made-up prompts below


def golden(name: str) -> Any:
    return np.load(GOLDEN / f"{name}.npz")


def full_case(case: str) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """ids, grid, positions and rope_delta of a prompt with the released vocabulary."""
    arrays = golden("full_prompts")
    ids = torch.from_numpy(arrays[f"{case}.input_ids"].astype(np.int64))
    grid = torch.from_numpy(arrays[f"{case}.image_grid_thw"])
    return ids, grid, arrays[f"{case}.position_ids"], arrays[f"{case}.rope_delta"]


@needs_golden
@pytest.mark.parametrize("case", FULL)
def test_the_full_prompts(case: str) -> None:
    """Exact, at 320 x 576."""
    ids, grid, positions, delta = full_case(case)
    ours, our_delta = mrope_positions(ids, torch.ones_like(ids), grid, 151655)
    np.testing.assert_array_equal(ours, positions)
    np.testing.assert_array_equal(our_delta, delta)
    assert ours.dtype == our_delta.dtype == torch.int64


@needs_golden
@pytest.mark.parametrize("case", TINY)
def test_the_tiny_model_s(case: str) -> None:
    """Exact, a row a sample: the reference repeats the prompt, and its images, for each."""
    arrays = golden(case)
    samples = len(arrays["rope_deltas"])
    ids = torch.from_numpy(arrays["fused_input_ids"]).expand(samples, -1)
    grid = torch.from_numpy(arrays["in_image_grid_thw"]).repeat(samples, 1)
    ours, delta = mrope_positions(ids, torch.ones_like(ids), grid, 1036)
    np.testing.assert_array_equal(ours, arrays["prefill_position_ids"])
    np.testing.assert_array_equal(delta, arrays["rope_deltas"])


@needs_golden
def test_the_unguided_prompt_s() -> None:
    """The same prompt without its route."""
    arrays = golden("r15_E_nav_cfg15_two_samples")
    ids = torch.from_numpy(arrays["unguided_input_ids"])
    grid = torch.from_numpy(arrays["in_image_grid_thw"])
    ours, _ = mrope_positions(ids, torch.ones_like(ids), grid, 1036)
    np.testing.assert_array_equal(ours, arrays["unguided_pass0_position_ids"])


@needs_golden
@pytest.mark.parametrize("fault", ("shifted", "swapped rows and columns", "whole patches"))
def test_wrong_positions_are_seen(fault: str) -> None:
    """The comparison above is one that a position off by one, and a turned grid, do not pass."""
    ids, grid, positions, _ = full_case("r15_4cam")
    if fault == "shifted":
        ours = mrope_positions(ids, torch.ones_like(ids), grid, 151655)[0] + 1
    elif fault == "whole patches":
        with pytest.raises(ModelError, match="2880 image tokens, its 16 images make 11520"):
            mrope_positions(ids, torch.ones_like(ids), grid, 151655, merge_size=1)
        return
    else:
        ours, _ = mrope_positions(ids, torch.ones_like(ids), grid[:, [0, 2, 1]], 151655)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(ours, positions)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Ids with images in any places, and the images' sizes in tokens."""
    ids: list[int] = [1] * draw(st.integers(0, 3))
    images = []
    for _ in range(draw(st.integers(0, 3))):
        sides = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 4)))
        images.append(sides)
        ids += [IMAGE] * (sides[0] * sides[1] * sides[2]) + [2] * draw(st.integers(0, 3))
    return ids + [3], images


def one_by_one(
    ids: list[int], images: list[tuple[int, int, int]]
) -> tuple[list[tuple[int, ...]], int]:
    """The definition, walked along: positions, and the next free one."""
    positions: list[tuple[int, ...]] = []
    following, at, remaining = 0, 0, list(images)
    while at < len(ids):
        if ids[at] != IMAGE:
            positions.append((following,) * 3)
            following, at = following + 1, at + 1
            continue
        frames, rows, columns = remaining.pop(0)
        for place in np.ndindex(frames, rows, columns):
            positions.append(tuple(following + k for k in place))
        following, at = following + max(frames, rows, columns), at + frames * rows * columns
    return positions, following


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(prompts(), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3))
def test_a_batch_is_its_rows(rows: list[Any]) -> None:
    """Each row of a batch, padded on either side, has the positions that it has alone; padding
    has 1; and a decoded token continues from the row's last position."""
    length = max(before + len(ids) + after for (ids, _), before, after in rows)
    batch = torch.full((len(rows), length), IMAGE)  # pads look like images, and are none
    mask = torch.zeros_like(batch)
    for k, ((ids, _), before, _) in enumerate(rows):
        batch[k, before : before + len(ids)] = torch.tensor(ids)
        mask[k, before : before + len(ids)] = 1
    sizes = [(t, 2 * h, 2 * w) for (_, images), _, _ in rows for t, h, w in images]
    grid = torch.tensor(sizes, dtype=torch.int64).reshape(-1, 3)
    positions, delta = mrope_positions(batch, mask, grid, IMAGE)
    for k, ((ids, images), _, _) in enumerate(rows):
        wanted, following = one_by_one(ids, images)
        np.testing.assert_array_equal(positions[:, k, mask[k].bool()].T, wanted)
        assert (positions[:, k, ~mask[k].bool()] == 1).all()
        assert int(delta[k]) + length == following


@needs_golden
def test_left_padding_does_not_move_a_row() -> None:
    """A prompt with 11 pads in front, beside one of full length, as in a batch with and without
    navigation."""
    long_ids, grid, long_positions, long_delta = full_case("r15_4cam_nav")
    ids, _, positions, delta = full_case("r15_4cam")
    pads = long_ids.shape[1] - ids.shape[1]
    padded = torch.nn.functional.pad(ids, (pads, 0), value=151643)
    mask = torch.ones((2, long_ids.shape[1]), dtype=torch.int64)
    mask[0, :pads] = 0
    ours, our_delta = mrope_positions(
        torch.cat((padded, long_ids)), mask, grid.repeat(2, 1), 151655
    )
    np.testing.assert_array_equal(ours[:, :1, pads:], positions)
    np.testing.assert_array_equal(ours[:, 1:], long_positions)
    assert our_delta.flatten().tolist() == [int(delta[0, 0]) - pads, int(long_delta[0, 0])]


def test_images_and_their_tokens_must_match() -> None:
    """Counts, and that an image is in one piece."""
    grid = torch.tensor([[1, 4, 4]])
    ids = torch.tensor([[1, IMAGE, IMAGE, IMAGE, 2]])
    with pytest.raises(ModelError, match="3 image tokens, its 1 images make 4"):
        mrope_positions(ids, torch.ones_like(ids), grid, IMAGE)
    torn = torch.tensor([[IMAGE, IMAGE, 2, IMAGE, IMAGE]])
    with pytest.raises(ModelError, match="4 tokens of image 0 are not side by side"):
        mrope_positions(torn, torch.ones_like(torn), grid, IMAGE)
    over_two_rows = torch.tensor([[1, IMAGE, IMAGE], [IMAGE, IMAGE, 1]])
    with pytest.raises(ModelError, match="not side by side in one prompt"):
        mrope_positions(over_two_rows, torch.ones_like(over_two_rows), grid, IMAGE)
    with pytest.raises(ModelError, match="row 1 is nothing but padding"):
        mrope_positions(torch.ones(2, 3).long(), torch.tensor([[1, 1, 1], [0, 0, 0]]), grid, IMAGE)
