"""The cameras that ticks go on without, where the policy lets them."""

from __future__ import annotations

from collections.abc import Mapping

from alpamayo_ros.buffers import FrameBuffer
from alpamayo_ros.camera_policy import CameraPolicy
from alpamayo_ros.schedule import TICK_NS
from alpamayo_ros.types import NS_PER_MS, Rejection, RejectionReason

# A camera is taken back after frames of so long: one that comes and goes is not.
BACK_NS = 500 * NS_PER_MS


class LostCameras:
    """Of one pipeline, and under its lock."""

    def __init__(
        self, frames: Mapping[str, FrameBuffer], policy: CameraPolicy, frame_tolerance_ns: int
    ) -> None:
        self._frames, self._policy = frames, policy
        self._tolerance_ns = frame_tolerance_ns
        self._why: dict[str, Rejection] = {}

    def clear(self) -> None:
        """Count on every camera again."""
        self._why.clear()

    @property
    def why(self) -> tuple[Rejection, ...]:
        """What each was left out for."""
        return tuple(self._why.values())

    def present(self) -> dict[str, FrameBuffer]:
        """The frames of the other cameras."""
        return {name: frames for name, frames in self._frames.items() if name not in self._why}

    def leave_out(self, rejection: Rejection) -> bool:
        """Whether a tick refused for this may go on without its camera, which then is left out."""
        camera, others = rejection.source, self.present()
        if others.pop(camera, None) is None or rejection.reason == RejectionReason.WARMING_UP:
            return False
        if not self._policy.spares(camera, others):
            return False
        self._why[camera] = rejection
        return True

    def take_back(self, watermark_ns: int) -> bool:
        """Count on those again that have kept up with the others, whose newest common stamp this
        is; False where there is none."""
        back = [camera for camera in self._why if self._keeps_up(camera, watermark_ns)]
        for camera in back:
            del self._why[camera]
        return bool(back)

    def _keeps_up(self, camera: str, watermark_ns: int) -> bool:
        for grid_ns in range(watermark_ns - BACK_NS, watermark_ns + 1, TICK_NS):
            slot = self._frames[camera].nearest(grid_ns)
            if slot is None or abs(slot.stamp_ns - grid_ns) > self._tolerance_ns:
                return False
        return True
