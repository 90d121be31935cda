"""What a comparison found: the worst error of each stage beside what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# fp32 sums in another order: an independent implementation stays within 1e-5 of the reference on
# logits and velocities; ten times that tells rounding from a fault (the mildest one known, an
# unrounded constant, gives 0.2).
ATOL = 1e-4
# Over a run of its own, errors of the velocities add up: 7e-4 m was seen between transformers 4
# and 5. One reading of a waypoint in a car is worth centimetres.
ATOL_M = 2e-3
# The same for normalised actions, of which the random model makes some over 10: 9.5e-4 was seen.
# 5e-3 is 0.003 m/s^2, and what it does to a waypoint is judged there.
ATOL_ACTION = 5e-3


@dataclass(frozen=True, slots=True)
class Stage:
    """One array compared."""

    name: str
    error: float  # largest absolute difference; for integers and text the number that differ
    limit: float

    @property
    def ok(self) -> bool:
        """Whether it is within the limit; NaN is not."""
        return bool(self.error <= self.limit)

    def __str__(self) -> str:
        number = f"{self.error:.0f} differ" if self.limit == 0 else f"{self.error:.1e}"
        return f"{self.name} {number}{'' if self.ok else f' > {self.limit:g}'}"


@dataclass(slots=True)
class CaseResult:
    """One file of arrays."""

    name: str
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be compared, and why
    fault: str = ""  # an error that ended the case

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is within its limits."""
        return not self.fault and bool(self.stages) and all(stage.ok for stage in self.stages)

    def exact(self, name: str, ours: Any, golden: Any) -> None:
        """Integers, booleans and text: every element equal, shapes too."""
        ours, golden = _numpy(ours), _numpy(golden)
        if ours.shape != golden.shape:
            raise ValueError(f"{name}: ours has shape {ours.shape}, golden {golden.shape}")
        self.stages.append(Stage(name, float(np.count_nonzero(ours != golden)), 0.0))

    def close(self, name: str, ours: Any, golden: Any, atol: float = ATOL) -> None:
        """Numbers: the largest absolute difference; what is infinite must be so in both."""
        ours, golden = _numpy(ours).astype(np.float64), _numpy(golden).astype(np.float64)
        if ours.shape != golden.shape:
            raise ValueError(f"{name}: ours has shape {ours.shape}, golden {golden.shape}")
        infinite = np.isinf(golden) | np.isinf(ours)
        if not np.array_equal(ours[infinite], golden[infinite]):
            self.stages.append(Stage(name, float("inf"), atol))
            return
        difference = np.abs(np.where(infinite, 0.0, ours) - np.where(infinite, 0.0, golden))
        self.stages.append(Stage(name, float(difference.max(initial=0.0)), atol))

    def worst(self) -> Mapping[str, Stage]:
        """The worst stage of each name: a stage may be compared step by step."""
        result: dict[str, Stage] = {}
        for stage in self.stages:
            held = result.get(stage.name)
            if held is None or not stage.error <= held.error:
                result[stage.name] = stage
        return result

    def line(self) -> str:
        """For a terminal."""
        verdict = "ok  " if self.ok else "FAIL"
        parts = [self.fault] if self.fault else []
        parts += [str(stage) for stage in self.worst().values()]
        parts += [f"({note})" for note in self.notes]
        return f"{verdict} {self.name}: " + ", ".join(parts or ["nothing to compare"])


def _numpy(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        return np.asarray(value.detach().cpu().numpy())
    return np.asarray(value)
