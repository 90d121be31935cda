"""What a planner has to beat: paths from the odometry at t0 alone.

Each gives (64, 3) metres in the rig frame at t0, one waypoint each 0.1 s up to 6.4 s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.evaluation.metrics import waypoint_times_s
from alpamayo_ros.types import N_WAYPOINTS

Path = NDArray[np.float64]


def stand_still() -> Path:
    """The rig stays where it is."""
    return np.zeros((N_WAYPOINTS, 3))


def constant_velocity(speed_mps: float) -> Path:
    """Straight on along the rig's x axis at the odometry's speed at t0.

    The speed is the twist along x, not its norm: what odometry reports sideways and upwards is
    pitch, roll and noise, and carried forward for 6.4 s it leaves the road.
    """
    return np.outer(waypoint_times_s(), (speed_mps, 0.0, 0.0))


def constant_turn_rate(speed_mps: float, yaw_rate_rps: float) -> Path:
    """An arc at the speed and yaw rate at t0."""
    times = waypoint_times_s()
    half_turn = 0.5 * yaw_rate_rps * times
    # The chord of an arc: its length v·t·sin(a)/a points half the turn to the side; np.sinc is
    # finite where the yaw rate is zero.
    chord = speed_mps * times * np.sinc(half_turn / np.pi)
    return np.stack([chord * np.cos(half_turn), chord * np.sin(half_turn), 0 * times], axis=-1)
