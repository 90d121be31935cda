"""The precisions that weights can be held in, what each takes, and what it costs.

Only matrices of linear layers are quantised; norms, biases, embeddings and convolutions stay in the
model's dtype. Sums are always made in that dtype: fewer bits save memory, not time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpamayo_ros.errors import ModelError

PARTS = ("vision", "backbone", "expert", "lm_head")
LM_HEAD_BITS = 8  # fewer there change which token is drawn


@dataclass(frozen=True, slots=True)
class Precision:
    """How a matrix (rows, columns) is stored."""

    name: str
    bits: float  # of one weight
    group: int | None  # neighbours in a row that share their scale; None: the whole row does
    group_bytes: int  # of what they share
    price: str  # what it does to the output
    is_usable: bool = True  # without training the model for it

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """What a matrix takes. Rows are padded to whole groups and bytes."""
        groups = 1 if self.group is None else math.ceil(columns / self.group)
        padded = columns if self.group is None else groups * self.group
        return rows * (math.ceil(padded * self.bits / 8) + groups * self.group_bytes)


# Perplexities: SmolLM2-135M, 52.5 as fp32; int8 to int2 by optimum-quanto, NF4 by bitsandbytes. A
# model 80 times as large loses less; none of it was measured on Alpamayo's weights.
PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("float32", 32, None, 0, "none"),
        Precision("bfloat16", 16, None, 0, "none: as released"),
        Precision("float16", 16, None, 0, "none, where no weight exceeds 65504"),
        Precision("int8", 8, None, 4, "hardly any: perplexity 52.5 -> 52.4"),
        Precision("fp8", 8, None, 4, "small: weights off by 2.6 %, against 0.8 % for int8"),
        Precision("nf4", 4, 64, 4, "small: perplexity 52.5 -> 54.0"),
        Precision("int4", 4, 128, 4, "noticeable: perplexity 52.5 -> 98.8"),
        Precision("int2", 2, 128, 4, "destroys the output: perplexity 52.5 -> 570,000; only for a "
                  "model trained with it", False),
        Precision("ternary", 1.6, 128, 2, "destroys the output: perplexity 52.5 -> 910,000; an "
                  "experiment, only for a model trained with it", False),
    )
}  # fmt: skip
FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Choice:
    """A precision for every part."""

    vision: str
    backbone: str
    expert: str
    lm_head: str

    def __post_init__(self) -> None:
        for part in PARTS:
            name = getattr(self, part)
            if name not in PRECISIONS:
                raise ModelError(f"{part}: precision {name!r} is none of {', '.join(PRECISIONS)}")
        if PRECISIONS[self.lm_head].bits < LM_HEAD_BITS:
            raise ModelError(
                f"lm_head as {self.lm_head}: fewer than {LM_HEAD_BITS} bits there change the "
                "tokens; choose int8, fp8 or the model's own dtype"
            )

    def of(self, part: str) -> Precision:
        """The precision of one of PARTS."""
        return PRECISIONS[getattr(self, part)]

    @property
    def is_quantised(self) -> bool:
        """Whether any part is."""
        return any(getattr(self, part) not in FLOATS for part in PARTS)

    @property
    def prices(self) -> dict[str, str]:
        """What each precision in use costs, worst first."""
        used = {self.of(part).name: self.of(part) for part in PARTS}
        worst_first = sorted(used.values(), key=lambda precision: precision.bits)
        return {precision.name: precision.price for precision in worst_first}

    @property
    def is_usable(self) -> bool:
        """Whether the model need not have been trained for it."""
        return all(self.of(part).is_usable for part in PARTS)


def choice(weights: str | Mapping[str, str], dtype: str = "bfloat16") -> Choice:
    """One precision for all, lm_head as `lm_head_of`; or by part, the rest in `dtype`.

    Raises ModelError naming an unknown part or precision.
    """
    if isinstance(weights, str):
        return Choice(weights, weights, weights, lm_head_of(weights, dtype))
    unknown = sorted(set(weights) - set(PARTS))
    if unknown:
        raise ModelError(f"weights: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return Choice(**{part: weights.get(part, dtype) for part in PARTS})


def changes(entries: Sequence[str]) -> dict[str, str]:
    """PART=NAME of a command line. Raises ModelError."""
    found = {}
    for entry in entries:
        part, equals, name = entry.partition("=")
        if not equals or part not in PARTS:
            raise ModelError(f"{entry}: wanted PART=NAME, PART one of {', '.join(PARTS)}")
        found[part] = name
    return found


def lm_head_of(weights: str, dtype: str) -> str:
    """NF4 leaves it as it is, as bitsandbytes does; below 8 bits it gets int8."""
    if weights == "nf4":
        return dtype
    known = PRECISIONS.get(weights)
    return "int8" if known is not None and known.bits < LM_HEAD_BITS else weights
