"""A plan that asks for slightly too much, brought back within the vehicle's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space
from alpamayo_ros.safety.limits import VehicleLimits
from alpamayo_ros.safety.verdict import REPAIRABLE, Violation
from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S, Plan

Array = NDArray[np.float64]

SLIGHT = 0.25  # of a limit: more is not a rounding of the model's but another idea
# How far the repaired path may lie from the planned one within the time that a controller follows.
NEAR_POINTS, NEAR_M = 10, 0.3
FAR_SHARE = 0.1  # of the way, beyond


def repair(plan: Plan, limits: VehicleLimits, violations: Sequence[Violation]) -> Plan | None:
    """The plan driven within the limits; None where that is not slight or leads elsewhere."""
    if not violations or not all(map(_is_slight, violations)):
        return None
    action = project(plan.action, plan.speed_t0_mps, limits)
    xyz, rot = action_space.integrate(action, plan.speed_t0_mps)
    apart = np.linalg.norm(xyz[:, :2] - plan.xyz_in_rig_t0[:, :2], axis=1)
    driven = np.cumsum(np.abs(plan.speeds_mps[1:])) * WAYPOINT_STEP_S
    if apart[:NEAR_POINTS].max() > NEAR_M or (apart > NEAR_M + FAR_SHARE * driven).any():
        return None
    xyz[:, 2] = plan.xyz_in_rig_t0[:, 2]
    return replace(plan, xyz_in_rig_t0=xyz, rot_in_rig_t0=rot, action=action)


def _is_slight(violation: Violation) -> bool:
    return violation.name in REPAIRABLE and violation.value <= (1 + SLIGHT) * violation.limit


def project(action: Array, speed_t0_mps: float, limits: VehicleLimits) -> Array:
    """Actions (64, 2) from `speed_t0_mps`, each step the nearest that the limits allow after the
    one before it."""
    dt = WAYPOINT_STEP_S
    jerk, rate = limits.max_jerk_mps3 * dt, limits.max_curvature_rate_1pms * dt
    wanted: list[list[float]] = action.tolist()
    speed, before, bent = speed_t0_mps, wanted[0][0], wanted[0][1]
    result = np.empty((N_WAYPOINTS, 2))
    for k, (acceleration, curvature) in enumerate(wanted):
        acceleration = min(max(acceleration, before - jerk), before + jerk)
        acceleration = min(acceleration, (limits.max_speed_mps - speed) / dt)
        acceleration = min(
            max(acceleration, -limits.max_braking_mps2), limits.max_acceleration_mps2
        )
        if speed >= 0.0 > speed + acceleration * dt:
            acceleration = -speed / dt  # a stop stays one
        after = speed + acceleration * dt
        # The bend that sideways acceleration allows, without dividing by the speed of a stop.
        square = max(speed * speed, after * after)
        bound = limits.max_curvature_1pm
        if square * bound > limits.max_lateral_mps2:
            bound = limits.max_lateral_mps2 / square
        curvature = min(max(curvature, bent - rate), bent + rate)
        curvature = min(max(curvature, -bound), bound)
        result[k] = acceleration, curvature
        speed, before, bent = after, acceleration, curvature
    return result
