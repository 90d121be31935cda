"""What goes wrong in a closed-loop drive: sensors, clock and planner, spoilt from one time on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import action_space
from alpamayo_ros.types import NS_PER_S, EgoPose, ImageError, Plan

# The one in the middle of the model's view; and faults that several cameras share.
CAMERA = "front_wide"
FAULTS = (
    "camera_lost",
    "cameras_all_lost",
    "camera_frozen",
    "camera_black",
    "camera_corrupt",
    "camera_late",
    "odometry_lost",
    "odometry_not_finite",
    "odometry_stuck",
    "odometry_jumps",
    "odometry_seldom",
    "odometry_frame_changes",
    "clock_ahead",
    "clock_back",
    "model_raises",
    "model_not_finite",
    "model_hung",
    "model_slow",
    "model_old",
    "model_turns",
    "model_races",
    "model_jumps",
    "model_reverses",
    "planner_dead",
)
LATE_NS, SLOW_NS = NS_PER_S // 2, NS_PER_S
CLOCK_NS = {"clock_ahead": 5 * NS_PER_S, "clock_back": -3 * NS_PER_S}
_STILL = 128
_SIZE = (8, 8, 3)


def frame_is_lost(fault: str, camera: str) -> bool:
    """Whether a camera sends nothing."""
    return fault == "cameras_all_lost" or (fault == "camera_lost" and camera == CAMERA)


def picture(fault: str, camera: str, stamp_ns: int) -> NDArray[np.uint8]:
    """(8, 8, 3), another grey each time unless spoilt. Raises ImageError."""
    if camera == CAMERA and fault == "camera_corrupt":
        raise ImageError("not a JPEG")
    if camera == CAMERA and fault == "camera_black":
        return np.zeros(_SIZE, np.uint8)
    if camera == CAMERA and fault == "camera_frozen":
        return np.full(_SIZE, _STILL, np.uint8)
    return np.full(_SIZE, 40 + stamp_ns // 100_000_000 % 7 * 20, np.uint8)


def odometry(fault: str, pose: EgoPose, last: EgoPose, step: int) -> EgoPose | None:
    """What odometry says of the true pose, `last` being the true one when the fault began; None
    where it says nothing that can be used."""
    if fault in ("odometry_lost", "odometry_not_finite"):
        return None
    if fault == "odometry_seldom":
        return pose if step % 15 == 0 else None
    if fault == "odometry_stuck":
        return replace(
            last,
            stamp_ns=pose.stamp_ns,
            speed_mps=pose.speed_mps,
            yaw_rate_rps=pose.yaw_rate_rps,
        )
    if fault == "odometry_jumps":
        return replace(pose, position_m=pose.position_m + (5.0, 5.0, 0.0))
    if fault == "odometry_frame_changes":
        return replace(pose, frame_id="map")
    return pose


def plan(fault: str, good: Plan, first: Plan) -> Plan:
    """What the model makes; `first` is its last plan before the fault. Raises as a model may."""
    if fault == "model_raises":
        raise RuntimeError("a bug in a model")
    if fault == "model_old":
        return first
    action = good.action.copy()
    if fault == "model_not_finite":
        action[:] = np.nan
    elif fault == "model_turns":
        action[:, 1] = 0.15
    elif fault == "model_races":
        action[:, 0] = 6.0
    elif fault == "model_reverses":
        action[:, 0] = -3.0
    elif fault != "model_jumps":
        return good
    xyz, rot = action_space.integrate(action, good.speed_t0_mps)
    if fault == "model_jumps":
        xyz[:, 1] += 2.5
    return replace(good, action=action, xyz_in_rig_t0=xyz, rot_in_rig_t0=rot)
