"""A sample to warm up with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.types import (
    CAMERA_NAMES,
    FRAME_STEP_NS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    N_FRAMES,
    N_HISTORY,
    PlannerSample,
)


def standstill(cameras: Sequence[str], navigation: str | None = None) -> PlannerSample:
    """A sample of these cameras that is all grey and does not move."""
    indices = sorted(CAMERA_NAMES.index(name) for name in cameras)
    stamps = np.arange(N_FRAMES, dtype=np.int64) * FRAME_STEP_NS
    return PlannerSample(
        t0_ns=int(stamps[-1]),
        images=np.full((len(indices), N_FRAMES, IMAGE_HEIGHT, IMAGE_WIDTH, 3), 128, np.uint8),
        image_stamps_ns=np.broadcast_to(stamps, (len(indices), N_FRAMES)),
        camera_indices=np.array(indices, np.int64),
        history_xyz_in_rig_t0=np.zeros((N_HISTORY, 3)),
        history_rot_in_rig_t0=np.broadcast_to(np.eye(3), (N_HISTORY, 3, 3)),
        speed_mps=0.0,
        acceleration_mps2=0.0,
        yaw_rate_rps=0.0,
        odometry_from_rig_t0=geometry.identity_pose(),
        navigation=navigation,
    )
