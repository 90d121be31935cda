"""The ids of every added token, as released and in the tiny layout."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.vocabulary import QWEN_ADDED, QWEN_BASE_SIZE, Vocabulary, special_names


@needs_golden
@pytest.mark.parametrize(("version", "key"), (("r1", "r1_special"), ("1.5", "r15_special")))
def test_the_released_ids(version: str, key: str) -> None:
    """Every id of tokens.json, in its order; its traj_token_end is the last id, ours one more."""
    golden = json.loads((GOLDEN / "tokens.json").read_text())
    vocabulary = Vocabulary.for_base(version=version)
    assert list(vocabulary.special_ids.items()) == list(golden[key].items())
    assert vocabulary.base_size == golden["base_len"]
    assert vocabulary.traj_token_start == golden["traj_token_start"]
    assert vocabulary.traj_token_end == golden["traj_token_end"] + 1
    assert vocabulary.history_token_start == golden["hist_token_start"]
    assert vocabulary.size == golden["vocab_size"]
    qwen = {text: QWEN_BASE_SIZE - 26 + k for k, (text, _) in enumerate(QWEN_ADDED)}
    assert golden["qwen"].items() <= qwen.items()
    assert qwen["</think>"] == 151668
    named = (vocabulary.pad, vocabulary.im_start, vocabulary.im_end, vocabulary.image_pad)
    assert named == (151643, 151644, 151645, 151655)
    assert (vocabulary.vision_start, vocabulary.vision_end) == (151652, 151653)


@needs_golden
def test_a_wrong_history_offset_is_seen() -> None:
    """The fault: history ids that begin where the trajectory's tokens do."""
    golden = json.loads((GOLDEN / "tokens.json").read_text())
    assert Vocabulary.for_base().traj_token_start != golden["hist_token_start"]
    assert Vocabulary.for_base(future_bins=1000).history_token_start != golden["hist_token_start"]


@needs_golden
@pytest.mark.parametrize("version", ("r1", "1.5"))
def test_the_tiny_layout(version: str) -> None:
    """The ids that the tiny model's inputs were made with."""
    config = json.loads((GOLDEN / f"tiny_{version.replace('1.5', 'r15')}_config.json").read_text())
    vocabulary = Vocabulary.for_base(1050, version=version)
    ids = (vocabulary.pad, vocabulary.im_end, vocabulary.vision_start, vocabulary.vision_end)
    assert ids == (1024, 1026, 1033, 1034) and vocabulary.image_pad == 1036
    new = [i for name, i in vocabulary.special_ids.items() if name != "image_pad"]
    assert new == list(range(5050, 5078))
    assert (vocabulary.history_token_start, vocabulary.size) == (4050, config["vocab_size"])
    assert vocabulary.traj_token_start == config["traj_token_start_idx"]
    stated = {f"traj_{name}": i for name, i in config["traj_token_ids"].items()}
    assert stated.items() <= vocabulary.special_ids.items()
    assert vocabulary.traj_history == stated["traj_history"]
    assert vocabulary.traj_future == stated["traj_future"]
    for name in ("traj_history_start", "traj_history_end", "traj_future_start"):
        assert getattr(vocabulary, name) == stated[name]


@given(
    st.integers(27, 200_000), st.sampled_from(("r1", "1.5")), st.booleans(), st.integers(0, 5000)
)
def test_texts_and_ids_agree(base: int, version: str, special: bool, future: int) -> None:
    """added_tokens() lists ids from the base's size on without a gap or a repetition."""
    vocabulary = Vocabulary.for_base(
        base,
        version=version,
        add_special_tokens=special,
        future_bins=future,
        history_bins=3,
        traj_vocab_size=future + 5,
    )
    texts = vocabulary.added_tokens()
    assert len(set(texts)) == len(texts) == vocabulary.size - base
    assert texts[0] == "<i0>" and texts[future + 4] == f"<i{future + 4}>"
    for name, i in vocabulary.special_ids.items():
        if name != "image_pad":
            assert texts[i - base] == f"<|{name}|>"


def test_without_special_tokens() -> None:
    """`add_special_tokens: false` adds six, in an order of their own."""
    vocabulary = Vocabulary.for_base(1050, add_special_tokens=False)
    assert vocabulary.special_tokens() == [
        "<|traj_history|>",
        "<|traj_future|>",
        "<|traj_history_start|>",
        "<|traj_future_start|>",
        "<|traj_history_end|>",
        "<|traj_future_end|>",
    ]
    assert (vocabulary.traj_history, vocabulary.size) == (5050, 5056)
    with pytest.raises(ModelError, match=r"false.*<\|cot_start\|>; it has traj_history, "):
        vocabulary.id_of("cot_start")


def test_names_that_1_5_does_not_use() -> None:
    """It pads their ids, and does not know them."""
    names = special_names("1.5")
    assert names[3] == "_padding_0" and names[21] == "_padding_8"
    assert "meta_action_end" in special_names("r1") and "meta_action_end" not in names


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        ({"version": "r2"}, "'r2' is none of r1, 1.5"),
        ({"traj_vocab_size": 768}, "768 has no room for 3000 future and 1000 history bins"),
        ({"base_size": 20}, "20 has no room for Qwen's 26"),
    ),
)
def test_what_cannot_be(arguments: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Vocabulary.for_base(**arguments)


def test_base_ids_beyond_the_base() -> None:
    with pytest.raises(ModelError, match=r"\[100\] lie outside \[0, 100\)"):
        Vocabulary(100, 100, 1, 2, 3, 4, 5, 6)
