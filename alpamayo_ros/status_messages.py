"""What became of a tick, as a PlannerStatus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpamayo_ros.messages import Make, header, stamp
from alpamayo_ros.safety.verdict import SafetyVerdict
from alpamayo_ros.sources import SourceReport
from alpamayo_ros.types import Plan, PlannerSample, Rejection


@dataclass(frozen=True, slots=True)
class StatusContext:
    """What a status says beside the tick itself."""

    now_ns: int
    sources: tuple[SourceReport, ...] = ()
    plans_published: int = 0
    ticks_rejected: int = 0
    samples_dropped: int = 0
    navigation: str = ""
    notice: str = ""  # for `detail`: what is wrong although the tick was planned
    verdict: SafetyVerdict | None = None  # on the tick's plan; None where none came
    missing_cameras: tuple[str, ...] = ()  # that the tick's plan was made without
    fallback_reason: str = ""


def planned_status(
    make: Make,
    plan: Plan,
    sample: PlannerSample,
    due_ns: int,
    sequence: int,
    licence: str,
    latency_ms: float,
    skew_ms: float,
    stage_ms: Mapping[str, float],
    context: StatusContext,
) -> Any:
    """PlannerStatus of a tick that was planned."""
    fields = _status_fields(make, context, due_ns)
    fields.update(
        t0=stamp(make, plan.t0_ns),
        outcome=0,
        detail="; ".join(filter(None, (context.notice, *plan.notes))),
        sequence=sequence,
        model=plan.model,
        model_licence=licence,
        latency_ms=latency_ms,
        data_age_ms=(context.now_ns - plan.t0_ns) / 1e6,
        extrapolated_ms=sample.extrapolated_ms,
        camera_skew_ms=skew_ms,
        reasoning_follows=plan.reasoning_follows,
        stages=[
            make("alpamayo_ros/msg/StageTiming", stage=stage, duration_ms=float(duration))
            for stage, duration in stage_ms.items()
        ],
    )
    return make("alpamayo_ros/msg/PlannerStatus", **fields)


def rejected_status(
    make: Make, rejection: Rejection, model: str, licence: str, context: StatusContext
) -> Any:
    """PlannerStatus of a tick that could not be planned."""
    fields = _status_fields(make, context, rejection.due_ns)
    fields.update(
        outcome=1,
        reason=rejection.reason.value,
        source=rejection.source,
        value=float(rejection.value),
        limit=float(rejection.limit),
        unit=rejection.unit,
        detail="; ".join(filter(None, (str(rejection), context.notice))),
        model=model,
        model_licence=licence,
    )
    return make("alpamayo_ros/msg/PlannerStatus", **fields)


def _status_fields(make: Make, context: StatusContext, due_ns: int) -> dict[str, Any]:
    nan = float("nan")
    return {
        "header": header(make, context.now_ns, ""),
        "due": stamp(make, due_ns),
        "t0": stamp(make, 0),
        "outcome": 1,
        "sequence": 0,
        "reason": "",
        "source": "",
        "value": nan,
        "limit": nan,
        "unit": "",
        "detail": context.notice,
        "model": "",
        "model_licence": "",
        "latency_ms": nan,
        "data_age_ms": nan,
        "extrapolated_ms": 0.0,
        "camera_skew_ms": nan,
        "reasoning_follows": False,
        "missing_cameras": list(context.missing_cameras),
        "navigation": context.navigation,
        "stages": [],
        "safety_action": context.verdict.action.value if context.verdict else "",
        "safety_violations": _violations(make, context.verdict),
        "fallback_reason": context.fallback_reason,
        "sources": _sources(make, context.sources),
        "plans_published": context.plans_published,
        "ticks_rejected": context.ticks_rejected,
        "samples_dropped": context.samples_dropped,
    }


def _violations(make: Make, verdict: SafetyVerdict | None) -> list[Any]:
    return [
        make(
            "alpamayo_ros/msg/SafetyViolation",
            name=violation.name.value,
            value=float(violation.value),
            limit=float(violation.limit),
            unit=violation.unit,
        )
        for violation in (verdict.violations if verdict else ())
    ]


def _sources(make: Make, reports: Sequence[SourceReport]) -> list[Any]:
    return [
        make(
            "alpamayo_ros/msg/SourceStatus",
            name=report.name,
            topic=report.topic,
            age_ms=report.age_ms,
            transport_ms=report.transport_ms,
            rate_hz=report.rate_hz,
            received=report.received,
            rejected=report.rejected,
            last_error=report.last_error,
            view_coverage=report.view_coverage,
        )
        for report in reports
    ]
