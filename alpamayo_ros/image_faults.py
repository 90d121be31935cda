"""Pixels that decode and yet show nothing: black, overexposed, or frozen while the rig moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.camera_policy import CameraPolicy
from alpamayo_ros.sampling import Selection, UnreadableFrame
from alpamayo_ros.types import CAMERA_NAMES, ImageError, Rejection, RejectionReason

Image = NDArray[np.uint8]

# JPEG's noise around a black level of 16, and what an exposure at its end leaves of a sky.
BLACK, WHITE = 20, 250
BLANK_SHARE = 0.995  # of the pixels: a lamp or a timestamp in the picture is nothing to drive by
LOOK_STEP = 8  # every so many-th pixel of rows and columns tells
FROZEN_FRAMES = 3  # identical ones; two may be a driver's hiccup
MOVED_M = 0.2  # by the rig between the first and the last of them: no picture stays the same


class CameraJudge:
    """Of one planner; remembers which cameras froze. One thread at a time."""

    def __init__(self, policy: CameraPolicy) -> None:
        self._policy = policy
        self._frozen: set[str] = set()
        # A frame is selected for up to four ticks, and looked at once.
        self._blankness: WeakKeyDictionary[LazyImage, str] = WeakKeyDictionary()

    def without_faulty(
        self, selection: Selection
    ) -> tuple[Selection, UnreadableFrame | None] | Rejection:
        """The selection without the cameras that show nothing, where the policy spares them.

        The unreadable frame, if there is one, is for the pipeline to discard; where it costs the
        plan, it is raised.
        """
        positions = selection.history.positions_m
        moved_m = float(np.linalg.norm(positions[-1] - positions[-FROZEN_FRAMES]))
        kept: list[int] = []
        lost: list[Rejection] = []
        unreadable: UnreadableFrame | None = None
        for row, slots in enumerate(selection.slots):
            try:
                fault = self._fault(slots, moved_m, selection.due_ns)
            except UnreadableFrame as error:
                unreadable = unreadable or error
                fault = error.rejection(selection.due_ns)
            if fault is None:
                kept.append(row)
            else:
                lost.append(fault)
        names = [CAMERA_NAMES[selection.camera_indices[row]] for row in kept]
        for fault in lost:
            if not self._policy.spares(fault.source, names):
                if unreadable is not None:
                    raise unreadable
                return fault
        if not lost:
            return selection, None
        reduced = replace(
            selection,
            slots=tuple(selection.slots[row] for row in kept),
            camera_indices=tuple(selection.camera_indices[row] for row in kept),
            left_out=(*selection.left_out, *lost),
        )
        return reduced, unreadable

    def _fault(self, slots: Sequence[FrameSlot], moved_m: float, due_ns: int) -> Rejection | None:
        """What is wrong with one camera's frames. Raises UnreadableFrame."""
        camera, images = slots[-1].camera, []
        for slot in slots:
            try:
                images.append(slot.image.get())
            except ImageError as error:
                raise UnreadableFrame(slot, str(error)) from error
        if not self._policy.judge_pixels:
            return None
        for slot, image in zip(slots, images):
            what = self._blankness.get(slot.image)
            if what is None:
                what = self._blankness[slot.image] = blankness(image)
            if what:
                detail = f"{what}; is the lens covered, the exposure stuck?"
                reason = RejectionReason.IMAGE_BLANK
                return Rejection(reason, camera, due_ns=due_ns, detail=detail)
        if not is_frozen(images[-FROZEN_FRAMES:]):
            self._frozen.discard(camera)
            return None
        # Once frozen it stays so until its picture changes: else the vehicle, nearly stopped for
        # it, would pull away again.
        if moved_m <= MOVED_M and camera not in self._frozen:
            return None
        self._frozen.add(camera)
        detail = "the same picture again and again while the vehicle moves; restart its driver"
        reason = RejectionReason.CAMERA_FROZEN
        return Rejection(reason, camera, moved_m, MOVED_M, "m", due_ns, detail)


def blankness(image: Image) -> str:
    """ "black", "overexposed", or "" for a picture that shows something."""
    look = image[::LOOK_STEP, ::LOOK_STEP]
    enough = BLANK_SHARE * look.size
    if np.count_nonzero(look <= BLACK) >= enough:
        return "black"
    if np.count_nonzero(look >= WHITE) >= enough:
        return "overexposed"
    return ""


def is_frozen(images: Sequence[Image]) -> bool:
    """Whether all are pixel for pixel the same."""
    first = images[0]
    look = first[::LOOK_STEP, ::LOOK_STEP]
    return all(
        np.array_equal(look, other[::LOOK_STEP, ::LOOK_STEP]) and np.array_equal(first, other)
        for other in images[1:]
    )
