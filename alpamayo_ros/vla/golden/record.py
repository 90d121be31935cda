"""What passes through the language model, by hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alpamayo_ros.vla.model import AlpamayoModel


@dataclass(slots=True)
class Record:
    """What passed through the language model in one call."""

    layers: list[Tensor]
    inputs_embeds: Tensor
    last_hidden: Tensor
    positions: Tensor


@contextmanager
def recorded(model: AlpamayoModel) -> Iterator[Record]:
    """Record one call of the language model."""
    empty = torch.empty(0)
    record = Record([], empty, empty, empty)
    language = model.vlm.model.language_model

    def keep_layer(_module: Any, _args: Any, output: Any) -> None:
        record.layers.append(output)

    def keep(_module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        record.inputs_embeds = kwargs["inputs_embeds"]
        record.positions = kwargs["position_ids"]
        record.last_hidden = output.last_hidden_state

    handles = [layer.register_forward_hook(keep_layer) for layer in language.layers]
    handles.append(language.register_forward_hook(keep, with_kwargs=True))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
