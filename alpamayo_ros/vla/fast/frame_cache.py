"""Features of frames already seen, by camera and stamp: a moving window encodes what is new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.vla.generation import ImageFeatures

Key = tuple[int, int]  # camera index, stamp in ns
_STRIDE = 8  # pixels between those that a frame is recognised by


@dataclass(frozen=True, slots=True)
class _Entry:
    features: ImageFeatures
    print: bytes


class FrameCache:
    """Bounded; exact where encoding a frame does not depend on the frames beside it.

    Stamps that go back mean another run: all is forgotten. A known stamp with other pixels is
    encoded anew.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.hits = self.misses = 0
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._newest: dict[int, int] = {}
        self._size: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget every frame."""
        self._entries.clear()
        self._newest.clear()

    def features(
        self,
        images: NDArray[np.uint8],
        stamps_ns: NDArray[np.int64],
        cameras: Sequence[int],
        encode: Callable[[NDArray[np.uint8]], list[ImageFeatures]],
    ) -> list[ImageFeatures]:
        """Of images (C, F, H, W, 3) with stamps (C, F), camera by camera, oldest first.

        `encode` is called once, with the frames (M, H, W, 3) that are not known, or not at all.
        """
        self._forget_another_run(images.shape[2:], stamps_ns, cameras)
        flat = images.reshape(-1, *images.shape[2:])
        keys = [(int(c), int(s)) for c, row in zip(cameras, stamps_ns) for s in row]
        prints = [frame[::_STRIDE, ::_STRIDE].tobytes() for frame in flat]
        missing: dict[tuple[Key, bytes], int] = {}
        for i, (key, seen) in enumerate(zip(keys, prints)):
            held = self._entries.get(key)
            if held is None or held.print != seen:
                # One frame may fill two places of a window with a gap.
                missing.setdefault((key, seen), i)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        made: dict[tuple[Key, bytes], ImageFeatures] = {}
        if missing:
            made = dict(zip(missing, encode(flat[list(missing.values())])))
        result = []
        for key, seen in zip(keys, prints):
            features = made.get((key, seen))
            if features is None:
                features = self._entries[key].features
            self._entries[key] = _Entry(features, seen)
            self._entries.move_to_end(key)
            result.append(features)
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
        return result

    def _forget_another_run(
        self, size: tuple[int, ...], stamps_ns: NDArray[np.int64], cameras: Sequence[int]
    ) -> None:
        newest = {int(c): int(row.max()) for c, row in zip(cameras, stamps_ns)}
        back = any(stamp < self._newest.get(camera, stamp) for camera, stamp in newest.items())
        if back or size != self._size:
            self.clear()
            self._size = size
        self._newest |= newest
