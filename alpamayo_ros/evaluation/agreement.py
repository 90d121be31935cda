"""Whether a trajectory does what the reasoning beside it says, and what a drive was doing.

Only what motion alone can show is judged: "follow the lead vehicle" is consistent with most
trajectories, and has no verdict.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.decisions import SPEED_CHANGE_MPS, STANDSTILL_MPS, TURN_RAD
from alpamayo_ros.types import WAYPOINT_STEP_S, Decisions

Array = NDArray[np.float64]

LANE_CHANGE_M = 1.5  # to the side by the end: less than half a lane is no change of lanes
SPEED_BOUNDS_MPS = (STANDSTILL_MPS, 5.0, 15.0)
CURVATURE_BOUNDS_1PM = (0.002, 0.02)  # radii of 500 m and 50 m
MIN_DISTANCE_M = 2.0  # over 6.4 s: a shorter path has no curvature worth the name


def agrees_longitudinally(stated: str, speeds_mps: Array) -> bool | None:
    """Whether speeds (65,) from t0 on fit a longitudinal decision; None: they cannot tell."""
    first, last = float(speeds_mps[0]), float(speeds_mps[-1])
    slows, stands = last < first - SPEED_CHANGE_MPS, abs(last) < STANDSTILL_MPS
    verdicts = {
        "set-speed tracking": not (slows or stands),
        "speed adaptation": abs(last - first) > SPEED_CHANGE_MPS,
        "acceleration for passing": last > first,
        "yielding": slows or stands,
        "stop for static constraints": slows or stands,
    }
    return verdicts.get(stated)


def agrees_laterally(stated: str, xyz_m: Array, headings_rad: Array) -> bool | None:
    """Whether a path (64, 3) with headings (64,) fits a lateral decision; None: cannot tell."""
    turned = abs(float(np.unwrap(headings_rad)[-1]))
    verdicts = {
        "lane keeping and centring": turned <= TURN_RAD,
        "lane change": abs(float(xyz_m[-1, 1])) >= LANE_CHANGE_M,
        "turn": turned > TURN_RAD,
    }
    return verdicts.get(stated)


def agreement(
    stated: Decisions, speeds_mps: Array, xyz_m: Array, headings_rad: Array
) -> tuple[float, float]:
    """Longitudinal and lateral verdict, each 1, 0 or NaN for none."""
    verdicts = (
        agrees_longitudinally(stated.longitudinal, speeds_mps),
        agrees_laterally(stated.lateral, xyz_m, headings_rad),
    )
    along, across = (float("nan") if verdict is None else float(verdict) for verdict in verdicts)
    return along, across


def speeds_of(xyz_m: Array, speed_t0_mps: float) -> Array:
    """(65,) speeds of a recorded path (64, 3): at t0 as odometry says, then from its steps."""
    steps = np.diff(np.vstack([np.zeros(3), xyz_m]), axis=0)
    return np.concatenate(([speed_t0_mps], np.linalg.norm(steps[:, :2], axis=1) / WAYPOINT_STEP_S))


def speed_group(speed_mps: float) -> str:
    """The speed at t0, in words."""
    stand, slow, fast = SPEED_BOUNDS_MPS
    speed = abs(speed_mps)
    if speed < stand:
        return "standing"
    return f"below {slow:g} m/s" if speed < slow else (
        f"{slow:g} to {fast:g} m/s" if speed < fast else f"above {fast:g} m/s"
    )  # fmt: skip


def curvature_group(xyz_m: Array, headings_rad: Array) -> str:
    """The mean curvature of the recorded path, in words."""
    distance = float(np.linalg.norm(np.diff(xyz_m[:, :2], axis=0), axis=1).sum())
    if distance < MIN_DISTANCE_M:
        return "no distance"
    straight, sharp = CURVATURE_BOUNDS_1PM
    curvature = abs(float(np.unwrap(headings_rad)[-1])) / distance
    return "straight" if curvature < straight else "bend" if curvature < sharp else "sharp bend"


def manoeuvre(speeds_mps: Array, headings_rad: Array) -> str:
    """What the vehicle did over 6.4 s by its speeds (65,) and headings (64,)."""
    first, last = abs(float(speeds_mps[0])), abs(float(speeds_mps[-1]))
    turned = float(np.unwrap(headings_rad)[-1])
    if float(np.abs(speeds_mps).max()) < STANDSTILL_MPS:
        return "stand"
    if abs(turned) > TURN_RAD:
        return "turn left" if turned > 0 else "turn right"
    if first < STANDSTILL_MPS:
        return "start"
    if last < STANDSTILL_MPS:
        return "stop"
    if abs(last - first) <= SPEED_CHANGE_MPS:
        return "hold speed"
    return "speed up" if last > first else "slow down"
