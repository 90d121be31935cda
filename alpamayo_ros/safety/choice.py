"""Which of a planner's candidates goes out: ranked by risk, comfort and progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import decisions, geometry
from alpamayo_ros.safety.checks import usage
from alpamayo_ros.safety.limits import ChoiceWeights, VehicleLimits
from alpamayo_ros.safety.verdict import ViolationName
from alpamayo_ros.types import WAYPOINT_STEP_S, Plan

Array = NDArray[np.float64]

# What is uncomfortable, as a root mean square over the plan: m/s^2, m/s^3, m/s^2.
COMFORT_ACCELERATION, COMFORT_JERK, COMFORT_LATERAL = 1.5, 1.5, 2.0
APART_M = 2.0  # mean distance from the medoid that counts as much as a limit used in full
_CHECKED = (
    ViolationName.ACCELERATION,
    ViolationName.BRAKING,
    ViolationName.LATERAL,
    ViolationName.CURVATURE,
    ViolationName.CURVATURE_RATE,
    ViolationName.SPEED,
)


def candidate(plan: Plan, index: int) -> Plan:
    """The plan with another of its candidates as the trajectory. Needs `candidates_action`."""
    action, speeds = plan.candidates_action, plan.candidates_speed_t0_mps
    assert action is not None and speeds is not None
    chosen = replace(
        plan,
        xyz_in_rig_t0=plan.candidates_xyz_in_rig_t0[index],
        rot_in_rig_t0=plan.candidates_rot_in_rig_t0[index],
        action=action[index],
        speed_t0_mps=float(speeds[index]),
    )
    if not plan.candidates_stated:
        return chosen
    stated = plan.candidates_stated[index]
    return replace(
        chosen,
        reasoning=stated.reasoning,
        decisions=stated.decisions,
        critical_components=stated.critical_components,
    )


def rank(plan: Plan, limits: VehicleLimits, weights: ChoiceWeights) -> list[int]:
    """Finite candidates, the best first; equal ones in their own order. Empty without actions."""
    if plan.candidates_action is None or plan.candidates_speed_t0_mps is None:
        return []
    finite = np.isfinite(plan.candidates_action).all(axis=(1, 2))
    finite &= np.isfinite(plan.candidates_speed_t0_mps)
    indices = np.flatnonzero(finite)
    if not len(indices):
        return []
    plans = [candidate(plan, int(index)) for index in indices]
    xy = plan.candidates_xyz_in_rig_t0[indices][..., :2]
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1).mean(axis=-1)
    from_medoid = apart[int(np.argmin(apart.sum(axis=1)))] / APART_M
    if len(plans) < 3:  # of two each is as much in the middle as the other
        from_medoid = np.zeros(len(plans))
    driven = np.array([float(p.speeds_mps.clip(min=0.0).sum()) for p in plans])
    furthest = max(float(driven.max()), 1e-6)  # all may stand
    costs = [
        weights.risk * (risk(p, limits) + min(float(from_medoid[k]), 1.0))
        + weights.comfort * discomfort(p)
        - weights.progress * float(driven[k]) / furthest
        for k, p in enumerate(plans)
    ]
    return [int(indices[k]) for k in np.argsort(costs, kind="stable")]


def risk(plan: Plan, limits: VehicleLimits) -> float:
    """The square of the share of the limit used most; 1 more where the plan does not do as said."""
    used = usage(plan.action, plan.speeds_mps, limits)
    most = max(max(used[name][0], 0.0) / used[name][1] for name in _CHECKED)
    return most**2 + disagreement(plan)


def disagreement(plan: Plan) -> float:
    """0 to 1: the stated decisions against those that the trajectory shows.

    Only what motion alone can refute: a stop that is not made or was not spoken of, a turn.
    """
    shown = decisions.decisions_of(plan.speeds_mps, geometry.yaw_of(plan.rot_in_rig_t0))
    stated = plan.decisions
    stop = "stop for static constraints"
    stops = float(plan.speeds_mps[-1]) < decisions.STANDSTILL_MPS
    wrong = 0.0
    if stated.longitudinal == stop and not stops:
        wrong += 0.5
    if stated.longitudinal == "set-speed tracking" and shown.longitudinal == stop:
        wrong += 0.5
    if (stated.lateral == "turn") != (shown.lateral == "turn") and "turn" in stated.lateral:
        wrong += 0.5
    return wrong


def discomfort(plan: Plan) -> float:
    """About 1 where accelerations, jerk and sideways acceleration are at the edge of comfort."""
    acceleration, curvature = plan.action[:, 0], plan.action[:, 1]
    jerk = np.diff(acceleration) / WAYPOINT_STEP_S
    sideways = curvature * plan.speeds_mps[1:] ** 2
    return (
        _rms(acceleration) / COMFORT_ACCELERATION
        + _rms(jerk) / COMFORT_JERK
        + _rms(sideways) / COMFORT_LATERAL
    ) / 3.0


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
