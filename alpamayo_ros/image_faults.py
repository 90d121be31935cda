"""Pixels that decode and yet show nothing: black, overexposed, or frozen while the rig moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.buffers import FrameSlot
from alpamayo_ros.cameras import CameraPolicy
from alpamayo_ros.sampling import Selection, UnreadableFrame
from alpamayo_ros.types import CAMERA_NAMES, ImageError, Rejection, RejectionReason

Image = NDArray[np.uint8]

# JPEG's noise around a black level of 16, and what an exposure at its end leaves of a sky.
BLACK, WHITE = 20, 250
BLANK_SHARE = 0.995  # of the pixels: a lamp or a timestamp in the picture is nothing to drive by
LOOK_STEP = 8  # every so many-th pixel of rows and columns tells
FROZEN_FRAMES = 3  # identical ones; two may be a driver's hiccup
MOVED_M = 0.2  # by the rig between the first and the last of them: no picture stays the same


def without_faulty(
    selection: Selection, policy: CameraPolicy
) -> tuple[Selection, UnreadableFrame | None] | Rejection:
    """The selection without the cameras that show nothing, where the policy spares them.

    The unreadable frame, if there is one, is for the pipeline to discard.
    """
    moved_m = float(
        np.linalg.norm(
            selection.history.positions_m[-1] - selection.history.positions_m[-FROZEN_FRAMES]
        )
    )
    kept: list[int] = []
    lost: list[Rejection] = []
    unreadable: UnreadableFrame | None = None
    for row, slots in enumerate(selection.slots):
        fault, damaged = _fault(slots, moved_m, policy.judge_pixels, selection.due_ns)
        unreadable = unreadable or damaged
        if fault is None:
            kept.append(row)
        else:
            lost.append(fault)
    names = [CAMERA_NAMES[selection.camera_indices[row]] for row in kept]
    for fault in lost:
        if not policy.spares(fault.source, names):
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


def _fault(
    slots: Sequence[FrameSlot], moved_m: float, judge: bool, due_ns: int
) -> tuple[Rejection | None, UnreadableFrame | None]:
    """What is wrong with one camera's frames."""
    camera = slots[-1].camera
    images = []
    for slot in slots:
        try:
            images.append(slot.image.get())
        except ImageError as error:
            reason = RejectionReason.IMAGE_UNREADABLE
            rejection = Rejection(reason, camera, due_ns=due_ns, detail=str(error))
            return rejection, UnreadableFrame(slot, str(error))
    if not judge:
        return None, None
    for image in images:
        what = blankness(image)
        if what:
            detail = f"{what}; is the lens covered, the exposure stuck?"
            reason = RejectionReason.IMAGE_BLANK
            return Rejection(reason, camera, due_ns=due_ns, detail=detail), None
    if moved_m > MOVED_M and is_frozen(images[-FROZEN_FRAMES:]):
        detail = "the same picture again and again while the vehicle moves; restart its driver"
        reason = RejectionReason.CAMERA_FROZEN
        return Rejection(reason, camera, moved_m, MOVED_M, "m", due_ns, detail), None
    return None, None


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
