"""Tokenizers from folders: Qwen's with our tokens behind it, tiny ones, and what is none."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vla.qwen_vocabulary import GOLDEN, needs_golden, needs_qwen, qwen_folder

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.tiny_tokenizer import write_tiny_tokenizer
from alpamayo_ros.vla.tokenizer import AlpamayoTokenizer, load_tokenizer
from alpamayo_ros.vla.vocabulary import Vocabulary

TINY = Vocabulary.for_base(1050)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert write_tiny_tokenizer(folder) == 1050
    return folder


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> AlpamayoTokenizer:
    return load_tokenizer(tiny_folder, TINY)


@pytest.fixture(scope="session")
def full_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory.getbasetemp())


@needs_qwen
@needs_golden
@pytest.mark.parametrize(("version", "key"), (("r1", "r1_special"), ("1.5", "r15_special")))
def test_the_released_ids(full_folder: Path, version: str, key: str) -> None:
    """Every added token of tokens.json is one token with its id, in a text too."""
    golden = json.loads((GOLDEN / "tokens.json").read_text())
    tokenizer = load_tokenizer(full_folder, Vocabulary.for_base(version=version))
    special = {f"<|{name}|>": i for name, i in golden[key].items()}
    wanted = special | golden["qwen"] | {"<i0>": 151669, "<i3000>": 154669, "<i3999>": 155668}
    assert {text: tokenizer.id_of(text) for text in wanted} == wanted
    assert tokenizer.encode("".join(wanted)) == list(wanted.values())
    assert tokenizer.decode(list(wanted.values())) == "".join(wanted)
    assert tokenizer.decode([9842, *special.values()], skip_special_tokens=True) == " driving"


@needs_qwen
def test_a_released_folder_and_the_older_files(full_folder: Path, tmp_path: Path) -> None:
    """A folder that has our tokens already, and vocab.json with merges.txt, give the same ids;
    another version's folder is told by the first token that differs."""
    vocabulary = Vocabulary.for_base(version="1.5")
    first = load_tokenizer(full_folder, vocabulary)
    saved = first.save(tmp_path / "released")
    again = load_tokenizer(saved.parent, vocabulary)
    model = json.loads((full_folder / "tokenizer.json").read_text())["model"]
    pair = tmp_path / "pair"
    pair.mkdir()
    (pair / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(merge) for merge in model["merges"]]
    (pair / "merges.txt").write_text("\n".join(("#version: 0.2", *merges)) + "\n")
    older = load_tokenizer(pair, vocabulary)
    text = (
        "<|route_start|>Turn left onto De La Cruz Boulevard in 40m<|route_end|> 自动驾驶\n\n x<i7>"
    )
    ids = first.encode(text)
    assert again.encode(text) == older.encode(text) == ids
    assert first.decode(ids) == again.decode(ids) == text
    with pytest.raises(
        ModelError, match=r"id 155672 .* '<\|_padding_0\|>'; version r1 .*image_pre"
    ):
        load_tokenizer(saved.parent, Vocabulary.for_base(version="r1"))


@needs_qwen
@needs_golden
@pytest.mark.parametrize(
    "case", ("r1_A_single_greedy_eos", "r15_D_four_cams_greedy", "r15_E_nav_cfg15_two_samples")
)
def test_the_tiny_golden_prompts(case: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Their vocabulary is Qwen's first 1024 ranks: text to ids, exact."""
    arrays = np.load(GOLDEN / f"{case}.npz")
    version = "r1" if case.startswith("r1_") else "1.5"
    folder = qwen_folder(tmp_path_factory.getbasetemp(), 1024)
    tokenizer = load_tokenizer(folder, Vocabulary.for_base(1050, version=version))
    pad = tokenizer.vocabulary.image_pad
    wanted = arrays["in_input_ids"][0].tolist()
    once = [i for k, i in enumerate(wanted) if i != pad or wanted[k - 1] != pad]
    assert tokenizer.encode(str(arrays["prompt_text"])) == once


@pytest.mark.parametrize("version", ("r1", "1.5"))
def test_a_tiny_one(tiny_folder: Path, version: str) -> None:
    """Its added tokens lie where the tiny model wants them."""
    vocabulary = Vocabulary.for_base(1050, version=version)
    tokenizer = load_tokenizer(tiny_folder, vocabulary)
    assert tokenizer.encode("<i0><|traj_history|><|image_pad|>") == [1050, 5065, 1036]
    assert tokenizer.id_of("</think>") == 1049
    ids = tokenizer.encode("Nudge to the left to pass the parked truck.")
    assert len(ids) < 20 and max(ids) < 1024
    assert tokenizer.decode([*ids, 1026]) == "Nudge to the left to pass the parked truck.<|im_end|>"


def test_tiny_ones_are_all_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    """Made twice, byte for byte; and in another size."""
    write_tiny_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tiny_folder / name).read_bytes()
    assert write_tiny_tokenizer(tmp_path / "small", ranks=256) == 282
    small = load_tokenizer(tmp_path / "small", Vocabulary.for_base(282))
    assert small.encode("lane") == [ord(letter) - 33 for letter in "lane"]
    with pytest.raises(ModelError, match="255 tokens has no room"):
        write_tiny_tokenizer(tmp_path, ranks=255)
    with pytest.raises(ModelError, match="at most"):
        write_tiny_tokenizer(tmp_path, ranks=100_000)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_back(tiny: AlpamayoTokenizer, text: str) -> None:
    """Up to Unicode's normal form, which Qwen brings a text to; also through transformers."""
    assert tiny.decode(tiny.encode(text)) == unicodedata.normalize("NFC", text)


def test_strange_ids(tiny: AlpamayoTokenizer) -> None:
    """Half a character, and ids beyond the vocabulary, as a random model's."""
    assert tiny.decode([5078, -1, *tiny.encode("é")[:1], 999_999]) == "\ufffd"
    assert tiny.decode([]) == ""


def test_transformers_reads_it_alike(tiny_folder: Path, tiny: AlpamayoTokenizer) -> None:
    """The same ids from transformers' own class, its tokens added its own way."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tiny_folder), local_files_only=True)
    theirs.add_tokens(TINY.trajectory_tokens())
    theirs.add_tokens(TINY.special_tokens(), special_tokens=True)
    assert len(theirs) == TINY.size
    text = "<|im_start|>user\nKeep  the\tlane, it's 30m<i3>.\n\n<|traj_history|><|im_end|>"
    assert theirs(text).input_ids == tiny.encode(text)
    assert theirs.decode(tiny.encode(text)) == tiny.decode(tiny.encode(text))


# --- folders that are none ---


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """With the way to obtain one."""
    for folder, said in ((tmp_path / "none", "no tokenizer folder"), (tmp_path, "has neither")):
        with pytest.raises(ModelError, match=said) as error:
            load_tokenizer(folder, TINY)
        assert str(folder) in str(error.value) and "hf download" in str(error.value)
    assert "tokenizer.json nor vocab.json and merges.txt" in str(error.value)


@pytest.mark.parametrize("content", (b"", b"{", b'{"model": 3}', b"\xff\xfe", b"version https://"))
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    """Also a pointer of Git's large files."""
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="tokenizer.json in .* cannot be read .*Copy it again"):
        load_tokenizer(tmp_path, TINY)


def test_a_damaged_pair(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ModelError, match="vocab.json has 1 tokens, Qwen's has 1024"):
        load_tokenizer(tmp_path, TINY)
    (tmp_path / "merges.txt").write_text("a b c d\n")
    with pytest.raises(ModelError, match="vocab.json and merges.txt in"):
        load_tokenizer(tmp_path, TINY)


def test_a_base_that_is_not_qwen_s(tiny_folder: Path, tmp_path: Path) -> None:
    """A tiny one for a released checkpoint, another added token, ranks in another order."""
    with pytest.raises(
        ModelError, match=r"not Qwen3-VL's: <\|endoftext\|> has id 1024 \(Qwen's: 151643\), 1050 "
    ):
        load_tokenizer(tiny_folder, Vocabulary.for_base())
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    more = dict(content["added_tokens"][-1], id=1050, content="<|else|>")
    content["added_tokens"].append(more)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"1051 tokens in all \(Qwen's: 1050\).*'<\|else\|>'"):
        load_tokenizer(tmp_path, TINY)
    content["added_tokens"] = content["added_tokens"][:-2]  # without </think>
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="</think> is missing"):
        load_tokenizer(tmp_path, TINY)


@needs_qwen
def test_ranks_that_are_not_qwen_s(full_folder: Path, tmp_path: Path) -> None:
    """Of Qwen's size, with its added tokens, and yet another's."""
    content = json.loads((full_folder / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    vocab["Ġdriving"], vocab["Ġlane"] = vocab["Ġlane"], vocab["Ġdriving"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"Ġdriving has id 21272 \(Qwen's: 9842\)"):
        load_tokenizer(tmp_path, Vocabulary.for_base())


def test_a_tokenizer_of_another_size(tiny: AlpamayoTokenizer, tmp_path: Path) -> None:
    """Saved with 4000 trajectory tokens, wanted with more of them, or without the others."""
    folder = tiny.save(tmp_path).parent
    for count in (4001, 4100):
        with pytest.raises(ModelError, match=f"id 5050 .*; version r1 with {count} .* has <i4000>"):
            load_tokenizer(folder, Vocabulary.for_base(1050, traj_vocab_size=count))
    fewer = Vocabulary.for_base(1050, add_special_tokens=False)
    with pytest.raises(ModelError, match=r"id 5050 .*; version r1 .* has <\|traj_history\|> there"):
        load_tokenizer(folder, fewer)
