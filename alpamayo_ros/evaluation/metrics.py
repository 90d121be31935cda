"""Displacement errors of planned paths, in metres over x and y; height is not scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.types import N_WAYPOINTS, WAYPOINT_STEP_S

Array = NDArray[np.floating[Any]]

# The horizons of every report: name in seconds -> number of waypoints up to and including it.
HORIZONS = {"1": 10, "2": 20, "4": 40, "6.4": N_WAYPOINTS}
EVALUATION_HORIZONS = {"1": 10, "2": 20, "3": 30, "4": 40, "5": 50, "6.4": N_WAYPOINTS}


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


def running_ade(distances: ArrayLike) -> Array:
    """(…, T) distances to (…, T): the ADE up to each waypoint."""
    given = np.asarray(distances)
    return np.cumsum(given, axis=-1) / np.arange(1, given.shape[-1] + 1)


def min_ade(samples_xyz: ArrayLike, true_xyz: ArrayLike, waypoints: int = N_WAYPOINTS) -> Array:
    """(…,) ADE of the best of n samples (…, n, T, 3) against (…, T, 3).

    The best is chosen over the whole path also where `waypoints` is shorter, as the reference
    does: a sample is one plan, not a different one for each horizon.
    """
    distance = displacement(samples_xyz, np.asarray(true_xyz)[..., None, :, :])  # (…, n, T)
    best = np.argmin(distance.mean(axis=-1), axis=-1)[..., None]
    shortened = distance[..., :waypoints].mean(axis=-1)
    return np.take_along_axis(shortened, best, axis=-1)[..., 0]


def min_fde(samples_xyz: ArrayLike, true_xyz: ArrayLike, waypoints: int = N_WAYPOINTS) -> Array:
    """(…,) FDE of the sample (…, n, T, 3) that ends nearest to the truth (…, T, 3).

    As in `min_ade`, one sample is chosen for all horizons: by where the whole path ends.
    """
    distance = displacement(samples_xyz, np.asarray(true_xyz)[..., None, :, :])  # (…, n, T)
    best = np.argmin(distance[..., -1], axis=-1)[..., None]
    return np.take_along_axis(distance[..., waypoints - 1], best, axis=-1)[..., 0]


# Length, width and height of the box whose corners are compared, and its centre at the waypoint.
CORNER_BOX_M = (4.0, 3.0, 2.0)


def corner_distance(
    samples_xyz: ArrayLike, samples_rot: ArrayLike, true_xyz: ArrayLike, true_rot: ArrayLike
) -> Array:
    """(…,) mean distance of a box's corners, of the best of n samples at each time and corner.

    Samples (…, n, T, 3) and (…, n, T, 3, 3) against (…, T, 3) and (…, T, 3, 3): headings count,
    unlike in the displacement errors.
    """
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    offsets = signs * np.array(CORNER_BOX_M) / 2  # (8, 3)

    def corners(xyz: ArrayLike, rot: ArrayLike) -> Array:
        turned = np.einsum("...ij,kj->...ki", np.asarray(rot), offsets)
        return np.asarray(xyz)[..., None, :] + turned  # (…, T, 8, 3)

    true = corners(true_xyz, true_rot)[..., None, :, :, :]
    distance = np.linalg.norm(corners(samples_xyz, samples_rot) - true, axis=-1)
    return distance.min(axis=-3).mean(axis=(-1, -2))
