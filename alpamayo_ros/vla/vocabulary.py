"""The vocabulary of a checkpoint: Qwen's base, the trajectory's tokens, the special tokens.

Only arithmetic on ids: the same for the released size and for a tiny one. Order of ids:

    [0, base_size)                  Qwen's BPE ranks, then its 26 added tokens
    [traj_token_start, .._end)      <i0> .. : future bins first, then history bins
    [traj_token_end, size)          special tokens <|name|>, less those that Qwen has already
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from alpamayo_ros.errors import ModelError

VERSIONS = ("r1", "1.5")
QWEN_BASE_SIZE = 151_669

# Qwen2's and Qwen3's own added tokens: the last 26 ids of the base, in this order. The flag says
# whether Qwen marks the token as special, that is: not part of a text.
QWEN_ADDED: tuple[tuple[str, bool], ...] = (
    *((f"<|{name}|>", True) for name in ("endoftext", "im_start", "im_end")),
    *(
        (f"<|{name}_{end}|>", True)
        for name in ("object_ref", "box", "quad", "vision")
        for end in ("start", "end")
    ),
    *((f"<|{name}_pad|>", True) for name in ("vision", "image", "video")),
    ("<tool_call>", False),
    ("</tool_call>", False),
    *((f"<|fim_{name}|>", False) for name in ("prefix", "middle", "suffix", "pad")),
    ("<|repo_name|>", False),
    ("<|file_sep|>", False),
    ("<tool_response>", False),
    ("</tool_response>", False),
    ("<think>", False),
    ("</think>", False),
)

# In the order in which the checkpoints number them. "image_pad" is Qwen's own and gets no new id.
_SPECIAL: tuple[str, ...] = (
    *("prompt_start", "prompt_end", "image_start", "image_pre_tkn", "image_end"),
    *("traj_history_start", "traj_history_pre_tkn", "traj_history_end"),
    *("cot_start", "cot_end", "meta_action_start", "meta_action_end"),
    *("traj_future_start", "traj_future_pre_tkn", "traj_future_end"),
    *("traj_history", "traj_future", "image_pad"),
    *("vectorized_wm", "vectorized_wm_start", "vectorized_wm_end", "vectorized_wm_pre_tkn"),
    *("route_start", "route_pad", "route_end"),
    *("question_start", "question_end", "answer_start", "answer_end"),
)
# Version 1.5 does not use these; it keeps their ids under the names _padding_0, _padding_1, ….
_UNUSED_IN_1_5: tuple[str, ...] = (
    *("image_pre_tkn", "traj_history_pre_tkn", "meta_action_start", "meta_action_end"),
    *("traj_future_pre_tkn", "vectorized_wm", "vectorized_wm_start", "vectorized_wm_end"),
    "vectorized_wm_pre_tkn",
)
# All that a checkpoint with `add_special_tokens: false` adds, in its order.
_TRAJECTORY_ONLY: tuple[str, ...] = (
    *("traj_history", "traj_future", "traj_history_start", "traj_future_start"),
    *("traj_history_end", "traj_future_end"),
)


def token_text(name: str) -> str:
    """A special token as it is written in a prompt."""
    return f"<|{name}|>"


def special_names(version: str, add_special_tokens: bool = True) -> tuple[str, ...]:
    """The special tokens' names in the order in which they are added. ModelError: no such version.

    "image_pad" is among them although it is not new.
    """
    if version not in VERSIONS:
        raise ModelError(f"model version {version!r} is none of {', '.join(VERSIONS)}")
    if not add_special_tokens:
        return _TRAJECTORY_ONLY
    if version == "r1":
        return _SPECIAL
    renamed = {name: f"_padding_{k}" for k, name in enumerate(_UNUSED_IN_1_5)}
    return tuple(renamed.get(name, name) for name in _SPECIAL)


@dataclass(frozen=True)
class Vocabulary:
    """Where a checkpoint's ids lie. Make one with `for_base`, unless the base is unusual."""

    base_size: int
    pad: int  # <|endoftext|>
    im_start: int
    im_end: int  # also the backbone's end of sequence
    vision_start: int
    vision_end: int
    image_pad: int
    video_pad: int
    version: str = "r1"
    traj_vocab_size: int = 4000
    future_bins: int = 3000
    history_bins: int = 1000
    add_special_tokens: bool = True

    def __post_init__(self) -> None:
        special_names(self.version)
        if self.future_bins + self.history_bins > self.traj_vocab_size:
            raise ModelError(
                f"traj_vocab_size {self.traj_vocab_size} has no room for {self.future_bins} "
                f"future and {self.history_bins} history bins; the released models have 4000"
            )
        existing = (self.pad, self.im_start, self.im_end, self.image_pad, self.video_pad)
        beyond = [i for i in (*existing, self.vision_start, self.vision_end) if i >= self.base_size]
        if beyond or min(existing) < 0:
            raise ModelError(f"base ids {beyond or existing} lie outside [0, {self.base_size})")

    @classmethod
    def for_base(
        cls,
        base_size: int = QWEN_BASE_SIZE,
        *,
        version: str = "r1",
        traj_vocab_size: int = 4000,
        future_bins: int = 3000,
        history_bins: int = 1000,
        add_special_tokens: bool = True,
    ) -> Vocabulary:
        """A base of any number of BPE ranks and Qwen's 26 added tokens, as released and as tiny."""
        if base_size <= len(QWEN_ADDED):
            raise ModelError(
                f"a base vocabulary of {base_size} has no room for Qwen's {len(QWEN_ADDED)} tokens"
            )
        first = base_size - len(QWEN_ADDED)
        at = {text: first + k for k, (text, _) in enumerate(QWEN_ADDED)}
        return cls(
            base_size,
            pad=at["<|endoftext|>"],
            im_start=at["<|im_start|>"],
            im_end=at["<|im_end|>"],
            vision_start=at["<|vision_start|>"],
            vision_end=at["<|vision_end|>"],
            image_pad=at["<|image_pad|>"],
            video_pad=at["<|video_pad|>"],
            version=version,
            traj_vocab_size=traj_vocab_size,
            future_bins=future_bins,
            history_bins=history_bins,
            add_special_tokens=add_special_tokens,
        )

    # --- the trajectory's tokens ---

    @property
    def traj_token_start(self) -> int:
        """First id of the trajectory's tokens, a future bin; generation masks from here …"""
        return self.base_size

    @property
    def traj_token_end(self) -> int:
        """… to here, exclusive."""
        return self.base_size + self.traj_vocab_size

    @property
    def history_token_start(self) -> int:
        """Id of history bin 0: behind the future's bins, whether or not those are ever used."""
        return self.base_size + self.future_bins

    # --- the special tokens ---

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """Name -> id in the order of the checkpoint, with version 1.5's own names in 1.5."""
        names = special_names(self.version, self.add_special_tokens)
        new = [name for name in names if name != "image_pad"]
        at = {name: self.traj_token_end + k for k, name in enumerate(new)}
        return MappingProxyType({name: at.get(name, self.image_pad) for name in names})

    def id_of(self, name: str) -> int:
        """The id of special token <|name|>. ModelError where this vocabulary has none."""
        if name not in self.special_ids:
            raise ModelError(
                f"version {self.version} (add_special_tokens: "
                f"{str(self.add_special_tokens).lower()}) has no token {token_text(name)}; it has "
                f"{', '.join(self.special_ids)}"
            )
        return self.special_ids[name]

    @property
    def traj_history(self) -> int:
        """The placeholder that history ids replace."""
        return self.id_of("traj_history")

    @property
    def traj_history_start(self) -> int:
        return self.id_of("traj_history_start")

    @property
    def traj_history_end(self) -> int:
        return self.id_of("traj_history_end")

    @property
    def traj_future(self) -> int:
        return self.id_of("traj_future")

    @property
    def traj_future_start(self) -> int:
        """The token that ends reasoning: the trajectory follows."""
        return self.id_of("traj_future_start")

    # --- all of it ---

    def trajectory_tokens(self) -> list[str]:
        """<i0> … in the order of their ids."""
        return [f"<i{k}>" for k in range(self.traj_vocab_size)]

    def special_tokens(self) -> list[str]:
        """The new special tokens' texts in the order of their ids, behind the trajectory's."""
        return [token_text(name) for name in self.special_ids if name != "image_pad"]

    def added_tokens(self) -> list[str]:
        """Every token that is not the base's, in the order of its id, from `base_size` on."""
        return self.trajectory_tokens() + self.special_tokens()

    @property
    def size(self) -> int:
        """Rows of the embedding: 155697 as released."""
        special = sum(name != "image_pad" for name in self.special_ids)
        return self.traj_token_end + special
