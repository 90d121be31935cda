"""The unicycle action space: accelerations and curvatures <-> poses.

Euler-free: speed is exact under constant acceleration, heading uses the distance actually covered
in a step, positions the trapezium of both ends' velocities (the model's own integration, so that
every planner's actions mean the same).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros import geometry
from alpamayo_ros.types import WAYPOINT_STEP_S

Array = NDArray[np.float64]


def integrate(action: ArrayLike, speed_t0_mps: float) -> tuple[Array, Array]:
    """Actions (64, 2) of m/s^2 and 1/m from `speed_t0_mps` to poses in the rig frame at t0.

    Returns xyz (64, 3) m and rotations (64, 3, 3) at t0 + 0.1 s … + 6.4 s; z stays 0.
    """
    acceleration, curvature = np.asarray(action, dtype=np.float64).T
    dt = WAYPOINT_STEP_S
    speeds = speed_t0_mps + dt * np.concatenate(([0.0], np.cumsum(acceleration)))
    distances = speeds[:-1] * dt + 0.5 * acceleration * dt * dt
    headings = np.concatenate(([0.0], np.cumsum(curvature * distances)))
    vx, vy = speeds * np.cos(headings), speeds * np.sin(headings)
    xyz = np.zeros((len(acceleration), 3))
    xyz[:, 0] = np.cumsum(vx[:-1] + vx[1:]) * dt / 2
    xyz[:, 1] = np.cumsum(vy[:-1] + vy[1:]) * dt / 2
    return xyz, geometry.yaw_to_rotation(headings[1:])


def forward_only(action: ArrayLike, speed_t0_mps: float) -> Array:
    """Actions (64, 2) whose braking ends at standstill, for planners that were not taught to
    reverse: theirs is noise about standing. A vehicle that rolls backwards at t0 keeps its own.
    """
    held = np.array(action, dtype=np.float64)
    speed = speed_t0_mps
    if speed < 0.0:
        return held
    for k, acceleration in enumerate(held[:, 0]):
        after = max(speed + WAYPOINT_STEP_S * acceleration, 0.0)
        held[k, 0] = (after - speed) / WAYPOINT_STEP_S
        speed = after
    return held
