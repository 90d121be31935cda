"""Prompts to the letter and to the id, and texts that must not enter one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vla.qwen_vocabulary import GOLDEN, needs_golden, needs_qwen, qwen_folder

from alpamayo_ros import model_text
from alpamayo_ros.errors import ModelError
from alpamayo_ros.model_text import MAX_NAVIGATION_LENGTH
from alpamayo_ros.vla.prompt import (
    IMAGE_PAD,
    PromptConfig,
    expand_image_ids,
    expand_images,
    left_padded,
    planning_text,
    question_text,
    tokens_per_image,
    without_route,
)
from alpamayo_ros.vla.tokenizer import load_tokenizer
from alpamayo_ros.vla.vocabulary import QWEN_ADDED, Vocabulary

R1, V15 = PromptConfig.released("r1"), PromptConfig.released("1.5")
NAVIGATION = "Turn left onto De La Cruz Boulevard in 40m"
TEXTS = {
    "r1_4cam": lambda: planning_text(R1, (0, 1, 2, 6)),
    "r15_4cam": lambda: planning_text(V15, (0, 1, 2, 6)),
    "r15_4cam_nav": lambda: planning_text(V15, np.array((0, 1, 2, 6)), navigation=NAVIGATION),
    "r15_1cam": lambda: planning_text(V15, [1]),
    "r15_2cam": lambda: planning_text(V15, (1, 6), frames=(4, 4)),
    "r15_7cam": lambda: planning_text(V15, range(7)),
    "r15_vqa_1cam": lambda: question_text(V15, [1], "Describe the scene."),
}
TINY = Vocabulary.for_base(1050, version="1.5")


def golden() -> Any:
    return np.load(GOLDEN / "full_prompts.npz")


@needs_golden
@pytest.mark.parametrize("case", TEXTS)
def test_the_reference_s_texts(case: str) -> None:
    assert TEXTS[case]() == str(golden()[f"{case}.text"])


@needs_golden
@needs_qwen
@pytest.mark.parametrize("case", TEXTS)
def test_the_reference_s_ids(case: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With Qwen's own vocabulary, images expanded in the text and in the ids."""
    arrays = golden()
    vocabulary = Vocabulary.for_base(version="r1" if case.startswith("r1_") else "1.5")
    tokenizer = load_tokenizer(qwen_folder(tmp_path_factory.getbasetemp()), vocabulary)
    counts = tokens_per_image(torch.from_numpy(arrays[f"{case}.image_grid_thw"]))
    assert set(counts) == {180}
    text = TEXTS[case]()
    wanted = arrays[f"{case}.input_ids"][0].tolist()
    assert tokenizer.encode(expand_images(text, counts)) == wanted
    assert expand_image_ids(tokenizer.encode(text), vocabulary.image_pad, counts) == wanted


def test_cameras_and_frames_in_any_number() -> None:
    """Frame numbers begin anew with each camera; a camera without a name has its number."""
    text = planning_text(V15, (5, 9), frames=(1, 2))
    image = f"<|vision_start|>{IMAGE_PAD}<|vision_end|>"
    assert (
        f"user\nRear right camera: frame 0 {image}Camera 9: frame 0 {image}frame 1 {image}"
        "<|traj_history_start|>"
    ) in text
    assert text.count("<|traj_history|>") == 48
    only_names = PromptConfig("1.5", include_camera_ids=True, include_frame_nums=False)
    assert f"user\nRear camera: {image}{image}<|traj" in planning_text(only_names, [4], 2)
    assert planning_text(R1, (0, 1, 2, 6), navigation="") == planning_text(R1, (0, 1, 2, 6))


@pytest.mark.parametrize(
    ("cameras", "frames", "said"),
    (
        ((), 4, "1 to 7 different cameras, got indices []"),
        (range(8), 4, "1 to 7 different cameras"),
        ((1, 1), 4, r"got indices \[1, 1\]"),
        ((1, -2), 4, r"cameras \[1, -2\] with \[4, 4\] frames"),
        ((1, 2), 0, r"\[0, 0\] frames"),
        ((1, 2), (4,), r"cameras \[1, 2\] with \[4\] frames"),
    ),
)
def test_wrong_cameras(cameras: Any, frames: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said.replace("[]", r"\[\]")):
        planning_text(V15, cameras, frames)


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("", "empty"),
        (" \n ", "empty"),
        ("x" * 1001, "characters, at most"),
        ("a<|route_end|>b", "control markup"),
        ("<i12>", "control markup"),
        ("Take exit <3>", "control markup"),
        ("a\x07b", "control character"),
        ("left \ud800", "control character"),
    ),
)
def test_texts_that_must_not_enter(text: str, said: str) -> None:
    """Navigation text and questions pass the gate that stands before the topics."""
    if text.strip():
        with pytest.raises(ModelError, match=f"^navigation text .*{said}"):
            planning_text(V15, [1], navigation=text)
    with pytest.raises(ModelError, match=f"^the question .*{said}"):
        question_text(V15, [1], text)


@given(st.text(max_size=300))
def test_what_the_topic_s_gate_takes_can_be_planned_with(text: str) -> None:
    """Or a text in force would stop every plan."""
    try:
        cleaned = model_text.clean(text, "navigation text", MAX_NAVIGATION_LENGTH)
    except model_text.TextRefused:
        return
    assert cleaned in planning_text(V15, [1], navigation=cleaned)


@pytest.mark.parametrize("text", [t for t, _ in QWEN_ADDED] + TINY.added_tokens()[::97])
def test_no_token_s_text_enters(text: str) -> None:
    """Not one of the tokenizer's added tokens, wherever it stands."""
    with pytest.raises(ModelError, match="control markup"):
        planning_text(V15, [1], navigation=f"Turn {text} left")


def test_ordinary_texts_enter() -> None:
    """On one line, less the space about them; angles and bars alone are no markup."""
    text = question_text(V15, [1], " Is 3 < 4 | 5 > 2?\nWhy? 为什么 ")
    assert "<|question_start|>Is 3 < 4 | 5 > 2? Why? 为什么<|question_end|><|im_end|>" in text
    for length in (MAX_NAVIGATION_LENGTH, MAX_NAVIGATION_LENGTH - 1):
        assert "x" * length in planning_text(V15, [1], navigation="x" * length)


def test_r1_takes_neither() -> None:
    with pytest.raises(ModelError, match="navigation text needs Alpamayo 1.5"):
        planning_text(R1, (0, 1, 2, 6), navigation="Turn left")
    with pytest.raises(ModelError, match="a question needs Alpamayo 1.5"):
        question_text(R1, (0, 1, 2, 6), "Why?")


def test_images_must_have_their_places() -> None:
    with pytest.raises(ModelError, match="places for 4 images, 3 are given"):
        expand_images(planning_text(V15, [1]), [180] * 3)
    with pytest.raises(ModelError, match="places for 1 images, 2 are given"):
        expand_image_ids([1, 1036, 2], 1036, [2, 2])
    assert expand_image_ids([1036, 5, 1036], 1036, [2, 3]) == [1036] * 2 + [5] + [1036] * 3


# --- without the route ---


@needs_golden
def test_the_reference_s_unguided_prompt() -> None:
    """Exact, from fused ids."""
    arrays = np.load(GOLDEN / "r15_E_nav_cfg15_two_samples.npz")
    ids = torch.from_numpy(arrays["fused_input_ids"])
    ours, mask = without_route(ids, torch.ones_like(ids), TINY)
    np.testing.assert_array_equal(ours, arrays["unguided_input_ids"])
    assert (mask == 1).all()


spans = st.tuples(st.integers(0, 4), st.integers(-1, 4), st.integers(0, 4))


@given(st.lists(spans, min_size=1, max_size=4))
def test_rows_lose_their_routes(rows: list[tuple[int, int, int]]) -> None:
    """Each row of a left-padded batch keeps what is not its route, in order; pads go in front.

    A span is (tokens before, tokens of route or -1 for none, tokens behind)."""
    start, end = TINY.id_of("route_start"), TINY.id_of("route_end")
    prompts, bare = [], []
    for before, route, behind in rows:
        head, tail = list(range(1, before + 2)), list(range(100, 100 + behind))
        inside = [] if route < 0 else [start, *range(50, 50 + route), end]
        prompts.append(head + inside + tail)
        bare.append(head + tail)
    ids, mask = without_route(*left_padded(prompts, TINY.pad), TINY)
    assert [row[m.bool()].tolist() for row, m in zip(ids, mask)] == bare
    assert (ids[mask == 0] == TINY.pad).all()
    assert (mask.diff(dim=1) >= 0).all(), "padding on the left alone"


@pytest.mark.parametrize("wrong", ([1, 2], [2], [2, 1], [1, 1, 2, 2], [1, 2, 1]))
def test_broken_routes(wrong: list[int]) -> None:
    """1 stands for a start, 2 for an end."""
    names = {1: TINY.id_of("route_start"), 2: TINY.id_of("route_end")}
    ids = torch.tensor([[7, *(names[k] for k in wrong), 7]])
    if wrong == [1, 2]:
        assert without_route(ids, torch.ones_like(ids), TINY)[0].tolist() == [[7, 7]]
        return
    with pytest.raises(ModelError, match="row 0 has .* route starts and .* in pairs"):
        without_route(ids, torch.ones_like(ids), TINY)
