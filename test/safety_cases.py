"""Plans, samples and stages for the tests of the safety stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from simulate import START_NS, Motion, ms

from alpamayo_ros import action_space, geometry
from alpamayo_ros.safety.checks import Situation, check
from alpamayo_ros.safety.limits import VehicleLimits
from alpamayo_ros.safety.rulings import Ego, FallbackPlan, Ruling, SafetySettings
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.types import (
    Decisions,
    EgoPose,
    Plan,
    PlannerSample,
    Pose3,
    ReasoningSource,
    Rejection,
    RejectionReason,
)

T0_NS = START_NS + ms(3_000)
LIMITS = VehicleLimits()
LOST = Rejection(RejectionReason.CAMERA_MISSING, "front_wide")
INVALID = Rejection(RejectionReason.ODOMETRY_INVALID, "odometry")  # at any time


def plan_of(
    action: ArrayLike, speed_mps: float = 10.0, t0_ns: int = T0_NS, **fields: object
) -> Plan:
    """A plan that is what its actions (64, 2) make of a speed."""
    xyz, rot = action_space.integrate(action, speed_mps)
    values: dict[str, object] = {
        "t0_ns": t0_ns,
        "xyz_in_rig_t0": xyz,
        "rot_in_rig_t0": rot,
        "action": action,
        "speed_t0_mps": speed_mps,
        "candidates_xyz_in_rig_t0": xyz[None],
        "candidates_rot_in_rig_t0": rot[None],
        "reasoning": "Keep speed.",
        "reasoning_source": ReasoningSource.TRAJECTORY,
        "decisions": Decisions("set-speed tracking", "lane keeping and centring"),
        "model": "test",
    }
    return Plan(**{**values, **fields})  # type: ignore[arg-type]


def actions(acceleration: ArrayLike = 0.0, curvature: ArrayLike = 0.0) -> NDArray[np.float64]:
    """(64, 2), each a number or 64 of them."""
    columns = [np.broadcast_to(np.asarray(c, float), (64,)) for c in (acceleration, curvature)]
    return np.stack(columns, axis=1).copy()


def braking(speed_mps: float, deceleration_mps2: float) -> NDArray[np.float64]:
    """Actions to a standstill, then none."""
    result, speed = actions(), speed_mps
    for k in range(64):
        result[k, 0] = -min(deceleration_mps2, speed / 0.1)
        speed += 0.1 * result[k, 0]
    return result


def sample_of(pose: EgoPose) -> PlannerSample:
    """A sample at a pose; its images are black and its history stands still."""
    return PlannerSample(
        pose.stamp_ns,
        np.zeros((1, 4, 2, 2, 3), np.uint8),
        np.zeros((1, 4), np.int64),
        np.zeros(1, np.int64),
        np.zeros((16, 3)),
        np.tile(np.eye(3), (16, 1, 1)),
        pose.speed_mps,
        0.0,
        pose.yaw_rate_rps,
        geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw),
        pose.frame_id,
    )


def situation(speed_mps: float = 10.0, **fields: object) -> Situation:
    """At the odometry frame's origin, 60 ms after t0, with nothing before."""
    here = Situation(T0_NS + ms(60), ms(500), speed_mps, geometry.identity_pose(), "odom")
    return replace(here, **fields)  # type: ignore[arg-type]


def names(plan: Plan, at: Situation | None = None, limits: VehicleLimits = LIMITS) -> set[str]:
    """What a plan violates."""
    found = check(plan, limits, at or situation(plan.speed_t0_mps))
    assert all(np.isfinite([v.value, v.limit]).all() for v in found)
    return {violation.name.value for violation in found}


def moved(plan: Plan, by_m: ArrayLike) -> Plan:
    """Every waypoint elsewhere."""
    return replace(plan, xyz_in_rig_t0=plan.xyz_in_rig_t0 + np.asarray(by_m, float))


def stage(**settings: object) -> SafetyStage:
    """A stage started 1 s before T0_NS."""
    subject = SafetyStage(SafetySettings(**settings), "test")  # type: ignore[arg-type]
    subject.start(T0_NS - ms(1_000))
    return subject


STRAIGHT = Motion(yaw_rate_rps=0.0, yaw_rad=0.4)


def at(plan: Plan, rig: Pose3, points: int = 64) -> NDArray[np.float64]:
    """(n, 2) waypoints in the odometry frame."""
    return geometry.apply(rig, plan.xyz_in_rig_t0[:points])[:, :2]


def pose_at(t0_ns: int) -> EgoPose:
    """10 m/s, straight on."""
    return STRAIGHT.pose(t0_ns)


def judge(
    subject: SafetyStage, t0_ns: int, action: np.ndarray | None = None, **plan: object
) -> Ruling:
    """A plan of the straight drive, 60 ms after its t0."""
    made = plan_of(actions() if action is None else action, 10.0, t0_ns, **plan)
    return judge_plan(subject, made)


def judge_plan(subject: SafetyStage, plan: Plan, late_ms: float = 60.0) -> Ruling:
    """At the pose of its t0."""
    pose = pose_at(plan.t0_ns)
    rig = geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
    return subject.judge(plan, Ego(10.0, rig, "odom"), plan.t0_ns, plan.t0_ns + ms(late_ms))


def stops(subject: SafetyStage, first_ns: int, last_ns: int) -> list[FallbackPlan]:
    """What comes out when asked every 20 ms, with odometry as new as can be."""
    found = []
    for now_ns in range(first_ns, last_ns, ms(20)):
        stop = subject.fallback(pose_at(now_ns - ms(10)), now_ns)
        if stop is not None:
            found.append(stop)
    return found


def gaps(found: Sequence[FallbackPlan]) -> set[int]:
    """Between stops, in ms."""
    stamps = [stop.plan.t0_ns for stop in found]
    return {(b - a) // ms(1) for a, b in zip(stamps, stamps[1:])}
