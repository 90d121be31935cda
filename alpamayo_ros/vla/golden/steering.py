"""One row of lm_head set for a while: it steers where a token is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from alpamayo_ros.vla.model import AlpamayoModel


@contextmanager
def steered(model: AlpamayoModel, token: int, row: Tensor | None) -> Iterator[None]:
    """`row` (hidden,) as the token's weights inside; None leaves them as they are."""
    weight = model.vlm.lm_head.weight
    before = weight[token].clone()
    if row is not None:
        weight.data[token] = row.to(weight)
    try:
        yield
    finally:
        weight.data[token] = before
