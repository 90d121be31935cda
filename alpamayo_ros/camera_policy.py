"""Which cameras a plan may be made without."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CameraPolicy:
    """What a model allows and a user wants of a lost camera. None is ever stood in for."""

    minimum: int  # cameras that a plan needs at least
    required: frozenset[str]  # cameras that no plan is made without
    judge_pixels: bool = True  # frozen, black and overexposed ones are lost too

    def spares(self, camera: str, others: Collection[str]) -> bool:
        """Whether a plan may be made from `others`, without `camera`."""
        return camera not in self.required and len(others) >= self.minimum


def all_of(cameras: Collection[str], judge_pixels: bool = True) -> CameraPolicy:
    """No plan without every camera."""
    return CameraPolicy(len(cameras), frozenset(cameras), judge_pixels)
