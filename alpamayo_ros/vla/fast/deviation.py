"""How far off an approximation is, measured with the model that uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alpamayo_ros.types import FRAME_STEP_NS, N_FRAMES, Plan, PlannerSample
from alpamayo_ros.vla.fast.stream import Stream


def measure_streaming(
    plan: Callable[[PlannerSample], Plan], stream: Stream, sample: PlannerSample
) -> None:
    """Tells `stream` how far a path on reused keys lies from that on fresh ones: metres, the mean
    over its waypoints.

    The pictures are noise, in a window that has moved by its own length: of three frames of four
    the keys are as old as they get. The same sample has the same seed both times.
    """
    cameras, _, height, width, _ = sample.images.shape
    shape = (cameras, 2 * N_FRAMES - 1, height, width, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    stream.clear()
    for tick in range(N_FRAMES):
        moved_ns = tick * FRAME_STEP_NS
        moved = replace(
            sample,
            t0_ns=sample.t0_ns + moved_ns,
            images=frames[:, tick : tick + N_FRAMES],
            image_stamps_ns=sample.image_stamps_ns + moved_ns,
        )
        streamed = plan(moved)
    stream.clear()
    exact = plan(moved)
    apart_m = np.linalg.norm(streamed.xyz_in_rig_t0 - exact.xyz_in_rig_t0, axis=-1)
    stream.off_m = float(apart_m.mean())
