"""A small byte-level BPE tokenizer in Qwen's style, for checkpoints that are made here.

It reads and writes any text; its merges are learnt from the sentences below, the same everywhere.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from tokenizers import Regex, pre_tokenizers

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.tokenizer import PIECES, WHOLE_FILE, qwen_style
from alpamayo_ros.vla.vocabulary import QWEN_ADDED

TINY_RANKS = 1024
_SENTENCES = """
system You are a driving assistant that generates safe and accurate actions.
user output the chain-of-thought reasoning of the driving process, then output the
future trajectory. assistant Front left camera: frame Front right camera: Rear left camera:
Rear right camera: Front telephoto camera: Turn left in 30m Turn right onto Main
Street in 40m Continue straight Describe the scene. What should the ego vehicle do next, and why?
Nudge to the left to pass the parked truck that is blocking the lane ahead.
Slow down and stop for the red traffic light at the intersection, keeping distance to the lead car.
Yield to the pedestrians crossing at the crosswalk because they have the right of way.
Keep the lane and adapt speed to the curve since the road bends to the right.
Change lane to the left to overtake the slow vehicle, then accelerate to the speed limit.
Follow the lead vehicle, keep a safe gap and resume when the traffic clears.
"""


def write_tiny_tokenizer(folder: Path, ranks: int = TINY_RANKS) -> int:
    """Write tokenizer.json (and what transformers wants beside it) into `folder`.

    Returns the base vocabulary's size: `ranks` BPE tokens, then Qwen's 26. ModelError: `ranks`
    without room for the 256 bytes, or with more than our few sentences and letters fill.
    """
    alphabet = byte_alphabet()
    if ranks < len(alphabet):
        raise ModelError(f"a tokenizer of {ranks} tokens has no room for the 256 bytes")
    merges = _learn(ranks - len(alphabet), alphabet)
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = qwen_style({token: k for k, token in enumerate(tokens)}, merges)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / WHOLE_FILE))
    about = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")
    return ranks + len(QWEN_ADDED)


def byte_alphabet() -> list[str]:
    """The printable stand-ins of the 256 bytes in the order of GPT-2's and Qwen's ids 0..255: the
    bytes that print stand for themselves and come first, the others follow from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*map(chr, prints), *(chr(0x100 + k) for k in range(256 - len(prints)))]


def _learn(count: int, alphabet: list[str]) -> list[tuple[str, str]]:
    """`count` merges: the most frequent pair first, the first in the alphabet among equals."""
    words = _words()
    merges: list[tuple[str, str]] = []
    known = set(alphabet)
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        new = [pair for pair in pairs if "".join(pair) not in known]
        if not new:
            break
        best = min(new, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        known.add("".join(best))
        words = Counter({_merged(word, best): times for word, times in words.items()})
    # The sentences are used up: pairs of letters that they do not have, then those with a capital.
    spare = [(a, b) for a in ascii_lowercase + ascii_uppercase for b in ascii_lowercase]
    merges += [pair for pair in spare if "".join(pair) not in known][: count - len(merges)]
    if len(merges) < count:
        raise ModelError(f"a tiny tokenizer has at most {len(merges) + 256} tokens")
    return merges


def _words() -> Counter[tuple[str, ...]]:
    """The sentences' pieces as tuples of byte stand-ins, counted."""
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cutter = pre_tokenizers.Sequence([split, as_bytes])
    return Counter(tuple(piece) for piece, _ in cutter.pre_tokenize_str(_SENTENCES))


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """`word` with every occurrence of `pair` as one."""
    parts: list[str] = []
    for part in word:
        # A part that was just merged is no longer the pair's left half: "aaa" is "aa", "a".
        if parts and (parts[-1], part) == pair:
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts)
