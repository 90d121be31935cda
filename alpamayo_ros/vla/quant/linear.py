"""A linear layer whose matrix is a code, decoded in blocks of rows when it is used.

It saves memory and costs time: the sums are the model's own, in its dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.vla.quant.codecs import Codec, codec

BLOCK = 2**25  # weights decoded at once


class QuantisedLinear(nn.Module):
    """Stands where an nn.Linear stood. `code` None: room to be filled from a checkpoint."""

    def __init__(
        self,
        precision: str,
        shape: tuple[int, int],
        dtype: torch.dtype,
        bias: nn.Parameter | None,
        code: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.precision, self.dtype = precision, dtype
        self.out_features, self.in_features = shape
        self._codec: Codec = codec(precision)
        self._layout = self._codec.layout(*shape)
        for name, (size, kind) in self._layout.items():
            held = torch.empty(size, dtype=kind, device="meta") if code is None else code[name]
            assert held.shape == size and held.dtype == kind, (name, held.shape, held.dtype)
            self.register_buffer(name, held)
        self.bias = bias  # registers it

    @property
    def stored(self) -> dict[str, torch.dtype]:
        """Types of the code's tensors, which nothing may cast."""
        return {name: kind for name, (_, kind) in self._layout.items()}

    def weight_rows(self, start: int, end: int) -> Tensor:
        """Rows of the matrix, (end - start, in) in the model's dtype."""
        code = {name: getattr(self, name)[start:end] for name in self._layout}
        return self._codec.decode(code, self.in_features).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        step = max(1, BLOCK // self.in_features)
        parts = [
            functional.linear(x, self.weight_rows(start, min(start + step, self.out_features)))
            for start in range(0, self.out_features, step)
        ]
        result = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return result if self.bias is None else result + self.bias.to(result.dtype)

    def extra_repr(self) -> str:
        """For printing a model."""
        return f"{self.in_features} to {self.out_features}, {self.precision}"
