"""Features of frames already seen, by camera and stamp: a moving window encodes what is new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import CAMERA_NAMES, CameraFrame
from alpamayo_ros.vla.generation import ImageFeatures

Key = tuple[int, int]  # camera index, stamp in ns
_STRIDE = 8  # pixels between those that a frame is recognised by


@dataclass(frozen=True, slots=True)
class _Entry:
    features: ImageFeatures
    print: bytes
    # Of a frame that no window had yet. Time may have been set back since without any window to
    # show it: until one asks for the frame its print alone does not vouch for it.
    image: NDArray[np.uint8] | None = None

    def is_of(self, image: NDArray[np.uint8], seen: bytes) -> bool:
        """Whether these are the features of an image (H, W, 3) with that print."""
        return self.print == seen and (self.image is None or np.array_equal(self.image, image))


class FrameCache:
    """Bounded; exact where encoding a frame does not depend on the frames beside it.

    Stamps that go back mean another run: all is forgotten. A known stamp with other pixels is
    encoded anew.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.hits = self.misses = 0  # of windows
        self.ahead = 0  # frames encoded before a window had them
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
        prints = [_print(frame) for frame in flat]
        missing: dict[tuple[Key, bytes], int] = {}
        for i, (key, seen) in enumerate(zip(keys, prints)):
            held = self._entries.get(key)
            if held is None or not held.is_of(flat[i], seen):
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
        self._bound()
        return result

    def add(
        self,
        frames: Sequence[CameraFrame],
        encode: Callable[[NDArray[np.uint8]], list[ImageFeatures]],
    ) -> None:
        """Encode frames of windows to come. Known ones, and sizes that no window has, are passed
        over.

        What counts as another run is decided by windows alone: the next one may still end before
        these frames.
        """
        missing: dict[Key, tuple[bytes, NDArray[np.uint8]]] = {}
        for frame in frames:
            key, image, seen = _key(frame), frame.image, _print(frame.image)
            held = self._entries.get(key)
            if image.shape == self._size and (held is None or not held.is_of(image, seen)):
                missing[key] = seen, image
        if not missing:
            return
        made = encode(np.stack([image for _, image in missing.values()]))
        self.ahead += len(missing)
        for (key, (seen, image)), features in zip(missing.items(), made):
            self._entries[key] = _Entry(features, seen, image)
            self._entries.move_to_end(key)
        self._bound()

    def _bound(self) -> None:
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def _forget_another_run(
        self, size: tuple[int, ...], stamps_ns: NDArray[np.int64], cameras: Sequence[int]
    ) -> None:
        newest = {int(c): int(row.max()) for c, row in zip(cameras, stamps_ns)}
        back = any(stamp < self._newest.get(camera, stamp) for camera, stamp in newest.items())
        if back or size != self._size:
            self.clear()
            self._size = size
        self._newest |= newest


def _key(frame: CameraFrame) -> Key:
    return CAMERA_NAMES.index(frame.camera), frame.stamp_ns


def _print(image: NDArray[np.uint8]) -> bytes:
    return image[::_STRIDE, ::_STRIDE].tobytes()
