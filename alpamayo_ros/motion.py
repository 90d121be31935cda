"""Poses -> the vehicle's history and motion at t0, or what is wrong with odometry there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alpamayo_ros.buffers import InterpolatedPoses, PoseBuffer, interpolate
from alpamayo_ros.pose_motion import MAX_POSES, WINDOW_NS
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
# Speeds by poses against each other: as long as one false pose is in them.
STEADY_SPAN_NS = WINDOW_NS + 100 * NS_PER_MS
MAX_ACCELERATION_MPS2 = 10.0  # no road vehicle brakes harder on dry asphalt
# Poses against speeds: shorter, and a GNSS receiver's noise of 0.1 m would be a speed; longer, and
# a pose that stopped moving would be noticed late.
SPEED_SPAN_NS = 300 * NS_PER_MS
# Times the tolerance: at this speed a pose that stands still would be out of it.
BELIEVED = 1.5
SPEED_SHARE = 0.2  # of the speed, on top of the tolerance: tyres wear and slip

NEVER_FILLED = (
    "is it stuck? Where it is never filled, set odometry_twist to poses (on the command line "
    "--odometry-twist poses, or in the file of --params)"
)
TOO_FAR_APART = "its poses lie too far apart to tell its speed"

# Neighbouring poses further apart than any vehicle drives: a relocalisation, or a reset.
POSE_JUMP_M, POSE_JUMP_MPS = 2.0, 60.0


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """What odometry may be like."""

    odometry_gap_ns: int = 150 * NS_PER_MS  # neighbours of an interpolated pose
    extrapolation_ns: int = 50 * NS_PER_MS  # carried forward to t0
    speed_tolerance_mps: float = 1.0  # the twist's speed against the poses'
    motion_by_poses: bool = False  # speeds are the poses' own: no twist is read

    @property
    def check_span_ns(self) -> int:
        """How far back `check_motion` wants poses."""
        return STEADY_SPAN_NS if self.motion_by_poses else SPEED_SPAN_NS


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
    around = poses.around(t0_ns, t0_ns)
    if not (around[0].is_motion_known and around[-1].is_motion_known):
        return Rejection(reject.ODOMETRY_GAP, "odometry", due_ns=due_ns, detail=TOO_FAR_APART)
    stamps = t0_ns - HISTORY_SPAN_NS + HISTORY_STEP_NS * np.arange(N_HISTORY, dtype=np.int64)
    history = interpolate(poses.around(int(stamps[0]), t0_ns), stamps)
    worst_gap = int(history.gaps_ns.max())
    if worst_gap > limits.odometry_gap_ns:
        gap_ms, limit_ms = worst_gap / NS_PER_MS, limits.odometry_gap_ns / NS_PER_MS
        detail = "between neighbouring poses"
        return Rejection(reject.ODOMETRY_GAP, "odometry", gap_ms, limit_ms, "ms", due_ns, detail)
    # By poses, the one behind t0 has its share in the speed at t0.
    until_ns = around[-1].stamp_ns if limits.motion_by_poses else t0_ns
    wrong = check_motion(poses.between(t0_ns - limits.check_span_ns, until_ns), limits, due_ns)
    if wrong is not None:
        return wrong
    speed, yaw_rate = _between(around, t0_ns)
    return Motion(history, speed, _acceleration(poses, t0_ns), yaw_rate, around[-1].frame_id)


def check_motion(
    recent: Sequence[EgoPose], limits: MotionLimits, due_ns: int = 0
) -> Rejection | None:
    """What odometry contradicts itself in, over the poses of the last `limits.check_span_ns`."""
    check = check_steadiness if limits.motion_by_poses else check_speed
    return check(recent, limits, due_ns)


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
        f"its poses move at {way_m / span_s:.1f} m/s, its twist says {claimed:.1f} m/s; "
        + (NEVER_FILLED if claimed == 0.0 else "is either stuck, or in other units?"),
    )


def check_steadiness(
    recent: Sequence[EgoPose], limits: MotionLimits, due_ns: int = 0
) -> Rejection | None:
    """Speeds by poses against each other: whether any two are apart as no vehicle's can be.

    Of all pairs: while a false pose is in the slopes, the newest may look right by chance.
    """
    known = [pose for pose in recent if pose.is_motion_known]
    if len(known) < 2:
        return None
    stride = -(-len(known) // MAX_POSES)
    known = known[::-stride][::-1]  # with the newest
    times_s = np.array([pose.stamp_ns - known[0].stamp_ns for pose in known]) / NS_PER_S
    speeds_mps = np.array([pose.speed_mps for pose in known])
    changes = np.abs(speeds_mps - speeds_mps[:, None])
    bounds = limits.speed_tolerance_mps + MAX_ACCELERATION_MPS2 * np.abs(times_s - times_s[:, None])
    one, other = sorted(divmod(int(np.argmax(changes - bounds)), len(known)))
    change, bound = float(changes[one, other]), float(bounds[one, other])
    if change <= bound:
        return None
    return Rejection(
        RejectionReason.ODOMETRY_INCONSISTENT,
        "odometry",
        change,
        bound,
        "m/s",
        due_ns,
        f"by its poses {speeds_mps[one]:.1f} m/s became {speeds_mps[other]:.1f} m/s within "
        f"{times_s[other] - times_s[one]:.2f} s, as no vehicle's speed does; are they stuck, or "
        "corrected by a step?",
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
    recent = [pose for pose in recent if pose.is_motion_known]
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
