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
from alpamayo_ros.buffers import FrameBuffer, FrameSlot, InterpolatedPoses, PoseBuffer, interpolate
from alpamayo_ros.types import (
    CAMERA_NAMES,
    FRAME_STEP_NS,
    HISTORY_STEP_NS,
    N_FRAMES,
    N_HISTORY,
    NS_PER_MS,
    EgoPose,
    ImageError,
    PlannerSample,
    Pose3,
    Rejection,
    RejectionReason,
)

HISTORY_SPAN_NS = (N_HISTORY - 1) * HISTORY_STEP_NS
FRAME_SPAN_NS = (N_FRAMES - 1) * FRAME_STEP_NS
# Half a second of speeds: long enough to average out the quantisation of wheel odometry, short
# enough to follow the onset of braking.
ACCELERATION_SPAN_NS = 500 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """How far inputs may be from what was asked for."""

    frame_tolerance_ns: int = 50 * NS_PER_MS  # a frame from its grid time
    camera_skew_ns: int = 50 * NS_PER_MS  # the frames of one instant from each other
    odometry_gap_ns: int = 150 * NS_PER_MS  # neighbours of an interpolated pose
    extrapolation_ns: int = 50 * NS_PER_MS  # odometry carried forward to t0


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
    motion = _select_motion(poses, t0_ns, limits, due_ns)
    if isinstance(motion, Rejection):
        return motion
    history, near_t0 = motion
    speed, yaw_rate = _motion_at(near_t0, t0_ns)
    names = by_model_index(list(rows))
    return Selection(
        t0_ns=t0_ns,
        due_ns=due_ns,
        slots=tuple(tuple(rows[name]) for name in names),
        camera_indices=tuple(CAMERA_NAMES.index(name) for name in names),
        history=history,
        speed_mps=speed,
        acceleration_mps2=_acceleration(poses, t0_ns),
        yaw_rate_rps=yaw_rate,
        odometry_frame_id=near_t0[-1].frame_id,
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


def _select_motion(
    poses: PoseBuffer, t0_ns: int, limits: SamplingLimits, due_ns: int
) -> tuple[InterpolatedPoses, list[EgoPose]] | Rejection:
    """The 16 poses ending at t0, and the one or two measured poses around t0."""
    oldest, newest = poses.oldest_ns, poses.newest_ns
    reject = RejectionReason
    if oldest is None or newest is None:
        return Rejection(reject.ODOMETRY_MISSING, "odometry", due_ns=due_ns, detail="none yet")
    if oldest > t0_ns - HISTORY_SPAN_NS:
        return Rejection(
            reject.WARMING_UP,
            "odometry",
            (t0_ns - oldest) / NS_PER_MS,
            HISTORY_SPAN_NS / NS_PER_MS,
            "ms",
            due_ns,
            "history before t0",
        )
    if t0_ns - newest > limits.extrapolation_ns:
        return Rejection(
            reject.ODOMETRY_MISSING,
            "odometry",
            (t0_ns - newest) / NS_PER_MS,
            limits.extrapolation_ns / NS_PER_MS,
            "ms",
            due_ns,
            "ends before t0",
        )
    stamps = t0_ns - HISTORY_SPAN_NS + HISTORY_STEP_NS * np.arange(N_HISTORY, dtype=np.int64)
    history = interpolate(poses.around(int(stamps[0]), t0_ns), stamps)
    worst_gap = int(history.gaps_ns.max())
    if worst_gap > limits.odometry_gap_ns:
        return Rejection(
            reject.ODOMETRY_GAP,
            "odometry",
            worst_gap / NS_PER_MS,
            limits.odometry_gap_ns / NS_PER_MS,
            "ms",
            due_ns,
            "between neighbouring poses",
        )
    return history, poses.around(t0_ns, t0_ns)


def _motion_at(around_t0: Sequence[EgoPose], t0_ns: int) -> tuple[float, float]:
    """Speed and yaw rate at t0 from the poses on its two sides (or the last one before it)."""
    before, after = around_t0[0], around_t0[-1]
    gap = after.stamp_ns - before.stamp_ns
    fraction = min(max((t0_ns - before.stamp_ns) / gap, 0.0), 1.0) if gap else 0.0
    speed = before.speed_mps + fraction * (after.speed_mps - before.speed_mps)
    yaw_rate = before.yaw_rate_rps + fraction * (after.yaw_rate_rps - before.yaw_rate_rps)
    return speed, yaw_rate


def _acceleration(poses: PoseBuffer, t0_ns: int) -> float:
    """Slope of the speeds of the half second before t0, by least squares; 0 from one pose."""
    recent = poses.between(t0_ns - ACCELERATION_SPAN_NS, t0_ns)
    if len(recent) < 2:
        return 0.0
    times = np.array([(pose.stamp_ns - t0_ns) * 1e-9 for pose in recent])
    speeds = np.array([pose.speed_mps for pose in recent])
    times -= times.mean()
    return float(times @ speeds / (times @ times))


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
        images=np.array(images),
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


class UnreadableFrame(Exception):
    """A selected frame whose pixels cannot be had."""

    def __init__(self, slot: FrameSlot, reason: str) -> None:
        super().__init__(f"{slot.camera}: {reason}")
        self.slot = slot
        self.reason = reason
