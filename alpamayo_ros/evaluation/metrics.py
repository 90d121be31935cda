"""Displacement errors of planned paths, in metres over x and y; height is not scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S

Array = NDArray[np.floating[Any]]

# The horizons of every report: name in seconds -> number of waypoints up to and including it.
HORIZONS = {"1": 10, "2": 20, "4": 40, "6.4": N_WAYPOINTS}


def waypoint_times_s() -> NDArray[np.float64]:
    """(64,) seconds after t0: 0.1 … 6.4."""
    return np.arange(1, N_WAYPOINTS + 1, dtype=np.float64) * WAYPOINT_STEP_S


def displacement(planned_xyz: ArrayLike, true_xyz: ArrayLike) -> Array:
    """(…, T) distance of (…, T, 2 or 3) paths in the same frame; leading axes broadcast."""
    planned, true = np.asarray(planned_xyz), np.asarray(true_xyz)
    return np.linalg.norm(planned[..., :2] - true[..., :2], axis=-1)


def ade(planned_xyz: ArrayLike, true_xyz: ArrayLike, waypoints: int = N_WAYPOINTS) -> Array:
    """(…,) average displacement over the first `waypoints`."""
    return displacement(planned_xyz, true_xyz)[..., :waypoints].mean(axis=-1)


def fde(planned_xyz: ArrayLike, true_xyz: ArrayLike, waypoints: int = N_WAYPOINTS) -> Array:
    """(…,) displacement at the last of the first `waypoints`."""
    return displacement(planned_xyz, true_xyz)[..., waypoints - 1]


def min_ade(samples_xyz: ArrayLike, true_xyz: ArrayLike, waypoints: int = N_WAYPOINTS) -> Array:
    """(…,) ADE of the best of n samples (…, n, T, 3) against (…, T, 3).

    The best is chosen over the whole path also where `waypoints` is shorter, as the reference
    does: a sample is one plan, not a different one for each horizon.
    """
    distance = displacement(samples_xyz, np.asarray(true_xyz)[..., None, :, :])  # (…, n, T)
    best = np.argmin(distance.mean(axis=-1), axis=-1)[..., None]
    shortened = distance[..., :waypoints].mean(axis=-1)
    return np.take_along_axis(shortened, best, axis=-1)[..., 0]
