"""The features of a sample's frames, each frame encoded once: exact, not approximate.

A frame is in four samples that follow each other. The encoder looks at one frame of one camera at a
time, so its features can be kept; a frame is known by its camera and stamp.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.deployment.spec import StudentSpec
from alpamayo_ros.errors import ModelError
from alpamayo_ros.student import inputs
from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, PlannerSample

Features = NDArray[np.float32]
Encode = Callable[[NDArray[np.float32]], Features]  # (1, C, 3, H, W) -> (1, C, T, D)

# Two windows: a frame that jitter kept out of one sample may be in the next.
KEPT = 2 * N_FRAMES


def prepared(image: NDArray[np.uint8], slot: int, spec: StudentSpec) -> NDArray[np.float32]:
    """The pipeline's (320, 576, 3) uint8 RGB of the student's camera number `slot` to the encoder's
    (3, H, W), as in training."""
    return inputs.pixels(spec.config, inputs.reduced(spec.config, slot, image))


class FeatureCache:
    """Features by camera and stamp, bounded; for one thread."""

    def __init__(self, spec: StudentSpec, encode: Encode) -> None:
        self._spec, self._encode = spec, encode
        self._slots = {
            CAMERA_NAMES.index(name): slot for slot, name in enumerate(spec.config.cameras)
        }
        self._kept: dict[int, OrderedDict[int, Features]] = {
            slot: OrderedDict() for slot in self._slots.values()
        }
        self._newest_ns: dict[int, int] = {}  # of each slot
        self._t0_ns = 0  # of the last sample
        self.encoded = 0  # frames so far, for tests and status

    def clear(self) -> None:
        """Forget everything: the clock was set back, or the drive is another."""
        for kept in self._kept.values():
            kept.clear()
        self._newest_ns.clear()
        self._t0_ns = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def features(self, sample: PlannerSample) -> Features:
        """(1, C, 4, T, D) of a sample, oldest first; zeros for a camera that it lacks.

        Encodes what is new. Raises ModelError for a camera that the student does not know.
        """
        slots = self._slots_of(sample)
        stamps = sample.image_stamps_ns
        newest = dict(zip(slots, stamps[:, -1].tolist()))
        back = any(stamp < self._newest_ns.get(slot, stamp) for slot, stamp in newest.items())
        if back or sample.t0_ns < self._t0_ns:
            self.clear()  # stamps that come again may belong to other pictures
        self._newest_ns |= newest
        self._t0_ns = sample.t0_ns
        self._encode_new(sample, slots)
        result = np.zeros(self._spec.policy_inputs["features"], np.float32)
        for row, slot in enumerate(slots):
            kept = self._kept[slot]
            for k, stamp in enumerate(stamps[row].tolist()):
                result[0, slot, k] = kept[stamp]
                kept.move_to_end(stamp)
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return result

    def newest_images(self, sample: PlannerSample) -> NDArray[np.float32]:
        """(1, C, 3, H, W): the encoder's input for the frames at t0."""
        images = np.zeros(self._spec.encoder_inputs["images"], np.float32)
        for row, slot in enumerate(self._slots_of(sample)):
            images[0, slot] = prepared(sample.images[row, -1], slot, self._spec)
        return images

    def _slots_of(self, sample: PlannerSample) -> list[int]:
        unknown = [CAMERA_NAMES[i] for i in sample.camera_indices if int(i) not in self._slots]
        if unknown:
            raise ModelError(
                f"model {self._spec.model} does not know {', '.join(unknown)}: it was trained with "
                f"{', '.join(self._spec.config.cameras)}"
            )
        return [self._slots[int(index)] for index in sample.camera_indices]

    def _encode_new(self, sample: PlannerSample, slots: Sequence[int]) -> None:
        """Each call takes one new frame of every camera that has one, in the camera's own slot:
        the graph's shape is fixed, and what is in other slots does not enter."""
        new: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {}
        for row, slot in enumerate(slots):
            frames = dict(zip(sample.image_stamps_ns[row].tolist(), sample.images[row]))
            new[slot] = [(s, image) for s, image in frames.items() if s not in self._kept[slot]]
        for turn in range(max(map(len, new.values()), default=0)):
            images = np.zeros(self._spec.encoder_inputs["images"], np.float32)
            turns = {slot: frames[turn] for slot, frames in new.items() if turn < len(frames)}
            for slot, (_, image) in turns.items():
                images[0, slot] = prepared(image, slot, self._spec)
            features = self._encode(images)
            self.encoded += len(turns)
            for slot, (stamp, _) in turns.items():
                self._kept[slot][stamp] = np.array(features[0, slot])
