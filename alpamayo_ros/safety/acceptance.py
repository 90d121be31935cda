"""Which of a planner's candidates may go out."""

from __future__ import annotations

from alpamayo_ros.safety import choice
from alpamayo_ros.safety.checks import Situation, check
from alpamayo_ros.safety.limits import Vehicle, VehicleLimits
from alpamayo_ros.safety.repair import repair
from alpamayo_ros.safety.verdict import SafetyAction, SafetyVerdict, Violation, ViolationName
from alpamayo_ros.types import Plan, Rejection, RejectionReason


def choose(
    plan: Plan, situation: Situation, vehicle: Vehicle, repairs: bool
) -> tuple[Plan, SafetyVerdict]:
    """The first acceptable one: as the planner chose, or as ranked; else the first's faults.

    With `repairs` a limit that is exceeded slightly is mended.
    """
    options: list[Plan] = [] if plan.is_scored else [plan]
    first: tuple[Plan, SafetyVerdict] | None = None
    ranked: list[int] | None = None
    while True:
        for option in options:
            result = _judged(option, situation, vehicle.limits, repairs)
            if result[1].ok:
                if first is None or result[1].action is SafetyAction.REPAIRED:
                    return result
                verdict = SafetyVerdict(True, first[1].violations, SafetyAction.OTHER_CANDIDATE)
                return result[0], verdict
            first = first or result
        if first is not None and ranked is not None:
            return first
        ranked = choice.rank(plan, vehicle.limits, vehicle.weights)
        options = [choice.candidate(plan, index) for index in ranked]
        if first is None and not options:
            options = [plan]


def _judged(
    plan: Plan, situation: Situation, limits: VehicleLimits, repairs: bool
) -> tuple[Plan, SafetyVerdict]:
    violations = check(plan, limits, situation)
    if not violations:
        return plan, SafetyVerdict(True)
    mended = repair(plan, limits, violations) if repairs else None
    if mended is not None and not check(mended, limits, situation):
        return mended, SafetyVerdict(True, violations, SafetyAction.REPAIRED)
    return plan, SafetyVerdict(False, violations, SafetyAction.REJECTED)


def unsafe(violations: tuple[Violation, ...], due_ns: int) -> Rejection:
    """The tick of a plan that breaks limits."""
    worst = violations[0]
    remedy = ""
    if worst.name == ViolationName.STALE:
        remedy = (
            "; the model is slower than plan_age_limit_ms: fewer samples or tokens, a faster "
            "runtime, or, where the vehicle is slow enough for plans of that age, a higher limit"
        )
    return Rejection(
        RejectionReason.PLAN_UNSAFE,
        "safety",
        worst.value,
        worst.limit,
        worst.unit,
        due_ns,
        "; ".join(map(str, violations)) + remedy,
    )
