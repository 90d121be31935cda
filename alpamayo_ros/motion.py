"""Poses -> the vehicle's history and motion at t0, or what is wrong with odometry there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alpamayo_ros.buffers import InterpolatedPoses, PoseBuffer, interpolate
from alpamayo_ros.types import (
    HISTORY_STEP_NS,
    N_HISTORY,
    NS_PER_MS,
    NS_PER_S,
    EgoPose,
    Rejection,
    RejectionReason,
)

HISTORY_SPAN_NS = (N_HISTORY - 1) * HISTORY_STEP_NS
# Half a second of speeds: long enough to average out the quantisation of wheel odometry, short
# enough to follow the onset of braking.
ACCELERATION_SPAN_NS = 500 * NS_PER_MS
# Poses against speeds: shorter, and a GNSS receiver's noise of 0.1 m would be a speed; longer, and
# a pose that stopped moving would be noticed late.
SPEED_SPAN_NS = 300 * NS_PER_MS
# Times the tolerance: at this speed a pose that stands still would be out of it.
BELIEVED = 1.5
SPEED_SHARE = 0.2  # of the speed, on top of the tolerance: tyres wear and slip

# Neighbouring poses further apart than any vehicle drives: a relocalisation, or a reset.
POSE_JUMP_M, POSE_JUMP_MPS = 2.0, 60.0


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """What odometry may be like."""

    odometry_gap_ns: int = 150 * NS_PER_MS  # neighbours of an interpolated pose
    extrapolation_ns: int = 50 * NS_PER_MS  # carried forward to t0
    speed_tolerance_mps: float = 1.0  # the twist's speed against the poses'


@dataclass(frozen=True, slots=True)
class Motion:
    """How the rig moved until t0."""

    history: InterpolatedPoses
    speed_mps: float
    acceleration_mps2: float
    yaw_rate_rps: float
    frame_id: str


def motion_at(
    poses: PoseBuffer, t0_ns: int, limits: MotionLimits, due_ns: int
) -> Motion | Rejection:
    """The 16 poses ending at t0, and the motion there. Odometry may end a little before t0."""
    oldest, newest = poses.oldest_ns, poses.newest_ns
    reject = RejectionReason
    if oldest is None or newest is None:
        return Rejection(reject.ODOMETRY_MISSING, "odometry", due_ns=due_ns, detail="none yet")
    if oldest > t0_ns - HISTORY_SPAN_NS:
        span_ms, wanted_ms = (t0_ns - oldest) / NS_PER_MS, HISTORY_SPAN_NS / NS_PER_MS
        why = reject.WARMING_UP
        return Rejection(why, "odometry", span_ms, wanted_ms, "ms", due_ns, "history before t0")
    if t0_ns - newest > limits.extrapolation_ns:
        before_ms, limit_ms = (t0_ns - newest) / NS_PER_MS, limits.extrapolation_ns / NS_PER_MS
        why = reject.ODOMETRY_MISSING
        return Rejection(why, "odometry", before_ms, limit_ms, "ms", due_ns, "ends before t0")
    stamps = t0_ns - HISTORY_SPAN_NS + HISTORY_STEP_NS * np.arange(N_HISTORY, dtype=np.int64)
    history = interpolate(poses.around(int(stamps[0]), t0_ns), stamps)
    worst_gap = int(history.gaps_ns.max())
    if worst_gap > limits.odometry_gap_ns:
        gap_ms, limit_ms = worst_gap / NS_PER_MS, limits.odometry_gap_ns / NS_PER_MS
        detail = "between neighbouring poses"
        return Rejection(reject.ODOMETRY_GAP, "odometry", gap_ms, limit_ms, "ms", due_ns, detail)
    wrong = check_speed(poses.between(t0_ns - SPEED_SPAN_NS, t0_ns), limits, due_ns)
    if wrong is not None:
        return wrong
    around = poses.around(t0_ns, t0_ns)
    speed, yaw_rate = _between(around, t0_ns)
    return Motion(history, speed, _acceleration(poses, t0_ns), yaw_rate, around[-1].frame_id)


def check_speed(
    recent: Sequence[EgoPose], limits: MotionLimits, due_ns: int = 0
) -> Rejection | None:
    """The way between the first and the last pose against the speeds that odometry claims."""
    if len(recent) < 2:
        return None
    span_s = (recent[-1].stamp_ns - recent[0].stamp_ns) / NS_PER_S
    way_m = float(np.linalg.norm(recent[-1].position_m - recent[0].position_m))
    claimed = float(np.mean([abs(pose.speed_mps) for pose in recent]))
    off = abs(way_m / span_s - claimed)
    limit = limits.speed_tolerance_mps + SPEED_SHARE * max(claimed, way_m / span_s)
    if off <= limit:
        return None
    return Rejection(
        RejectionReason.ODOMETRY_INCONSISTENT,
        "odometry",
        off,
        limit,
        "m/s",
        due_ns,
        f"its poses move at {way_m / span_s:.1f} m/s, its twist says {claimed:.1f} m/s; is either "
        "stuck, or in other units?",
    )


def _between(around_t0: Sequence[EgoPose], t0_ns: int) -> tuple[float, float]:
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


def is_elsewhere(before: EgoPose, after: EgoPose) -> bool:
    """Whether two poses belong to no one drive: another frame, or a jump of the position."""
    reach_m = POSE_JUMP_M + POSE_JUMP_MPS * abs(after.stamp_ns - before.stamp_ns) / NS_PER_S
    moved_m = float(np.linalg.norm(after.position_m - before.position_m))
    return after.frame_id != before.frame_id or moved_m > reach_m
