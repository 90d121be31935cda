"""What the safety stage found, and what it did about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ViolationName(str, enum.Enum):
    """What may be wrong with a plan."""

    NOT_FINITE = "not_finite"
    WRONG_SHAPE = "wrong_shape"
    ROTATION = "rotation"  # a matrix that turns nothing, or a vehicle on its side
    STALE = "stale"  # older than a plan may be when it is published
    FUTURE = "future"  # planned from an instant that is yet to come
    NOT_NEWER = "not_newer"  # than the plan before
    START_POSITION = "start_position"  # it does not start at the vehicle
    START_SPEED = "start_speed"  # nor with its speed
    START_HEADING = "start_heading"
    REVERSE = "reverse"  # drives backwards
    FOLDED = "folded"  # steps back along itself
    INCONSISTENT_POSITION = "inconsistent_position"  # with its own actions
    INCONSISTENT_YAW = "inconsistent_yaw"
    SLOPE = "slope"  # rises or falls as no road does
    SPEED = "speed"
    ACCELERATION = "acceleration"
    BRAKING = "braking"
    JERK = "jerk"
    LATERAL = "lateral"
    CURVATURE = "curvature"
    CURVATURE_RATE = "curvature_rate"
    LASTING = "lasting"  # brought back within a limit again and again: no slip, but what it wants
    HESITATES = "hesitates"  # about to pull away, and again, and again
    JUMP_FORWARD = "jump_forward"  # away from the plan before, seen from where the rig is now
    JUMP_SIDEWAYS = "jump_sideways"
    JUMP_YAW = "jump_yaw"

    def __str__(self) -> str:
        return self.value


# Limits that a plan may exceed a little and be brought back within.
REPAIRABLE = frozenset(
    {
        ViolationName.SPEED,
        ViolationName.ACCELERATION,
        ViolationName.BRAKING,
        ViolationName.JERK,
        ViolationName.LATERAL,
        ViolationName.CURVATURE,
        ViolationName.CURVATURE_RATE,
    }
)


class SafetyAction(str, enum.Enum):
    """What became of a plan."""

    ACCEPTED = "accepted"
    REPAIRED = "repaired"  # brought back within limits that it exceeded slightly
    OTHER_CANDIDATE = "other_candidate"  # another one was taken instead
    REJECTED = "rejected"
    HELD = "held"  # good, while the fallback waits for more good ones
    OBSERVED = "observed"  # published as it is although it violates: `safety: observe`

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that a plan breaks: what was measured, what may be."""

    name: ViolationName
    value: float
    limit: float
    unit: str = ""

    def __str__(self) -> str:
        numbers = f"{self.value:.4g} {self.unit}".rstrip()
        return f"{self.name.value} {numbers} (limit {f'{self.limit:.4g} {self.unit}'.rstrip()})"


@dataclass(frozen=True, slots=True)
class SafetyVerdict:
    """Whether a plan may go out, what it violates or violated, and what was done."""

    ok: bool
    violations: tuple[Violation, ...] = ()
    action: SafetyAction = SafetyAction.ACCEPTED

    def __str__(self) -> str:
        what = "; ".join(map(str, self.violations))
        return f"{self.action.value}: {what}" if what else self.action.value

    @property
    def kind(self) -> str:
        """The same without the values, for counting."""
        what = ", ".join(violation.name.value for violation in self.violations)
        return f"{self.action.value}: {what}" if what else self.action.value
