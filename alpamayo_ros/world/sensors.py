"""From the world to a planner's sample, through the node's own buffers and selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.buffers import FrameBuffer, FrameSlot, LazyImage, PoseBuffer
from alpamayo_ros.motion import HISTORY_SPAN_NS
from alpamayo_ros.sampling import (
    FRAME_SPAN_NS,
    SamplingLimits,
    materialise,
    select,
)
from alpamayo_ros.types import (
    DEFAULT_CAMERAS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    NS_PER_MS,
    EgoPose,
    PlannerSample,
    Rejection,
)
from alpamayo_ros.world.vehicle import EgoState

EPOCH_NS = 1_700_000_000 * 1_000_000_000  # stamps of the world count from here
FRAME_PERIOD_NS = 100 * NS_PER_MS
_SLACK_NS = 250 * NS_PER_MS  # kept beyond what one sample spans, as the pipeline does

Images = Mapping[str, NDArray[np.uint8]]


def pose_of(state: EgoState, stamp_ns: int) -> EgoPose:
    """What an exact odometry measures of the ego, in the frame "odom"."""
    return EgoPose(
        stamp_ns,
        np.array((state.x_m, state.y_m, 0.0)),
        np.array(state.quaternion_xyzw),
        state.speed_mps,
        state.yaw_rate_rps,
    )


def black_images(size: tuple[int, int] = (IMAGE_HEIGHT, IMAGE_WIDTH)) -> Images:
    """What cameras see with their lids on: (height, width, 3) of zeros each."""
    image = np.zeros((*size, 3), np.uint8)
    return {name: image for name in DEFAULT_CAMERAS}


class Sensors:
    """Frames and poses of one drive, and the sample at an instant.

    The pipeline's schedule is left out: here a sample is due when the caller says so. Frames and
    poses fall on whole instants and nothing is late, so that its answer would be the same.
    """

    def __init__(self) -> None:
        frames_ns = FRAME_SPAN_NS + FRAME_PERIOD_NS + _SLACK_NS
        self._frames = {name: FrameBuffer(name, frames_ns) for name in DEFAULT_CAMERAS}
        self._poses = PoseBuffer(HISTORY_SPAN_NS + 2 * _SLACK_NS)
        self._limits = SamplingLimits()

    def add_pose(self, pose: EgoPose) -> None:
        """One odometry measurement."""
        self._poses.add(pose)

    def add_images(self, stamp_ns: int, images: Images) -> None:
        """One frame of every camera."""
        for name, image in images.items():
            self._frames[name].add(frame_slot(name, stamp_ns, image))

    def sample(self, t0_ns: int, navigation: str | None) -> PlannerSample | Rejection:
        """What a planner sees at t0, or why it sees nothing (too early: WARMING_UP)."""
        selection = select(self._frames, self._poses, t0_ns, self._limits, t0_ns)
        if isinstance(selection, Rejection):
            return selection
        return materialise(replace(selection, navigation=navigation))


def frame_slot(camera: str, stamp_ns: int, image: NDArray[np.uint8]) -> FrameSlot:
    """A frame whose pixels are there already."""
    return FrameSlot(camera, stamp_ns, 0, LazyImage(lambda: image))
