"""What is wrong with a plan: every check, each violation with its value and limit.

Nothing is divided by speed, so that a plan to stand still is as good as any: a stop is a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space, geometry
from alpamayo_ros.safety.limits import VehicleLimits
from alpamayo_ros.safety.track import POINT_TIMES_S, Track
from alpamayo_ros.safety.verdict import Violation, ViolationName
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_MS, WAYPOINT_STEP_S, Plan, Pose3

Array = NDArray[np.float64]
NAME = ViolationName

# A plan that asks for exactly a limit has not exceeded it, whatever float arithmetic says.
SLACK = 1e-6
START_M = 0.5  # of the first waypoint from where the vehicle's own speed takes it
START_SPEED_MPS, START_SPEED_SHARE = 0.5, 0.1  # odometry against the plan: 0.5 m/s + 10 %
START_YAW_RAD = 0.3
STANDSTILL_MPS = 0.3  # below it wheel odometry cannot tell rolling from standing
BACKWARD_M = 0.5  # driven backwards along the whole plan: the creep of a standing plan
CONSISTENT_M, CONSISTENT_SHARE = 0.1, 0.01  # positions against integrated actions
CONSISTENT_YAW_RAD = 0.05
SLOPE, SLOPE_M = 0.3, 0.05  # steeper than any road; what a step may rise at a standstill
UPRIGHT = 0.8  # cosine of the tilt
ORTHONORMAL = 0.01
STEERED_MPS = 0.5  # below it the wheels may be turned to anything
# Near enough that a good new plan can only differ by what a vehicle can do meanwhile: emergency
# braking makes 1 m of 0.5 s.
JUMP_POINTS = 5
JUMP_FORWARD_M, JUMP_SIDEWAYS_M, JUMP_YAW_RAD = 1.0, 0.5, 0.8
JUMP_PREVIOUS_S = 0.35  # a plan from longer ago says little about where this one should begin
FUTURE_NS = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan is held against."""

    now_ns: int  # 0: the clock has not started, and nothing is stale
    max_age_ns: int
    speed_mps: float  # of odometry at t0
    odometry_from_rig_t0: Pose3
    frame_id: str  # of odometry
    previous: Track | None = None  # the plan before
    newest_t0_ns: int = 0  # of a plan that went out already


def check(plan: Plan, limits: VehicleLimits, situation: Situation) -> tuple[Violation, ...]:
    """Every violation, the most basic first; none for a plan that may go out."""
    basic = [*_shapes_and_numbers(plan), *_times(plan, situation)]
    if any(found.name in (NAME.WRONG_SHAPE, NAME.NOT_FINITE) for found in basic):
        return tuple(basic)
    return (
        *basic,
        *_rotations(plan),
        *_start(plan, situation.speed_mps),
        *_direction(plan),
        *_consistency(plan),
        *check_limits(plan.action, plan.speeds_mps, limits),
        *_continuity(plan, situation),
    )


def check_limits(action: Array, speeds_mps: Array, limits: VehicleLimits) -> list[Violation]:
    """The limits of actions (64, 2) driven at speeds (65,)."""
    return [
        Violation(name, value, limit, unit)
        for name, (value, limit, unit) in usage(action, speeds_mps, limits).items()
        if value > limit * (1 + SLACK) + SLACK
    ]


def usage(
    action: Array, speeds_mps: Array, limits: VehicleLimits
) -> dict[ViolationName, tuple[float, float, str]]:
    """(most that is asked for, limit, unit) of each limit of the vehicle."""
    acceleration, curvature = action[:, 0], action[:, 1]
    fastest = np.maximum(np.abs(speeds_mps[:-1]), np.abs(speeds_mps[1:]))
    bend = np.abs(curvature)
    return {
        NAME.SPEED: (float(speeds_mps.max()), limits.max_speed_mps, "m/s"),
        NAME.ACCELERATION: (float(acceleration.max()), limits.max_acceleration_mps2, "m/s^2"),
        NAME.BRAKING: (float(-acceleration.min()), limits.max_braking_mps2, "m/s^2"),
        NAME.JERK: (_jerk(acceleration, speeds_mps), limits.max_jerk_mps3, "m/s^3"),
        NAME.LATERAL: (float((bend * fastest**2).max()), limits.max_lateral_mps2, "m/s^2"),
        NAME.CURVATURE: (float(bend.max()), limits.max_curvature_1pm, "1/m"),
        NAME.CURVATURE_RATE: (
            _curvature_rate(curvature, speeds_mps),
            limits.max_curvature_rate_1pms,
            "1/(m s)",
        ),
    }


def _jerk(acceleration: Array, speeds_mps: Array) -> float:
    """The largest, m/s^3; a stop ends with the brakes let go at once, which nobody feels."""
    change = np.diff(acceleration)
    lets_go = (np.abs(speeds_mps[2:]) < STANDSTILL_MPS) & (
        np.abs(acceleration[1:]) <= np.abs(acceleration[:-1])
    )
    return float(np.where(lets_go, 0.0, np.abs(change)).max()) / WAYPOINT_STEP_S


def _curvature_rate(curvature: Array, speeds_mps: Array) -> float:
    """The largest while moving, 1/(m s)."""
    moving = np.abs(speeds_mps[1:-1]) > STEERED_MPS
    return float(np.where(moving, np.abs(np.diff(curvature)), 0.0).max()) / WAYPOINT_STEP_S


def _shapes_and_numbers(plan: Plan) -> list[Violation]:
    found = []
    parts = (plan.xyz_in_rig_t0, plan.rot_in_rig_t0, plan.action)
    for part in parts:
        if len(part) != N_WAYPOINTS:
            found.append(Violation(NAME.WRONG_SHAPE, len(part), N_WAYPOINTS, "points"))
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)
    bad += not np.isfinite(plan.speed_t0_mps)
    if bad:
        found.append(Violation(NAME.NOT_FINITE, bad, 0, "values"))
    return found


def _times(plan: Plan, situation: Situation) -> list[Violation]:
    found = []
    if situation.now_ns:
        age_ns = situation.now_ns - plan.t0_ns
        if age_ns > situation.max_age_ns:
            limit_ms = situation.max_age_ns / NS_PER_MS
            found.append(Violation(NAME.STALE, age_ns / NS_PER_MS, limit_ms, "ms"))
        if -age_ns > FUTURE_NS:
            found.append(Violation(NAME.FUTURE, -age_ns / NS_PER_MS, FUTURE_NS / NS_PER_MS, "ms"))
    if plan.t0_ns <= situation.newest_t0_ns:
        behind_ms = (situation.newest_t0_ns - plan.t0_ns) / NS_PER_MS
        found.append(Violation(NAME.NOT_NEWER, behind_ms, 0.0, "ms"))
    return found


def _rotations(plan: Plan) -> list[Violation]:
    rot = plan.rot_in_rig_t0
    found = []
    error = float(np.abs(np.swapaxes(rot, 1, 2) @ rot - np.eye(3)).max())
    if error > ORTHONORMAL:
        found.append(Violation(NAME.ROTATION, error, ORTHONORMAL))
    # A reflection is orthonormal too: its axes do not follow each other.
    third = np.cross(rot[:, :, 0], rot[:, :, 1])
    upright = float(min(rot[:, 2, 2].min(), third[:, 2].min()))
    if upright < UPRIGHT:
        found.append(Violation(NAME.ROTATION, upright, UPRIGHT))
    return found


def _start(plan: Plan, speed_mps: float) -> list[Violation]:
    found = []
    first = plan.xyz_in_rig_t0[0]
    apart = float(np.hypot(first[0] - speed_mps * WAYPOINT_STEP_S, first[1]))
    if apart > START_M:
        found.append(Violation(NAME.START_POSITION, apart, START_M, "m"))
    off = abs(plan.speed_t0_mps - speed_mps)
    limit = START_SPEED_MPS + START_SPEED_SHARE * abs(speed_mps)
    if off > limit:
        found.append(Violation(NAME.START_SPEED, off, limit, "m/s"))
    turned = abs(float(geometry.yaw_of(plan.rot_in_rig_t0[0])))
    if turned > START_YAW_RAD:
        found.append(Violation(NAME.START_HEADING, turned, START_YAW_RAD, "rad"))
    return found


def _direction(plan: Plan) -> list[Violation]:
    found = []
    slowest = float(plan.speeds_mps.min())
    if slowest < -STANDSTILL_MPS:
        found.append(Violation(NAME.REVERSE, -slowest, STANDSTILL_MPS, "m/s"))
    xyz = np.concatenate((np.zeros((1, 3)), plan.xyz_in_rig_t0))
    steps = np.diff(xyz, axis=0)
    along = np.sum(steps[:, :2] * plan.rot_in_rig_t0[:, :2, 0], axis=1)
    backward = float(-np.minimum(along, 0.0).sum())
    if backward > BACKWARD_M:
        found.append(Violation(NAME.FOLDED, backward, BACKWARD_M, "m"))
    rise = np.abs(steps[:, 2])
    over = rise - SLOPE * np.hypot(steps[:, 0], steps[:, 1]) - SLOPE_M
    worst = int(over.argmax())
    if over[worst] > 0:
        found.append(
            Violation(NAME.SLOPE, float(rise[worst]), float(rise[worst] - over[worst]), "m")
        )
    return found


def _consistency(plan: Plan) -> list[Violation]:
    """Positions and headings against the actions, integrated as every planner does."""
    found = []
    xyz, rot = action_space.integrate(plan.action, plan.speed_t0_mps)
    apart = np.linalg.norm(xyz[:, :2] - plan.xyz_in_rig_t0[:, :2], axis=1)
    driven = np.cumsum(np.abs(plan.speeds_mps[1:])) * WAYPOINT_STEP_S
    over = apart - CONSISTENT_M - CONSISTENT_SHARE * driven
    worst = int(over.argmax())
    if over[worst] > 0:
        limit = float(apart[worst] - over[worst])
        found.append(Violation(NAME.INCONSISTENT_POSITION, float(apart[worst]), limit, "m"))
    turned = geometry.yaw_of(np.swapaxes(rot, 1, 2) @ plan.rot_in_rig_t0)
    off = float(np.abs(turned).max())
    if off > CONSISTENT_YAW_RAD:
        found.append(Violation(NAME.INCONSISTENT_YAW, off, CONSISTENT_YAW_RAD, "rad"))
    return found


def _continuity(plan: Plan, situation: Situation) -> list[Violation]:
    """The next 0.5 s against the plan before, brought to where the rig is at t0."""
    previous = situation.previous
    if previous is None or previous.frame_id != situation.frame_id:
        return []
    shift_s = previous.since_s(plan.t0_ns)
    if not 0.0 <= shift_s <= JUMP_PREVIOUS_S:
        return []
    rig = situation.odometry_from_rig_t0
    wanted = POINT_TIMES_S[1 : JUMP_POINTS + 1] + shift_s
    last = int(np.searchsorted(POINT_TIMES_S, wanted[-1])) + 1
    known, then = POINT_TIMES_S[:last], previous.xyz_in_odometry[:last]
    before = np.stack([np.interp(wanted, known, then[:, axis]) for axis in (0, 1, 2)], axis=1)
    before = (before - rig.translation_m) @ rig.rotation
    yaw = np.interp(wanted, known, previous.yaw_in_odometry[:last])
    yaw = yaw - float(geometry.yaw_of(rig.rotation))
    apart = plan.xyz_in_rig_t0[:JUMP_POINTS] - before
    c, s = np.cos(yaw), np.sin(yaw)
    forward = float(np.abs(apart[:, 0] * c + apart[:, 1] * s).max())
    sideways = float(np.abs(apart[:, 1] * c - apart[:, 0] * s).max())
    turned = geometry.yaw_of(plan.rot_in_rig_t0[:JUMP_POINTS]) - yaw
    turned_rad = float(np.abs(np.arctan2(np.sin(turned), np.cos(turned))).max())
    return [
        Violation(name, value, limit, unit)
        for name, value, limit, unit in (
            (NAME.JUMP_FORWARD, forward, JUMP_FORWARD_M, "m"),
            (NAME.JUMP_SIDEWAYS, sideways, JUMP_SIDEWAYS_M, "m"),
            (NAME.JUMP_YAW, turned_rad, JUMP_YAW_RAD, "rad"),
        )
        if value > limit
    ]
