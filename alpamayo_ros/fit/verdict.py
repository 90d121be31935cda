"""Does it fit: weights and a plan's needs against a device's memory, with the price of few bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alpamayo_ros.fit.devices import Device
from alpamayo_ros.fit.memory import MARGIN, Load, plan_bytes
from alpamayo_ros.fit.weights import shapes, weight_bytes
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.quant.precisions import FLOATS, Choice

MAX_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a model that plans."""

    weights: Mapping[str, int]  # by part
    plan: Mapping[str, int]  # by use

    @property
    def loaded(self) -> int:
        """Weights alone."""
        return sum(self.weights.values())

    @property
    def peak(self) -> int:
        """While it plans."""
        return int(self.loaded + sum(self.plan.values()) * (1.0 + MARGIN))


@dataclass(frozen=True, slots=True)
class Model:
    """What the arithmetic needs of a checkpoint."""

    name: str
    config: AlpamayoConfig
    backbone: Mapping[str, Any]


def need(model: Model, weights: Choice, load: Load, dtype: str = "bfloat16") -> Need:
    """Of one model, precision and load."""
    parts = weight_bytes(shapes(model.config, model.backbone), weights, dtype)
    return Need(parts, plan_bytes(model.config, model.backbone, load, weights.is_quantised))


def most_samples(model: Model, weights: Choice, load: Load, device: Device) -> int:
    """How many samples fit, up to MAX_SAMPLES; 0: not one does."""
    low, high = 0, MAX_SAMPLES
    while low < high:
        middle = (low + high + 1) // 2
        fits = need(model, weights, replace(load, samples=middle)).peak <= device.free_bytes
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True)
class Verdict:
    """One device, precision and runtime."""

    device: Device
    precision: str  # as it was asked for
    weights: Choice
    load: Load
    need: Need
    most_samples: int

    @property
    def fits(self) -> bool:
        """With the samples asked for."""
        return self.most_samples >= self.load.samples

    @property
    def notes(self) -> list[str]:
        """The price, and what the device has to do with it."""
        prices = self.weights.prices.items()
        said = [f"{name}: {price}" for name, price in prices if name not in FLOATS]
        if "fp8" in self.weights.prices and not self.device.has_fp8:
            said.append(f"{self.device.name} has no fp8 units: stored so, multiplied as bfloat16")
        return said


def verdicts(
    model: Model, choices: Mapping[str, Choice], loads: Sequence[Load], devices: Sequence[Device]
) -> list[Verdict]:
    """Every combination."""
    return [
        Verdict(device, name, weights, load, need(model, weights, load),
                most_samples(model, weights, load, device))
        for device in devices
        for name, weights in choices.items()
        for load in loads
    ]  # fmt: skip
