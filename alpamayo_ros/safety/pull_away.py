"""A standing vehicle whose plans keep saying "in a moment" gets the plan without that moment.

Every plan of a standing vehicle starts at zero speed. A model that starts half a second later, or
so gently that a tick later nothing has moved, would stand for ever, each plan taking the place of
the one before. A longer wait is the model's decision and stays one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alpamayo_ros import action_space
from alpamayo_ros.safety.verdict import Violation, ViolationName
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S, WAYPOINT_STEP_S, Plan

STANDING_MPS = 0.1
GOES_MPS, GOES_M = 0.5, 1.0  # what a plan to pull away reaches
MOMENT_STEPS = 5  # of 0.1 s: a wait for something to happen is longer
PATIENCE_NS = 1 * NS_PER_S  # so long it may go on


class PullAway:
    """Of one vehicle; remembers since when its plans have said that it is about to go."""

    def __init__(self) -> None:
        self._since_ns: int | None = None

    def forget(self) -> None:
        """Nothing was said."""
        self._since_ns = None

    def hold_to_it(self, plan: Plan, speed_mps: float) -> tuple[Plan, Violation | None]:
        """The plan without the moment that has lasted too long, and how long it would last on."""
        lead = _lead(plan)
        if abs(speed_mps) > STANDING_MPS or lead is None or lead > MOMENT_STEPS:
            self._since_ns = None
            return plan, None
        self._since_ns = plan.t0_ns if self._since_ns is None else self._since_ns
        waited_ns = plan.t0_ns - self._since_ns
        if lead == 0 or waited_ns < PATIENCE_NS:
            return plan, None
        limit_s = PATIENCE_NS / NS_PER_S
        wait = Violation(ViolationName.HESITATES, waited_ns / NS_PER_S, limit_s, "s")
        return _without_lead(plan, lead), wait


def _lead(plan: Plan) -> int | None:
    """Steps at a standstill before the plan moves; None where it does not pull away."""
    speeds = plan.speeds_mps
    if abs(plan.speed_t0_mps) > STANDING_MPS:
        return None
    if speeds.max() < GOES_MPS or speeds.sum() * WAYPOINT_STEP_S < GOES_M:
        return None
    return int(np.argmax(speeds[1:] > STANDING_MPS))


def _without_lead(plan: Plan, lead: int) -> Plan:
    """Begun `lead` steps later, and carried on at its last speed and curvature."""
    tail = np.tile([0.0, plan.action[-1, 1]], (lead, 1))
    action = np.concatenate((plan.action[lead:], tail))
    assert len(action) == N_WAYPOINTS
    xyz, rot = action_space.integrate(action, plan.speed_t0_mps)
    xyz[:, 2] = plan.xyz_in_rig_t0[:, 2]
    return replace(plan, xyz_in_rig_t0=xyz, rot_in_rig_t0=rot, action=action)
