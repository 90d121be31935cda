"""Pixels in memory that two processes share: fixed slots of a sample's frames each.

An anonymous file (memfd) rather than a named segment in /dev/shm: a killed process leaves nothing
behind, and a container's small /dev/shm does not matter.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH, N_FRAMES

PLAN_SLOT, QUESTION_SLOT = 0, 1  # a question keeps its own sample while plans are made
N_SLOTS = 2
FRAME_BYTES = IMAGE_HEIGHT * IMAGE_WIDTH * 3


class SharedFrames:
    """`N_SLOTS` slots of (cameras, 4, 320, 576, 3) uint8, mapped from a file descriptor."""

    def __init__(self, fd: int, slot_bytes: int) -> None:
        self.fd, self.slot_bytes = fd, slot_bytes
        self._map = mmap.mmap(fd, N_SLOTS * slot_bytes)
        self._bytes = np.frombuffer(self._map, np.uint8).reshape(N_SLOTS, slot_bytes)

    @classmethod
    def create(cls, cameras: int) -> SharedFrames:
        """New memory for samples of at most so many cameras; its pages come when written to."""
        slot_bytes = cameras * N_FRAMES * FRAME_BYTES
        fd = os.memfd_create("alpamayo_frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, N_SLOTS * slot_bytes)
        # A child that shortened it would end the parent with SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return cls(fd, slot_bytes)

    def write(self, slot: int, images: NDArray[np.uint8]) -> None:
        """Copy (C, 4, H, W, 3) into a slot. Raises ModelError where it does not fit."""
        if images.nbytes > self.slot_bytes:
            raise ModelError(
                f"frames of shape {images.shape} take {images.nbytes} bytes; the model's process "
                f"was given {self.slot_bytes}: does the manifest's `cameras: maximum` fit?"
            )
        target = self._bytes[slot, : images.nbytes].reshape(images.shape)
        np.copyto(target, images)

    def read(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A read-only view of a slot's first bytes, until the next sample is written there.

        Raises ValueError where the slot has fewer.
        """
        view = self._bytes[slot, : int(np.prod(shape, dtype=np.int64))].reshape(shape)
        view.flags.writeable = False
        return view

    def close(self) -> None:
        """Give the memory back; nothing may be read or written after."""
        self._bytes = np.empty((0, 0), np.uint8)
        self._map.close()
        os.close(self.fd)
