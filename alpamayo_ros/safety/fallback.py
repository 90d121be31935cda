"""The stop where no plan is good: along the last good path, comfortable while there is room."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space
from alpamayo_ros.safety.limits import StopSettings, Vehicle
from alpamayo_ros.safety.track import Track
from alpamayo_ros.safety.way import (
    CURVATURE_SPEED_MPS,
    OnWay,
    Way,
    arc_curvature,
    arc_from,
    curvature_bound,
    way_of,
)
from alpamayo_ros.types import (
    N_WAYPOINTS,
    WAYPOINT_STEP_S,
    Decisions,
    EgoPose,
    Plan,
    Pose3,
    ReasoningSource,
)

Array = NDArray[np.float64]

SOURCE = "fallback"
MAX_STEPS = 800  # 80 s: a comfort stop from the fastest that a vehicle file may say
RELEASE_JERK_MPS3 = 5.0  # of letting the accelerator go, before there is any braking
SPEED_GAIN_1PS = 1.0  # towards the last good plan's own speed, where that is lower
STEER_M, STEER_S = 5.0, 0.8  # distance over which the way is regained: no less than this far
DAMPING = 1.0
END_M = 0.05
PATIENCE_RAMP_S = 1.0  # in which a stop without plans grows harder by as much as it began with


@dataclass(frozen=True, slots=True)
class PathPoints:
    """The 64 poses of ~/path, which need not be the trajectory's."""

    times_s: Array  # (64,) after the plan's t0
    xyz_in_rig_t0: Array  # (64, 3)
    rot_in_rig_t0: Array  # (64, 3, 3)


class Fallback:
    """One vehicle's; remembers the last good plan and how the stop under way began."""

    def __init__(self, vehicle: Vehicle) -> None:
        self._limits, self._stop = vehicle.limits, vehicle.stop
        self._good: Track | None = None
        self._way: Way | None = None  # of the stop under way

    def good(self, track: Track) -> None:
        """A plan went out: its path is the way of the next stop, and any stop is over."""
        self._good, self._way = track, None

    def relocate(self, new_from_old: Pose3, frame_id: str) -> None:
        """Odometry goes on in another frame, the vehicle on its way."""
        self._good = self._good.moved(new_from_old, frame_id) if self._good is not None else None
        self._way = None

    def forget(self) -> None:
        """No path from before is a way now."""
        self._good = self._way = None

    def plan(
        self,
        pose: EgoPose,
        acceleration_mps2: float,
        reason: str,
        model: str,
        since_s: float = -math.inf,
    ) -> tuple[Plan, PathPoints]:
        """The stop from a pose; `acceleration_mps2` is the one that was planned for this moment.

        It has been under way for `since_s`, and grows harder with that.

        The plan is stamped with the pose. Its 6.4 s may end before the vehicle stands; the path's
        points reach to where it stands whenever that is.
        """
        way, place = self._find_way(pose)
        action = self._roll_out(pose, acceleration_mps2, way, place, since_s)
        xyz, rot = action_space.integrate(action, pose.speed_mps)
        first = slice(0, N_WAYPOINTS)
        plan = Plan(
            t0_ns=pose.stamp_ns,
            xyz_in_rig_t0=xyz[first],
            rot_in_rig_t0=rot[first],
            action=action[first],
            speed_t0_mps=pose.speed_mps,
            candidates_xyz_in_rig_t0=xyz[None, first],
            candidates_rot_in_rig_t0=rot[None, first],
            reasoning=f"Stop: {reason}",
            reasoning_source=ReasoningSource.TRAJECTORY,
            decisions=Decisions("none", "none"),
            model=model,
            source=SOURCE,
        )
        # Longer than 6.4 s: every so many-th point, the last one where the vehicle stands.
        chosen = (
            np.ceil(np.arange(1, N_WAYPOINTS + 1) * (len(action) / N_WAYPOINTS)).astype(int) - 1
        )
        return plan, PathPoints((chosen + 1) * WAYPOINT_STEP_S, xyz[chosen], rot[chosen])

    def _find_way(self, pose: EgoPose) -> tuple[Way, OnWay]:
        if self._way is None and self._good is not None:
            self._way = way_of(self._good)
        place = self._way.locate(pose) if self._way is not None else None
        if self._way is None or place is None:
            self._way, place = arc_from(pose, self._limits), OnWay(0.0, 0.0, 0.0)
        return self._way, place

    def _roll_out(
        self, pose: EgoPose, acceleration_mps2: float, way: Way, place: OnWay, since_s: float
    ) -> Array:
        """Actions (n, 2) until the vehicle stands, at least 64."""
        limits, dt = self._limits, WAYPOINT_STEP_S
        speed, along = pose.speed_mps, place.along_m
        aside, turned = place.aside_m, place.turned_rad
        before = min(
            max(acceleration_mps2, -self._stop.max_deceleration_mps2), limits.max_acceleration_mps2
        )
        rate = limits.max_curvature_rate_1pms * dt
        # The wheels stand where they stand; below walking pace odometry does not tell where.
        bent = arc_curvature(pose, limits) if abs(speed) > CURVATURE_SPEED_MPS else None
        actions: list[tuple[float, float]] = []
        while len(actions) < N_WAYPOINTS or (speed != 0.0 and len(actions) < MAX_STEPS):
            ahead, way_speed, way_acceleration = way.at(along)
            if speed > 0.0:
                blind_s = since_s + len(actions) * dt
                acceleration = brake(speed, way.length_m - along, before, self._stop, blind_s)
                follow = way_acceleration + SPEED_GAIN_1PS * (way_speed - speed)
                follow = max(follow, -self._stop.max_deceleration_mps2)
                acceleration = max(
                    min(acceleration, follow), before - self._stop.max_jerk_mps3 * dt
                )
                if speed + acceleration * dt < 0.0:
                    acceleration = -speed / dt
            else:  # rolling backwards: as soft as forwards
                acceleration = min(self._stop.deceleration_mps2, -speed / dt)
            after = speed + acceleration * dt
            if abs(after) < 1e-9:
                acceleration, after = -speed / dt, 0.0
            reach = max(STEER_M, STEER_S * speed)
            curvature = ahead - aside / reach**2 - 2 * DAMPING * turned / reach
            if bent is not None:
                curvature = min(max(curvature, bent - rate), bent + rate)
            bound = curvature_bound(max(abs(speed), abs(after)), limits)
            curvature = min(max(curvature, -bound), bound)
            step_m = 0.5 * (speed + after) * dt
            along += step_m
            aside += step_m * math.sin(turned)
            turned += step_m * (curvature - ahead)
            actions.append((acceleration, curvature))
            speed, before, bent = after, acceleration, curvature
        return np.array(actions)


def brake(
    speed_mps: float,
    room_m: float,
    before_mps2: float,
    stop: StopSettings,
    blind_s: float = -math.inf,
) -> float:
    """The next step's acceleration, m/s^2, after `before_mps2`, with `room_m` to stand in.

    Comfortable while that leads to a stop in time. From where it does not, deceleration is what the
    room asks for, and jerk rises with its fourth power: mild at first, full from three times on.
    Who drives on without a plan for `blind_s` does not know what comes: `patience_s` after the
    stop began it grows harder too, up to `blind_deceleration_mps2`.
    """
    dt, needed = WAYPOINT_STEP_S, stop.max_deceleration_mps2
    # As a product: at a standstill at the very end both sides are 0.
    if speed_mps**2 < 2.0 * needed * max(room_m, 0.0):
        needed = speed_mps**2 / (2.0 * room_m)
    elif room_m <= END_M and speed_mps < 0.5:
        needed = stop.deceleration_mps2
    urgency = max(needed / stop.deceleration_mps2, 1.0)
    late = 1.0 + max(blind_s - stop.patience_s, 0.0) / PATIENCE_RAMP_S
    urgency = max(urgency, min(late, stop.blind_deceleration_mps2 / stop.deceleration_mps2))
    target = -min(stop.deceleration_mps2 * urgency, stop.max_deceleration_mps2)
    jerk = min(stop.jerk_mps3 * urgency**4, stop.max_jerk_mps3)
    if before_mps2 > 0.0:  # first off the accelerator
        released = before_mps2 - max(jerk, min(RELEASE_JERK_MPS3, stop.max_jerk_mps3)) * dt
        return max(released, min(0.0, before_mps2 - jerk * dt))
    return min(max(target, before_mps2 - jerk * dt), before_mps2 + RELEASE_JERK_MPS3 * dt)
