"""Follows a trajectory: pure pursuit across, speed tracking along, and a stop without plans.

Stateless but for the trajectory at hand; knows stamps and poses, no clock and no ROS.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from alpamayo_ros.control.reference import Reference


class ControlState(str, enum.Enum):
    """What the controller is doing."""

    IDLE = "idle"  # no trajectory has come yet
    TRACKING = "tracking"
    STOPPING = "stopping"  # the newest trajectory is stale

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class FollowerSettings:
    """What a user may set; see `controller_node`."""

    lookahead_s: float = 0.7  # of travel to the point that is pursued
    lookahead_min_m: float = 3.0
    speed_gain_1ps: float = 1.5
    actuation_delay_s: float = 0.2  # commands act this much later: track the plan of then
    stale_s: float = 0.6  # a trajectory older than this is followed no more
    stop_braking_mps2: float = 2.0
    blind_braking_mps2: float = 4.0  # where odometry is lost: by dead reckoning no further
    max_acceleration_mps2: float = 2.5
    max_braking_mps2: float = 8.0
    max_curvature_1pm: float = 0.2


@dataclass(frozen=True, slots=True)
class RigState:
    """The rig in the odometry frame, now."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float


@dataclass(frozen=True, slots=True)
class ControlCommand:
    """To be held until the next one."""

    acceleration_mps2: float
    curvature_1pm: float
    state: ControlState
    plan_age_s: float = math.nan
    plan_sequence: int = 0


class Follower:
    """Give it trajectories as they come and ask for a command at any time."""

    def __init__(self, settings: FollowerSettings | None = None) -> None:
        self.settings = settings or FollowerSettings()
        self._reference: Reference | None = None

    def follow(self, reference: Reference) -> bool:
        """Take a trajectory unless a newer one is at hand."""
        held = self._reference
        if held is not None and reference.t0_ns < held.t0_ns:
            return False
        self._reference = reference
        return True

    def forget(self) -> None:
        """Drop the trajectory: after a jump of the clock it belongs to another time."""
        self._reference = None

    def command(self, now_ns: int, rig: RigState) -> ControlCommand:
        """The command for now. Brakes to a stop where there is no trajectory young enough."""
        reference, settings = self._reference, self.settings
        if reference is None:
            return ControlCommand(self._brake(rig), 0.0, ControlState.IDLE)
        age_s = reference.age_s(now_ns)
        curvature = self._pursue(reference, rig)
        # A trajectory from the future is another clock's: as untrustworthy as an old one.
        if not -settings.stale_s < age_s < settings.stale_s:
            state, acceleration = ControlState.STOPPING, self._brake(rig)
        else:
            state, acceleration = ControlState.TRACKING, self._track(reference, age_s, rig)
        return ControlCommand(acceleration, curvature, state, age_s, reference.sequence)

    def _brake(self, rig: RigState) -> float:
        """Comfortably, and softer at the very end; held at a standstill."""
        return -min(self.settings.stop_braking_mps2, 0.5 + 1.5 * max(rig.speed_mps, 0.0))

    def _track(self, reference: Reference, age_s: float, rig: RigState) -> float:
        settings = self.settings
        then_s = age_s + settings.actuation_delay_s
        # What is planned backwards is not driven: the plan's speed counts from 0 up.
        planned = max(reference.speed_at(then_s), 0.0)
        ahead = reference.acceleration_at(then_s)
        predicted = rig.speed_mps + settings.actuation_delay_s * reference.acceleration_at(age_s)
        wanted = ahead + settings.speed_gain_1ps * (planned - max(predicted, 0.0))
        if planned < 0.05 and rig.speed_mps < 0.3:
            wanted = min(wanted, -0.8)  # stand, on the brakes
        return min(max(wanted, -settings.max_braking_mps2), settings.max_acceleration_mps2)

    def _pursue(self, reference: Reference, rig: RigState) -> float:
        """Curvature of the arc to the trajectory's point one lookahead away."""
        settings = self.settings
        reach = max(settings.lookahead_s * rig.speed_mps, settings.lookahead_min_m)
        c, s = math.cos(rig.yaw_rad), math.sin(rig.yaw_rad)
        delta = reference.xy_in_odometry_m - (rig.x_m, rig.y_m)
        along, aside = delta @ (c, s), delta @ (-s, c)
        distance = np.hypot(along, aside)
        beyond = np.flatnonzero((distance >= reach) & (along > 0.0))
        if len(beyond):
            k = int(beyond[0])
            x, y = float(along[k]), float(aside[k])
            if k > 0 and distance[k] > distance[k - 1]:
                share = (reach - distance[k - 1]) / (distance[k] - distance[k - 1])
                share = float(min(max(share, 0.0), 1.0))
                x = float(along[k - 1] + share * (along[k] - along[k - 1]))
                y = float(aside[k - 1] + share * (aside[k] - aside[k - 1]))
        else:  # it ends before: carried on straight
            turned = float(reference.yaw_rad[-1]) - rig.yaw_rad
            left = max(reach - float(distance[-1]), 0.0)
            x = float(along[-1]) + left * math.cos(turned)
            y = float(aside[-1]) + left * math.sin(turned)
        squared = max(x * x + y * y, 1.0)
        limit = settings.max_curvature_1pm
        return min(max(2.0 * y / squared, -limit), limit)
