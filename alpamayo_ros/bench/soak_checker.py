"""Whether a plan that went out may be driven: by its waypoints alone, as a stranger would look.

Shares no code with the safety stage, on purpose: an error there must not hide itself here. Speeds
and curvatures come out of positions, headings and the published speeds, not out of the actions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# The figures of the `default` profile in config/vehicle.yaml, written down a second time. Measured
# by differences over 0.1 s they blur: 3 % and a little.
SPEED_MPS, ACCELERATION_MPS2, BRAKING_MPS2, JERK_MPS3 = 40.0, 4.0, 8.0, 20.0
SIDEWAYS_MPS2, CURVATURE_1PM = 5.0, 0.2
SHARE = 1.03
MAX_AGE_S, MAX_AGE_FALLBACK_S = 0.5, 0.21
START_M = 0.55
STILL_MPS = 0.5


@dataclass(frozen=True)
class Sent:
    """A plan that went out, and what was said of it."""

    now_ns: int
    t0_ns: int
    source: str
    reason: str
    flagged: bool  # as anything but accepted
    as_planned: bool  # the trajectory is the one that the model chose
    xyz: Any  # (64, 3) m in the rig frame at t0
    rot: Any  # (64, 3, 3)
    speed_t0_mps: float
    speeds_mps: Any  # (65,) as published


def faults(sent: Sent) -> list[str]:
    """What is wrong; empty for a plan that may be driven."""
    xyz, rot = np.asarray(sent.xyz, float), np.asarray(sent.rot, float)
    if xyz.shape != (64, 3) or rot.shape != (64, 3, 3):
        return [f"shapes {xyz.shape} and {rot.shape}"]
    if not (
        np.isfinite(xyz).all() and np.isfinite(rot).all() and np.isfinite(sent.speeds_mps).all()
    ):
        return ["not finite"]
    return [*_flags(sent), *_age(sent), *_motion(xyz, rot, sent)]


def _flags(sent: Sent) -> list[str]:
    found = []
    if sent.source not in ("planner", "fallback"):
        found.append(f"source {sent.source!r}")
    if (sent.source == "fallback") != bool(sent.reason):
        found.append(f"source {sent.source} with reason {sent.reason!r}")
    if sent.source == "planner" and not sent.as_planned and not sent.flagged:
        found.append("changed without a flag")
    return found


def _age(sent: Sent) -> list[str]:
    age_s = (sent.now_ns - sent.t0_ns) / 1e9
    limit_s = MAX_AGE_FALLBACK_S if sent.source == "fallback" else MAX_AGE_S
    if not -0.11 < age_s < limit_s + 0.001:
        return [f"{sent.source} {age_s:.3f} s old"]
    return []


def _motion(xyz: Any, rot: Any, sent: Sent) -> list[str]:
    found = []
    steps = np.diff(np.vstack((np.zeros(3), xyz)), axis=0)
    yaw = np.unwrap(np.concatenate(([0.0], np.arctan2(rot[:, 1, 0], rot[:, 0, 0]))))
    middle = 0.5 * (yaw[1:] + yaw[:-1])
    along = steps[:, 0] * np.cos(middle) + steps[:, 1] * np.sin(middle)
    aside = np.abs(-steps[:, 0] * np.sin(middle) + steps[:, 1] * np.cos(middle))
    pace = along / 0.1  # mean speed of each step
    turn = np.diff(yaw) / 0.1
    said = 0.5 * (np.asarray(sent.speeds_mps[1:]) + np.asarray(sent.speeds_mps[:-1]))
    gain = np.diff(sent.speeds_mps) / 0.1  # "said speed" holds these against the waypoints
    start = math.hypot(xyz[0, 0] - 0.1 * sent.speed_t0_mps, xyz[0, 1])
    backwards = float(-np.minimum(along, 0.0).sum())
    # In a bend steered in full the tyres are at 5 m/s^2 and the middle of the step says 3 % less.
    limits: list[tuple[str, float, float]] = [
        ("start", start, START_M),
        ("speed", float(pace.max()), max(SPEED_MPS, sent.speed_t0_mps) * SHARE + 0.1),
        ("acceleration", float(gain.max()), ACCELERATION_MPS2 * SHARE + 0.1),
        ("braking", float(-gain.min()), BRAKING_MPS2 * SHARE + 0.1),
        ("sideways", float(np.abs(turn * pace).max()), SIDEWAYS_MPS2 * SHARE + 0.1),
        ("turn", float((np.abs(turn) - CURVATURE_1PM * SHARE * np.abs(pace)).max()), 0.02),
        # Waypoints may lie 0.1 m off what the actions make, all of it in one step.
        ("slip", float((aside - 0.02 * np.abs(along)).max()), 0.1),
        ("said speed", float(np.abs(said - pace).max()), 0.05 + 0.01 * float(np.abs(pace).max())),
        ("rise", float(np.abs(steps[:, 2]).max()), 0.05 + 0.3 * float(np.abs(along).max())),
    ]
    if sent.speed_t0_mps > -0.5:
        limits.append(("backwards", backwards, 0.5 if sent.source == "planner" else 0.2))
    moving = np.asarray(sent.speeds_mps)[2:] > STILL_MPS
    if moving.any():
        jerk = float(np.abs(np.diff(gain) / 0.1)[moving].max())
        limits.append(("jerk", jerk, JERK_MPS3 * SHARE + 0.5))
    found += [
        f"{name} {value:.4g} over {limit:.4g}" for name, value, limit in limits if value > limit
    ]
    return found
