"""What the safety stage is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from alpamayo_ros.safety.fallback import PathPoints
from alpamayo_ros.safety.limits import Vehicle
from alpamayo_ros.safety.verdict import SafetyVerdict
from alpamayo_ros.types import NS_PER_MS, Plan, PlannerSample, Pose3, Rejection


@dataclass(frozen=True, slots=True)
class SafetySettings:
    """What a user may set."""

    vehicle: Vehicle = field(default_factory=Vehicle)
    enforce: bool = True  # False: violations are named and the plan goes out all the same
    recovery_ticks: int = 3  # good plans in a row that end a fallback
    lock_ticks: int = 10  # unsafe plans in a row after which none is driven any more; 0: never
    repair_ticks: int = 10  # repaired plans in a row that go out; 0: any number
    max_plan_age_ns: int = 500 * NS_PER_MS
    fallback_on_path: bool = True


@dataclass(frozen=True, slots=True)
class Ego:
    """The vehicle at a plan's t0, by odometry."""

    speed_mps: float
    odometry_from_rig_t0: Pose3
    frame_id: str  # of odometry


def ego_of(sample: PlannerSample) -> Ego:
    """As the planner saw it."""
    return Ego(sample.speed_mps, sample.odometry_from_rig_t0, sample.odometry_frame_id)


@dataclass(frozen=True, slots=True)
class Ruling:
    """One plan judged: what goes out instead of it, or why nothing of it does."""

    verdict: SafetyVerdict
    plan: Plan | None = None
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class FallbackPlan:
    """A stop, and where it starts from."""

    plan: Plan
    odometry_from_rig_t0: Pose3
    frame_id: str  # of odometry
    reason: str
    path: PathPoints | None  # None: withheld from ~/path
