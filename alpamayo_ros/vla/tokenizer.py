"""The tokenizer of a checkpoint: Qwen's from a local folder, and our tokens behind it.

Read by Hugging Face's `tokenizers` (which transformers' own classes are a shell around): a file in,
the same ids out under every version of transformers, no code from the folder and no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.vocabulary import QWEN_ADDED, QWEN_BASE_SIZE, Vocabulary

WHOLE_FILE = "tokenizer.json"
BPE_FILES = ("vocab.json", "merges.txt")
# Qwen2's and Qwen3's rule for cutting a text into the pieces that are merged within.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Ranks that tell Qwen's vocabulary from another of its size ("Ġ" is a leading space).
_QWEN_RANKS = {"!": 0, "Ġthe": 279, "Ġdriving": 9842, "Ġlane": 21272, "Ġtrajectory": 34682}
_OBTAIN = (
    "On a connected machine: hf download Qwen/Qwen3-VL-8B-Instruct tokenizer.json "
    "tokenizer_config.json --local-dir DIR (nvidia/Cosmos-Reason2-8B has the same), then copy DIR "
    "and name it as `tokenizer:` in the manifest."
)


class AlpamayoTokenizer:
    """Text <-> ids of one checkpoint. Make one with `load_tokenizer`."""

    def __init__(self, inner: Tokenizer, vocabulary: Vocabulary) -> None:
        self._inner = inner
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, in which special tokens are written out; nothing is added to it."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of `ids`. Bytes that are no UTF-8 come out as U+FFFD, unknown ids as nothing."""
        known = [i for i in map(int, ids) if 0 <= i < self.vocabulary.size]
        return str(self._inner.decode(known, skip_special_tokens=skip_special_tokens))

    def id_of(self, token: str) -> int | None:
        """The id of one token's own text, or None."""
        found = self._inner.token_to_id(token)
        return None if found is None else int(found)

    def save(self, folder: Path) -> Path:
        """Write tokenizer.json, our tokens included, into `folder`; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        self._inner.save(str(folder / WHOLE_FILE))
        return folder / WHOLE_FILE


def load_tokenizer(folder: Path, vocabulary: Vocabulary) -> AlpamayoTokenizer:
    """The tokenizer of `vocabulary` from a folder of Qwen3-VL's tokenizer files, or from one that
    has our tokens already.

    Raises ModelError: no such folder, files missing or damaged, a base that is not Qwen's with
    `vocabulary.base_size` ids, or added tokens with other ids than the checkpoint's.
    """
    inner = _read(folder, vocabulary.base_size)
    inner.no_truncation()
    inner.no_padding()
    _check_base(inner, vocabulary.base_size, folder)
    trajectory = [AddedToken(text, normalized=True) for text in vocabulary.trajectory_tokens()]
    inner.add_tokens(trajectory)
    inner.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in vocabulary.special_tokens()]
    )
    _check_added(inner, vocabulary, folder)
    return AlpamayoTokenizer(inner, vocabulary)


def qwen_style(ranks: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE tokenizer that cuts and normalises as Qwen's does, with its 26 added
    tokens. `ranks` are in the printable alphabet of byte-level BPE."""
    tokenizer = Tokenizer(BPE(vocab=dict(ranks), merges=list(merges)))
    tokenizer.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    for text, special in QWEN_ADDED:
        token = AddedToken(text, special=special, normalized=False)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


# --- reading and checking ---


def _read(folder: Path, base_size: int) -> Tokenizer:
    if not folder.is_dir():
        raise ModelError(f"no tokenizer folder {folder}. {_OBTAIN}")
    whole = folder / WHOLE_FILE
    vocab, merges = (folder / name for name in BPE_FILES)
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if vocab.is_file() and merges.is_file():
            return _from_bpe_files(vocab, merges, base_size)
    except ModelError:
        raise
    except Exception as error:  # `tokenizers` raises plain Exception for whatever is wrong
        name = whole.name if whole.is_file() else " and ".join(BPE_FILES)
        raise ModelError(
            f"{name} in {folder} cannot be read ({error}): damaged or cut off? Copy it again. "
            f"{_OBTAIN}"
        ) from error
    raise ModelError(f"{folder} has neither {WHOLE_FILE} nor {' and '.join(BPE_FILES)}. {_OBTAIN}")


def _from_bpe_files(vocab: Path, merges: Path, base_size: int) -> Tokenizer:
    """The older pair of files, which holds the ranks alone."""
    ranks, pairs = BPE.read_file(str(vocab), str(merges))
    wanted = base_size - len(QWEN_ADDED)
    if len(ranks) != wanted:
        raise ModelError(f"{vocab} has {len(ranks)} tokens, Qwen's has {wanted}. {_OBTAIN}")
    return qwen_style(ranks, pairs)


def _check_base(inner: Tokenizer, base_size: int, folder: Path) -> None:
    """ModelError unless ids [0, base_size) are Qwen's: its own 26 last, and known ranks."""
    not_qwen = f"the base vocabulary in {folder} is not Qwen3-VL's"
    size = inner.get_vocab_size(with_added_tokens=True)
    first = base_size - len(QWEN_ADDED)
    expected = {text: first + k for k, (text, _) in enumerate(QWEN_ADDED)}
    if base_size == QWEN_BASE_SIZE:
        expected |= _QWEN_RANKS
    for text, wanted in expected.items():
        found = inner.token_to_id(text)
        if found != wanted:
            said = "is missing" if found is None else f"has id {found}"
            raise ModelError(
                f"{not_qwen}: {text} {said} (Qwen's: {wanted}), {size} tokens in all (Qwen's: "
                f"{base_size}). {_OBTAIN}"
            )
    behind = inner.id_to_token(base_size)
    if size != base_size and behind != "<i0>":
        raise ModelError(
            f"{not_qwen}: {size} tokens in all (Qwen's: {base_size}), the first behind them "
            f"{behind!r}. {_OBTAIN}"
        )


def _check_added(inner: Tokenizer, vocabulary: Vocabulary, folder: Path) -> None:
    """ModelError unless every added token has the checkpoint's id, and nothing else is there."""
    for wanted, text in enumerate(vocabulary.added_tokens(), start=vocabulary.base_size):
        if inner.token_to_id(text) != wanted:
            raise ModelError(
                f"id {wanted} of the tokenizer in {folder} is {inner.id_to_token(wanted)!r}; "
                f"version {vocabulary.version} with {vocabulary.traj_vocab_size} trajectory tokens "
                f"has {text} there. Is it another version's? Name a folder with the backbone's own "
                "tokenizer instead: the tokens are added."
            )
    size = inner.get_vocab_size(with_added_tokens=True)
    if size != vocabulary.size:
        raise ModelError(
            f"the tokenizer in {folder} has {size} tokens, the checkpoint {vocabulary.size}: "
            f"{inner.id_to_token(vocabulary.size)!r} is none of its own"
        )
