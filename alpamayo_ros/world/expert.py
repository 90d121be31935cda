"""The privileged expert: knows the world, drives it well, and says why.

A teacher, not a planner: it looks at the simulation's true state instead of at cameras. Every plan
is made of the state alone, so that it can label drives that others drove (DAgger).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alpamayo_ros import action_space
from alpamayo_ros.types import Decisions, Plan, ReasoningSource
from alpamayo_ros.world.hazards import Hazards, look
from alpamayo_ros.world.rollout import Rollout, roll_out
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.scenario import Shift
from alpamayo_ros.world.simulation import Simulation

NAME = "expert"
_CONSIDERED = 35  # steps: what limits the next 3.5 s is the decision
_STANDING_MPS = 0.3
_FAR_M = 2.5  # from the way: who swings out late around a car is 2 m from it, and has to learn it
_HARD_MPS2 = 5.0  # of braking: up to here it is what has to be learned
_BY_LIMIT = {
    "light": "stop for static constraints",
    "pedestrian": "yielding",
    "oncoming": "gap searching",
    "lead": "lead-obstacle following",
    "waiting": "speed adaptation",
    "slow": "speed adaptation",
    "cruise": "set-speed tracking",
}


@dataclass(frozen=True)
class Label:
    """The expert's answer to one state."""

    plan: Plan
    confidence: float  # 0 … 1: low far from the way and where the brakes have to be hit
    hazards: Hazards  # what it minded


class Expert:
    """One scenario's expert."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.route = Route(simulation.scenario)

    def label(self, t0_ns: int) -> Label:
        """The plan of this instant, stamped t0."""
        simulation = self._simulation
        hazards = look(simulation, self.route)
        rollout = roll_out(simulation, self.route, hazards)
        speed = simulation.ego.speed_mps
        xyz, rot = action_space.integrate(rollout.action, speed)
        decisions, reasoning = self._explain(rollout, hazards)
        plan = Plan(
            t0_ns=t0_ns,
            xyz_in_rig_t0=xyz,
            rot_in_rig_t0=rot,
            action=rollout.action,
            speed_t0_mps=speed,
            candidates_xyz_in_rig_t0=xyz[None],
            candidates_rot_in_rig_t0=rot[None],
            reasoning=reasoning,
            reasoning_source=ReasoningSource.MODEL,
            decisions=decisions,
            model=NAME,
        )
        return Label(plan, confidence(rollout), hazards)

    # ---- why ---------------------------------------------------------------------------------

    def _explain(self, rollout: Rollout, hazards: Hazards) -> tuple[Decisions, str]:
        """Decisions of the sets in decisions.py, and one sentence: what is done and why."""
        limit = deciding_limit(rollout)
        lateral, aside, shift = self._lateral(rollout)
        along = self._longitudinal(limit, rollout, hazards, shift)
        standing = not np.any(rollout.action[:, 0]) and self._speed < _STANDING_MPS
        if standing:
            lateral = "none"
        sentence = along if standing or not aside else f"{along}; {aside}"
        return Decisions(_BY_LIMIT[limit], lateral), f"{sentence}."

    @property
    def _speed(self) -> float:
        return self._simulation.ego.speed_mps

    def _longitudinal(
        self, limit: str, rollout: Rollout, hazards: Hazards, shift: Shift | None
    ) -> str:
        if limit in ("light", "pedestrian", "oncoming"):
            stop = next(stop for stop in hazards.stops if stop.kind == limit)
            stands = self._speed < _STANDING_MPS
            where = {
                "light": "at the stop line",
                "pedestrian": "before the crossing",
                "oncoming": "behind the stopped vehicle",
            }[limit]
            verb = "Wait" if stands else "Stop"
            return f"{verb} {where} because {stop.cause}"
        if limit == "lead":
            assert hazards.lead is not None
            if hazards.lead.acceleration_mps2 < -0.5:
                return "Slow down behind the lead vehicle because it is braking"
            if hazards.lead.speed_mps < _STANDING_MPS:
                return "Stop behind the lead vehicle because it stands"
            return "Keep a distance to the lead vehicle because it is slower"
        if limit == "waiting":
            return "Slow down because a pedestrian waits at the crossing"
        if limit == "slow":
            return f"Adapt speed because of the {self._slow_cause()}"
        starting = self._speed < 0.6 * self.route.scenario.cruise_mps
        return "Speed up because the way is free" if starting else "Keep speed, the way is free"

    def _slow_cause(self) -> str:
        simulation = self._simulation
        reach = max(6.0 * self._speed, 15.0)
        stretch = self.route.slow_at(simulation.s_m, reach)
        if stretch is not None:
            return stretch.cause + " ahead"
        for junction in simulation.scenario.junctions:
            near = junction.start_m - simulation.s_m < reach
            if junction.end_m > simulation.s_m and near and junction.turn != "straight":
                return f"{junction.turn} turn at the junction"
        return "bend ahead"

    def _lateral(self, rollout: Rollout) -> tuple[str, str, Shift | None]:
        """(decision, words, shift) of what happens sideways within the plan's reach."""
        s_m = self._simulation.s_m
        driven = float(np.sum(np.maximum(_speeds(rollout, self._speed), 0.0)) * 0.1)
        shift = self.route.shift_at(s_m, driven)
        if shift is not None and s_m < shift.full_end_m:
            side = "left" if shift.offset_m > 0 else "right"
            kind = "out-of-lane nudge" if shift.leaves_lane else "in-lane nudge"
            return kind, f"nudge to the {side} past the {shift.cause}", shift
        for junction in self._simulation.scenario.junctions:
            if s_m < junction.end_m and junction.start_m < s_m + driven:
                if junction.turn == "straight":
                    return "lane keeping and centring", "go straight at the junction", None
                return "turn", f"turn {junction.turn} at the junction", None
        return "lane keeping and centring", "", None


def deciding_limit(rollout: Rollout) -> str:
    """What holds the plan back within the next 3.5 s: a stop before a lead before a speed."""
    near = rollout.limits[:_CONSIDERED]
    for limit in ("pedestrian", "light", "oncoming", "lead", "waiting", "slow"):
        if near.count(limit) >= 3:
            return limit
    return "cruise"


def confidence(rollout: Rollout) -> float:
    """1 on the way at ease; falls with the distance from the way and with hard braking."""
    beside = math.exp(-((rollout.way_error_m / _FAR_M) ** 2))
    braking = 1.0 / (1.0 + max(rollout.hardest_mps2 - _HARD_MPS2, 0.0))
    return beside * braking


def _speeds(rollout: Rollout, speed_mps: float) -> np.ndarray:
    return speed_mps + 0.1 * np.cumsum(rollout.action[:, 0])
