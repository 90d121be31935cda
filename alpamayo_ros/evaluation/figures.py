"""The figures of one plan at one instant: one row of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.evaluation import agreement, baselines
from alpamayo_ros.evaluation.metrics import EVALUATION_HORIZONS, displacement, running_ade
from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S, Plan, ReasoningSource

Array = NDArray[np.float64]

CANDIDATE_COUNTS = (1, 6, 16)  # the k of minADE_k
MISS_M = 2.0  # at a horizon: a plan that is farther off there has missed

# By horizon, in the columns `<metric>@<seconds>`.
HORIZON_METRICS = (
    "ade_m", "fde_m",
    *(f"min_{kind}_{k}_m" for kind in ("ade", "fde") for k in CANDIDATE_COUNTS),
    "miss", "along_m", "across_m", "heading_deg",
)  # fmt: skip
# Of the whole plan, in columns of their own names.
PLAN_METRICS = (
    "max_acceleration_mps2", "max_braking_mps2", "max_lateral_mps2", "max_jerk_mps3",
    "max_yaw_rate_rps", "comfortable", "agrees_longitudinally", "agrees_laterally",
)  # fmt: skip
_AT_HORIZONS = {
    metric: tuple(f"{metric}@{horizon}" for horizon in EVALUATION_HORIZONS)
    for metric in HORIZON_METRICS
}
_LAST_WAYPOINTS = np.array(list(EVALUATION_HORIZONS.values())) - 1
COLUMNS = (*(column for columns in _AT_HORIZONS.values() for column in columns), *PLAN_METRICS)
# nuPlan's bounds of a comfortable ride; jerk is the longitudinal one.
COMFORT_BOUNDS = {
    "max_acceleration_mps2": 2.40,
    "max_braking_mps2": 4.05,
    "max_lateral_mps2": 4.89,
    "max_jerk_mps3": 4.13,
    "max_yaw_rate_rps": 0.95,
}


@dataclass(frozen=True, slots=True)
class ScoredPath:
    """What is scored: a model's plan or a baseline's, in the rig frame at t0."""

    xyz_m: Array  # (64, 3)
    headings_rad: Array  # (64,)
    speeds_mps: Array  # (65,) from t0 on
    action: Array  # (64, 2) m/s^2, 1/m
    candidates_xyz_m: Array  # (n, 64, 3), the chosen one first, then as sampled


@dataclass(frozen=True, slots=True)
class Truth:
    """What the vehicle did after t0, in the rig frame at t0."""

    xyz_m: Array  # (64, 3)
    headings_rad: Array  # (64,)
    speed_t0_mps: float

    @property
    def groups(self) -> dict[str, str]:
        """What the instant counts to, by kind of group."""
        speeds = agreement.speeds_of(self.xyz_m, self.speed_t0_mps)
        return {
            "speed": agreement.speed_group(self.speed_t0_mps),
            "curvature": agreement.curvature_group(self.xyz_m, self.headings_rad),
            "manoeuvre": agreement.manoeuvre(speeds, self.headings_rad),
        }


def path_of(plan: Plan) -> ScoredPath:
    """A model's plan."""
    candidates = plan.candidates_xyz_in_rig_t0
    if len(candidates):
        chosen = int(np.abs(candidates - plan.xyz_in_rig_t0).max(axis=(1, 2)).argmin())
        candidates = np.concatenate(
            (plan.xyz_in_rig_t0[None], np.delete(candidates, chosen, axis=0))
        )
    else:
        candidates = plan.xyz_in_rig_t0[None]
    headings = geometry.yaw_of(plan.rot_in_rig_t0)
    return ScoredPath(plan.xyz_in_rig_t0, headings, plan.speeds_mps, plan.action, candidates)


def baseline_paths(speed_mps: float, yaw_rate_rps: float) -> dict[str, ScoredPath]:
    """The lines that every planner stands beside, from the motion at t0 alone."""
    times = np.arange(1, N_WAYPOINTS + 1) * WAYPOINT_STEP_S
    curvature = yaw_rate_rps / speed_mps if abs(speed_mps) > 1e-3 else 0.0
    lines = {
        "constant_velocity": (baselines.constant_velocity(speed_mps), speed_mps, 0.0, 0.0),
        "constant_turn_rate": (
            baselines.constant_turn_rate(speed_mps, yaw_rate_rps),
            speed_mps,
            yaw_rate_rps,
            curvature,
        ),
        "stand_still": (baselines.stand_still(), 0.0, 0.0, 0.0),
    }
    return {
        name: ScoredPath(
            xyz,
            np.angle(np.exp(1j * yaw_rate * times)),
            np.full(N_WAYPOINTS + 1, speed),
            np.tile((0.0, bend), (N_WAYPOINTS, 1)),
            xyz[None],
        )
        for name, (xyz, speed, yaw_rate, bend) in lines.items()
    }


BASELINES = tuple(baseline_paths(0.0, 0.0))


def figures(path: ScoredPath, truth: Truth, plan: Plan | None = None) -> dict[str, float]:
    """Every one of COLUMNS; NaN where it does not apply.

    `plan`: whose stated decisions are compared with its trajectory, where a model stated them.
    """
    row = dict.fromkeys(COLUMNS, float("nan"))
    error = path.xyz_m - truth.xyz_m
    cosine, sine = np.cos(truth.headings_rad), np.sin(truth.headings_rad)
    along = np.abs(error[:, 0] * cosine + error[:, 1] * sine)
    across = np.abs(error[:, 1] * cosine - error[:, 0] * sine)
    heading = np.abs(np.angle(np.exp(1j * (path.headings_rad - truth.headings_rad))))
    distance = displacement(path.xyz_m, truth.xyz_m)
    by_waypoint = {
        "ade_m": running_ade(distance),
        "fde_m": distance,
        "miss": (distance > MISS_M).astype(np.float64),
        "along_m": running_ade(along),
        "across_m": running_ade(across),
        "heading_deg": running_ade(np.rad2deg(heading)),
    }
    # One candidate for all horizons: see `min_ade` and `min_fde`.
    of_candidates = displacement(path.candidates_xyz_m, truth.xyz_m)
    averages = running_ade(of_candidates)
    for k in CANDIDATE_COUNTS:
        if len(of_candidates) >= k:
            by_waypoint[f"min_ade_{k}_m"] = averages[averages[:k, -1].argmin()]
            by_waypoint[f"min_fde_{k}_m"] = of_candidates[of_candidates[:k, -1].argmin()]
    for metric, values in by_waypoint.items():
        for column, value in zip(_AT_HORIZONS[metric], values[_LAST_WAYPOINTS].tolist()):
            row[column] = value
    row.update(comfort(path))
    if plan is not None and plan.reasoning_source == ReasoningSource.MODEL:
        row["agrees_longitudinally"], row["agrees_laterally"] = agreement.agreement(
            plan.decisions, path.speeds_mps, path.xyz_m, path.headings_rad
        )
    return row


def comfort(path: ScoredPath) -> dict[str, float]:
    """The hardest moments of a plan, and whether all keep COMFORT_BOUNDS (1 or 0)."""
    acceleration, curvature = path.action.T
    speeds = path.speeds_mps[1:]
    values: dict[str, Any] = {
        "max_acceleration_mps2": max(float(acceleration.max()), 0.0),
        "max_braking_mps2": max(float(-acceleration.min()), 0.0),
        "max_lateral_mps2": float(np.abs(curvature * speeds**2).max()),
        "max_jerk_mps3": float(np.abs(np.diff(acceleration)).max() / WAYPOINT_STEP_S),
        "max_yaw_rate_rps": float(np.abs(curvature * speeds).max()),
    }
    kept = all(values[name] <= bound for name, bound in COMFORT_BOUNDS.items())
    return {**values, "comfortable": float(kept)}
