"""The decisions that a trajectory shows.

A trajectory tells what is done, not why: of the decisions in `config/chain_of_causation.yaml` only
those are named here that motion alone can tell. The rest take a model that gives its reasons.
"""

from __future__ import annotations

import numpy as np

from alpamayo_ros.types import Decisions

STANDSTILL_MPS = 0.3  # below it wheel odometry cannot tell rolling from standing
SPEED_CHANGE_MPS = 1.0  # over 6.4 s; less is the ripple of holding a speed
TURN_RAD = np.deg2rad(30)  # over 6.4 s; junction turns exceed it, road curves seldom do
CURVE_RAD = np.deg2rad(5)


def decisions_of(plan_speeds_mps: np.ndarray, headings_rad: np.ndarray) -> Decisions:
    """Decisions from speeds (65,) and headings (64,) of one trajectory."""
    first, last = float(plan_speeds_mps[0]), float(plan_speeds_mps[-1])
    if abs(last) < STANDSTILL_MPS:
        longitudinal = "none" if abs(first) < STANDSTILL_MPS else "stop for static constraints"
    elif abs(last - first) > SPEED_CHANGE_MPS:
        longitudinal = "speed adaptation"
    else:
        longitudinal = "set-speed tracking"
    if max(abs(first), abs(last)) < STANDSTILL_MPS:
        return Decisions(longitudinal, "none")
    turned = abs(float(np.unwrap(headings_rad)[-1]))
    return Decisions(longitudinal, "turn" if turned > TURN_RAD else "lane keeping and centring")


def describe(plan_speeds_mps: np.ndarray, headings_rad: np.ndarray) -> str:
    """One sentence on what a trajectory does, e.g. "Slow from 8.1 to 4.0 m/s, curving left."."""
    signed = float(plan_speeds_mps[0]), float(plan_speeds_mps[-1])
    first, last = abs(signed[0]), abs(signed[1])
    turned = float(np.unwrap(headings_rad)[-1])
    if max(first, last) < STANDSTILL_MPS:
        return "Stand still."
    if last < STANDSTILL_MPS:
        motion = f"Slow from {first:.1f} m/s to a stop"
    elif first >= STANDSTILL_MPS and signed[0] * signed[1] < 0:
        motion = f"Change direction, from {signed[0]:.1f} to {signed[1]:.1f} m/s"
    elif abs(last - first) > SPEED_CHANGE_MPS:
        motion = f"{'Slow' if last < first else 'Speed up'} from {first:.1f} to {last:.1f} m/s"
    else:
        motion = f"Hold {last:.1f} m/s"
    if max(signed) < STANDSTILL_MPS:
        motion += " in reverse"
    side = "left" if turned > 0 else "right"
    if abs(turned) > TURN_RAD:
        return f"{motion}, turning {side} by {abs(np.rad2deg(turned)):.0f} degrees."
    if abs(turned) > CURVE_RAD:
        return f"{motion}, curving {side}."
    return f"{motion}, straight on."
