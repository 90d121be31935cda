"""Matrices (rows, columns) to codes and scales, and back, row by row.

Every tensor of a code has the matrix's rows first, so that a block of rows decodes by itself. Bits
are packed here and not by torchao or optimum-quanto: torchao's int4 does not run on a CPU, quanto's
tensors neither run under inference mode nor go into safetensors.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.quant.precisions import FLOATS, PRECISIONS, Precision

Code = Mapping[str, Tensor]
FP8_LARGEST = 448.0  # of float8_e4m3fn
# Shares of a group's range that are tried as the codes' range: clipping a few costs less than
# coarse steps for all.
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


class Codec(abc.ABC):
    """One precision."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    @abc.abstractmethod
    def layout(self, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and types of a matrix's code."""

    @abc.abstractmethod
    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        """Of a matrix (rows, columns), fp32."""

    @abc.abstractmethod
    def decode(self, code: Code, columns: int) -> Tensor:
        """Some rows again, (r, columns) fp32."""

    def groups(self, columns: int) -> int:
        """In a row."""
        assert self.precision.group is not None
        return math.ceil(columns / self.precision.group)

    def grouped(self, weight: Tensor, fill: str = "replicate") -> Tensor:
        """(rows, groups, group), the last group filled up with the row's last value, or zeros."""
        assert self.precision.group is not None
        missing = self.groups(weight.shape[1]) * self.precision.group - weight.shape[1]
        if missing:
            weight = functional.pad(weight[None], (0, missing), mode=fill)[0]
        return weight.unflatten(1, (-1, self.precision.group))


class Scaled(Codec):
    """int8 and fp8: a scale a row."""

    def __init__(self, precision: Precision, dtype: torch.dtype, largest: float) -> None:
        super().__init__(precision)
        self._dtype, self._largest = dtype, largest

    def layout(self, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {"codes": ((rows, columns), self._dtype), "scales": ((rows, 1), torch.float32)}

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / self._largest
        codes = (weight / scales).clamp(-self._largest, self._largest)
        codes = codes if self._dtype.is_floating_point else codes.round()
        return {"codes": codes.to(self._dtype), "scales": scales}

    def decode(self, code: Code, columns: int) -> Tensor:
        return code["codes"].float() * code["scales"]


class Affine(Codec):
    """int4 and int2: a lowest value and a step a group, of several ranges that which errs least."""

    def __init__(self, precision: Precision) -> None:
        super().__init__(precision)
        self._bits = int(precision.bits)
        self._each = 8 // self._bits  # codes in a byte

    def layout(self, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        assert self.precision.group is not None
        groups = self.groups(columns)
        return {
            "codes": ((rows, groups * self.precision.group // self._each), torch.uint8),
            "steps": ((rows, groups), torch.bfloat16),
            "lows": ((rows, groups), torch.bfloat16),
        }

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        grouped, top = self.grouped(weight), 2**self._bits - 1
        low, high = grouped.amin(2, keepdim=True), grouped.amax(2, keepdim=True)
        best: tuple[Tensor, Tensor, Tensor] | None = None
        least = torch.full_like(low, float("inf"))
        for shrink in SHRINKS:
            cut = (high - low) * (1.0 - shrink) / 2
            # As they will be stored: what is compared is what will be decoded.
            step = ((high - low - 2 * cut) / top).clamp(min=1e-30).bfloat16().float()
            start = (low + cut).bfloat16().float()
            codes = ((grouped - start) / step).round().clamp(0, top)
            error = (codes * step + start - grouped).square().sum(2, keepdim=True)
            better = error < least
            least = torch.where(better, error, least)
            found = (codes, step, start)
            best = (
                found
                if best is None
                else tuple(  # type: ignore[assignment]
                    torch.where(better, new, old) for new, old in zip(found, best)
                )
            )
        assert best is not None
        codes, step, start = best
        parts = codes.to(torch.uint8).flatten(1).unflatten(1, (-1, self._each))
        packed = torch.zeros_like(parts[..., 0])
        for place in range(self._each):
            packed |= parts[..., place] << (place * self._bits)
        return {"codes": packed, "steps": step[..., 0].bfloat16(), "lows": start[..., 0].bfloat16()}

    def decode(self, code: Code, columns: int) -> Tensor:
        packed, top = code["codes"], 2**self._bits - 1
        parts = [(packed >> (place * self._bits)) & top for place in range(self._each)]
        codes = torch.stack(parts, dim=-1).flatten(1).float()
        steps, lows = code["steps"].float(), code["lows"].float()
        grouped = codes.unflatten(1, (steps.shape[1], -1))
        return torch.addcmul(lows[..., None], grouped, steps[..., None]).flatten(1)[:, :columns]


class Ternary(Codec):
    """-1, 0 or 1 times a scale a group; five in a byte."""

    _EACH = 5

    def layout(self, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        assert self.precision.group is not None
        groups = self.groups(columns)
        count = math.ceil(groups * self.precision.group / self._EACH)
        return {"codes": ((rows, count), torch.uint8), "scales": ((rows, groups), torch.bfloat16)}

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        grouped = self.grouped(weight)
        real = self.grouped(torch.ones_like(weight[:1]), "constant")
        mean = (grouped.abs() * real).sum(2, keepdim=True) / real.sum(2, keepdim=True)
        # Zero below 0.7 of the mean, then the scale that errs least: as in ternary weight networks.
        ones = ((grouped.abs() > 0.7 * mean) * real).to(grouped.dtype)
        scales = (grouped.abs() * ones).sum(2, keepdim=True) / ones.sum(2, keepdim=True).clamp(
            min=1
        )
        codes = (grouped.sign() * ones).to(torch.int16)
        flat = (codes + 1).flatten(1)
        missing = -flat.shape[1] % self._EACH
        parts = functional.pad(flat, (0, missing)).unflatten(1, (-1, self._EACH))
        weights = 3 ** torch.arange(self._EACH, device=weight.device, dtype=torch.int16)
        packed = (parts * weights).sum(-1).to(torch.uint8)
        return {"codes": packed, "scales": scales[..., 0].bfloat16()}

    def decode(self, code: Code, columns: int) -> Tensor:
        assert self.precision.group is not None
        packed, scales = code["codes"], code["scales"].float()
        parts = []
        for _ in range(self._EACH):
            parts.append(packed % 3)
            packed = packed // 3
        codes = torch.stack(parts, dim=-1).flatten(1)[:, : scales.shape[1] * self.precision.group]
        grouped = (codes.float() - 1.0).unflatten(1, (scales.shape[1], -1))
        return (grouped * scales[..., None]).flatten(1)[:, :columns]


class NormalFloat(Codec):
    """NF4 of bitsandbytes."""

    def __init__(self, precision: Precision) -> None:
        super().__init__(precision)
        try:
            from bitsandbytes import functional as bnb
        except ImportError as error:
            raise ModelError(
                "nf4 needs bitsandbytes: pip install 'alpamayo_ros[quant]', or choose int8 or int4"
            ) from error
        self._bnb = bnb

    def layout(self, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        assert self.precision.group is not None
        groups = self.groups(columns)
        return {
            "codes": ((rows, groups * self.precision.group // 2), torch.uint8),
            "scales": ((rows, groups), torch.float32),
        }

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        grouped = self.grouped(weight).contiguous()
        packed, state = self._bnb.quantize_4bit(
            grouped.flatten(1), blocksize=self.precision.group, quant_type="nf4"
        )
        rows = len(weight)
        return {"codes": packed.view(rows, -1), "scales": state.absmax.view(rows, -1)}

    def decode(self, code: Code, columns: int) -> Tensor:
        codes, scales = code["codes"], code["scales"]
        state = self._bnb.QuantState(
            absmax=scales.flatten(), shape=torch.Size((len(codes), codes.shape[1] * 2)),
            dtype=torch.float32, blocksize=self.precision.group, quant_type="nf4",
            code=_nf4_levels(codes.device),
        )  # fmt: skip
        decoded: Tensor = self._bnb.dequantize_4bit(codes.reshape(-1, 1), quant_state=state)
        return decoded.view(len(codes), -1)[:, :columns]


@cache
def _nf4_levels(device: torch.device) -> Tensor:
    """bitsandbytes' sixteen, made once a device: made of Python's numbers in a forward, they would
    be copied from the host, which no CUDA graph can capture."""
    from bitsandbytes import functional as bnb

    with torch.inference_mode(False):
        levels: Tensor = bnb.get_4bit_type("nf4", device=device)
    return levels


def codec(name: str) -> Codec:
    """Raises ModelError: no such precision, nothing to encode, or a library that is missing."""
    if name not in PRECISIONS or name in FLOATS:
        coded = [known for known in PRECISIONS if known not in FLOATS]
        raise ModelError(f"precision {name!r} has no codec; there are {', '.join(coded)}")
    precision = PRECISIONS[name]
    if name == "int8":
        return Scaled(precision, torch.int8, 127.0)
    if name == "fp8":
        return Scaled(precision, torch.float8_e4m3fn, FP8_LARGEST)
    if name == "nf4":
        return NormalFloat(precision)
    return Ternary(precision) if name == "ternary" else Affine(precision)
