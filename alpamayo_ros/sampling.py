"""Buffers + t0 -> what a planner sees, or the reason why it cannot be had.

Two steps, so that the cheap one can run on every message and the dear one off the callback path:
`select` looks only at stamps; `materialise` decodes the chosen frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.buffers import FrameBuffer, FrameSlot, InterpolatedPoses, PoseBuffer
from alpamayo_ros.motion import MotionLimits, motion_at
from alpamayo_ros.types import (
    CAMERA_NAMES,
    FRAME_STEP_NS,
    N_FRAMES,
    NS_PER_MS,
    ImageError,
    PlannerSample,
    Pose3,
    Rejection,
    RejectionReason,
)

FRAME_SPAN_NS = (N_FRAMES - 1) * FRAME_STEP_NS


@dataclass(frozen=True, slots=True)
class SamplingLimits(MotionLimits):
    """How far inputs may be from what was asked for."""

    frame_tolerance_ns: int = 50 * NS_PER_MS  # a frame from its grid time
    camera_skew_ns: int = 50 * NS_PER_MS  # the frames of one instant from each other


@dataclass(frozen=True, slots=True)
class Selection:
    """The frames and poses of one instant, chosen but not yet decoded."""

    t0_ns: int
    due_ns: int
    slots: tuple[tuple[FrameSlot, ...], ...]  # [camera by rising index][frame, oldest first]
    camera_indices: tuple[int, ...]
    history: InterpolatedPoses
    speed_mps: float
    acceleration_mps2: float
    yaw_rate_rps: float
    odometry_frame_id: str
    skew_ns: int
    navigation: str | None = None
    left_out: tuple[Rejection, ...] = ()  # cameras that it is made without, and why
    ready_ns: int = 0  # steady time at which the last message that it needed arrived


def by_model_index(cameras: Sequence[str]) -> list[str]:
    """Camera names in the order of the model's camera table."""
    return sorted(cameras, key=CAMERA_NAMES.index)


def select(
    frames: Mapping[str, FrameBuffer],
    poses: PoseBuffer,
    t0_ns: int,
    limits: SamplingLimits,
    due_ns: int = 0,
) -> Selection | Rejection:
    """The sample at t0 by stamps alone. Odometry may end up to `extrapolation_ns` before t0."""
    rows = _select_frames(frames, t0_ns, limits, due_ns)
    if isinstance(rows, Rejection):
        return rows
    for k in range(N_FRAMES):
        if _spread(rows, k) > limits.camera_skew_ns:
            _bring_together(rows, frames, k, t0_ns - FRAME_SPAN_NS + k * FRAME_STEP_NS, limits)
    skew_ns = max(_spread(rows, k) for k in range(N_FRAMES))
    if skew_ns > limits.camera_skew_ns:
        return _camera_skew(rows, skew_ns, limits, due_ns)
    motion = motion_at(poses, t0_ns, limits, due_ns)
    if isinstance(motion, Rejection):
        return motion
    names = by_model_index(list(rows))
    return Selection(
        t0_ns=t0_ns,
        due_ns=due_ns,
        slots=tuple(tuple(rows[name]) for name in names),
        camera_indices=tuple(CAMERA_NAMES.index(name) for name in names),
        history=motion.history,
        speed_mps=motion.speed_mps,
        acceleration_mps2=motion.acceleration_mps2,
        yaw_rate_rps=motion.yaw_rate_rps,
        odometry_frame_id=motion.frame_id,
        skew_ns=skew_ns,
    )


def _select_frames(
    frames: Mapping[str, FrameBuffer], t0_ns: int, limits: SamplingLimits, due_ns: int
) -> dict[str, list[FrameSlot]] | Rejection:
    """Per camera the four frames nearest to t0 - 300 ms … t0."""
    rows: dict[str, list[FrameSlot]] = {}
    for name, buffer in frames.items():
        row: list[FrameSlot] = []
        for k in range(N_FRAMES):
            grid_ns = t0_ns - FRAME_SPAN_NS + k * FRAME_STEP_NS
            slot = buffer.nearest(grid_ns)
            if slot is None:
                return Rejection(
                    RejectionReason.CAMERA_MISSING, name, due_ns=due_ns, detail="no frame yet"
                )
            offset_ns = slot.stamp_ns - grid_ns
            if abs(offset_ns) > limits.frame_tolerance_ns:
                oldest_known = not buffer.stamps_between(0, grid_ns)
                return Rejection(
                    # A buffer that does not reach back so far is still filling; one that does
                    # has a hole.
                    RejectionReason.WARMING_UP if oldest_known else RejectionReason.CAMERA_MISSING,
                    name,
                    offset_ns / NS_PER_MS,
                    limits.frame_tolerance_ns / NS_PER_MS,
                    "ms",
                    due_ns,
                    f"nearest frame to t0 - {(t0_ns - grid_ns) // NS_PER_MS} ms",
                )
            row.append(slot)
        rows[name] = row
    return rows


def _spread(rows: Mapping[str, list[FrameSlot]], k: int) -> int:
    stamps = [row[k].stamp_ns for row in rows.values()]
    return max(stamps) - min(stamps)


def _bring_together(
    rows: dict[str, list[FrameSlot]],
    frames: Mapping[str, FrameBuffer],
    k: int,
    grid_ns: int,
    limits: SamplingLimits,
) -> None:
    """Frames of one instant that lie closer together, though one of them not as near to the grid.

    A grid time midway between two frames (every other one at 15 Hz) has two nearest: a
    millisecond decides for each camera by itself, and apart they would lie a whole frame.
    """
    options = {
        name: [
            slot
            for slot in buffer.neighbours(grid_ns)
            if abs(slot.stamp_ns - grid_ns) <= limits.frame_tolerance_ns
        ]
        for name, buffer in frames.items()
    }

    def around(anchor_ns: int) -> dict[str, FrameSlot]:
        return {
            name: min(slots, key=lambda slot: (abs(slot.stamp_ns - anchor_ns), slot.stamp_ns))
            for name, slots in options.items()
        }

    def badness(choice: Mapping[str, FrameSlot]) -> tuple[int, int, int]:
        stamps = [slot.stamp_ns for slot in choice.values()]
        off_grid = sum(abs(stamp - grid_ns) for stamp in stamps)
        return max(stamps) - min(stamps), off_grid, min(stamps)

    anchors = sorted({slot.stamp_ns for slots in options.values() for slot in slots})
    for name, slot in min(map(around, anchors), key=badness).items():
        rows[name][k] = slot


def _camera_skew(
    rows: Mapping[str, list[FrameSlot]], skew_ns: int, limits: SamplingLimits, due_ns: int
) -> Rejection:
    """Names the camera furthest from the others at the worst of the four instants."""
    worst = max(range(N_FRAMES), key=lambda k: _spread(rows, k))
    stamps = {name: row[worst].stamp_ns for name, row in rows.items()}
    middle = float(np.median([stamp - min(stamps.values()) for stamp in stamps.values()]))
    name = max(stamps, key=lambda n: abs(stamps[n] - min(stamps.values()) - middle))
    return Rejection(
        RejectionReason.CAMERA_SKEW,
        name,
        skew_ns / NS_PER_MS,
        limits.camera_skew_ns / NS_PER_MS,
        "ms",
        due_ns,
        "between the frames of one instant",
    )


def materialise(selection: Selection) -> PlannerSample:
    """Decode what was selected. Raises UnreadableFrame naming the frame that does not decode."""
    images: list[list[NDArray[np.uint8]]] = []
    for row in selection.slots:
        decoded = []
        for slot in row:
            try:
                decoded.append(slot.image.get())
            except ImageError as error:
                raise UnreadableFrame(slot, str(error)) from error
        images.append(decoded)
    history = selection.history
    rotations = geometry.quaternion_to_rotation(history.quaternions_xyzw)
    odometry_from_rig = Pose3(history.positions_m[-1], rotations[-1])
    # Subtracted in float64: at UTM northings float32 resolves 0.25 m.
    offsets = history.positions_m - odometry_from_rig.translation_m
    return PlannerSample(
        t0_ns=selection.t0_ns,
        images=_stacked(images),
        image_stamps_ns=np.array([[slot.stamp_ns for slot in row] for row in selection.slots]),
        camera_indices=np.array(selection.camera_indices),
        history_xyz_in_rig_t0=offsets @ odometry_from_rig.rotation,
        history_rot_in_rig_t0=odometry_from_rig.rotation.T @ rotations,
        speed_mps=selection.speed_mps,
        acceleration_mps2=selection.acceleration_mps2,
        yaw_rate_rps=selection.yaw_rate_rps,
        odometry_from_rig_t0=odometry_from_rig,
        odometry_frame_id=selection.odometry_frame_id,
        navigation=selection.navigation,
        extrapolated_ms=history.extrapolated_ns / NS_PER_MS,
    )


def _stacked(images: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """(C, 4, H, W, 3); a view where all are one and the same picture, as with blacked-out ones."""
    first = images[0][0]
    if all(image is first for row in images for image in row):
        return np.broadcast_to(first, (len(images), len(images[0]), *first.shape))
    return np.array(images)


class UnreadableFrame(Exception):
    """A selected frame whose pixels cannot be had."""

    def __init__(self, slot: FrameSlot, reason: str) -> None:
        super().__init__(f"{slot.camera}: {reason}")
        self.slot = slot
        self.reason = reason

    def rejection(self, due_ns: int) -> Rejection:
        """For the tick that selected it."""
        return Rejection(
            RejectionReason.IMAGE_UNREADABLE, self.slot.camera, due_ns=due_ns, detail=self.reason
        )
