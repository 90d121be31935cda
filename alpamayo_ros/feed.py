"""Messages into the pipeline: checks, stamps, frames, lazily decoded images.

Takes any objects with the fields of sensor_msgs and nav_msgs, so that the node (rclpy messages)
and the offline replay (rosbags messages) feed their pipelines through the same code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import images
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.cameras.adapt import RigAdapter
from alpamayo_ros.odometry import RigOffset, ego_pose, stamp_ns
from alpamayo_ros.parameters import CameraInput
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection
from alpamayo_ros.sources import Source
from alpamayo_ros.types import EgoPose, ImageError, Rejection, RejectionReason, Resize


@dataclass(frozen=True, slots=True)
class Reader:
    """How to read one kind of image message."""

    check: Callable[[Any], None] | None  # cheap, on arrival; raises ImageError
    to_rgb: Callable[[Any], NDArray[np.uint8]]
    decode_on_arrival: bool  # raw frames: 6 MB each are not kept for half a second


def check_compressed(message: Any) -> None:
    """Refuse a CompressedImage that is visibly damaged. Raises ImageError."""
    images.check_compressed(message.data, message.format)


def compressed_to_rgb(message: Any) -> NDArray[np.uint8]:
    """sensor_msgs/CompressedImage to (H, W, 3) RGB. Raises ImageError."""
    return images.decode_compressed(message.data, message.format)


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """sensor_msgs/Image to (H, W, 3) RGB. Raises ImageError."""
    return images.decode_raw(
        message.data,
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
    )


class Feed:
    """One pipeline's inputs. `decode_soon` is called with images worth decoding ahead of time;
    `wanted_soon`, where there is one, in its place with frames likely to be selected.

    `resize` is the model's own filter, where it has one; `adapter` brings another rig's images to
    the model's views.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        sources: Mapping[str, Source],
        rig_offset: RigOffset,
        resize_policy: str,
        decode_soon: Callable[[LazyImage], object],
        resize: Resize | None = None,
        adapter: RigAdapter | None = None,
        wanted_soon: Callable[[FrameSlot], object] | None = None,
    ) -> None:
        self.pipeline, self.sources, self.rig_offset = pipeline, sources, rig_offset
        self._resize_policy, self._resize = resize_policy, resize
        self._decode_soon, self._adapter = decode_soon, adapter
        self._wanted_soon = wanted_soon or (lambda slot: decode_soon(slot.image))
        self.odometry_child_frame: str | None = None  # of the newest message

    def add_image(
        self, message: Any, camera: CameraInput, reader: Reader, arrival_ns: int, now_ns: int
    ) -> None:
        """One image message; `arrival_ns` in steady time, `now_ns` in ROS time."""
        source = self.sources[camera.name]
        stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
        source.arrived(stamp, now_ns)
        try:
            if reader.check is not None:
                reader.check(message)
        except ImageError as error:
            self._refuse(
                source,
                Rejection(RejectionReason.IMAGE_UNREADABLE, camera.name, detail=str(error)),
                now_ns,
            )
            return
        adapter = self._adapter
        if adapter is not None and (fault := adapter.fault(camera.name)):
            why = Rejection(RejectionReason.CAMERA_UNCALIBRATED, camera.name, detail=fault)
            self._refuse(source, why, now_ns)
            return
        if adapter is not None:
            source.view_coverage = adapter.coverage(camera.name)
        image = LazyImage(lambda: self._model_image(reader.to_rgb(message), camera.name))
        slot = FrameSlot(camera.name, stamp, arrival_ns, image)
        refused = self.pipeline.add_frame(slot, now_ns)
        if refused is not None:
            source.refused(refused)
        elif self.pipeline.is_wanted(stamp):
            self._wanted_soon(slot)
        elif reader.decode_on_arrival:
            self._decode_soon(image)

    def _model_image(self, rgb: NDArray[np.uint8], camera: str) -> NDArray[np.uint8]:
        def fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return images.to_model_size(image, self._resize_policy, self._resize)

        return self._adapter.adapt(camera, rgb, fitted) if self._adapter else fitted(rgb)

    def add_odometry(self, message: Any, stamp_offset_ns: int, now_ns: int) -> EgoPose | None:
        """One odometry message; the rig's pose where it was taken in."""
        source = self.sources["odometry"]
        stamp = stamp_ns(message.header.stamp) + stamp_offset_ns
        source.arrived(stamp, now_ns)
        self.odometry_child_frame = message.child_frame_id
        child_from_rig = self.rig_offset.child_from_rig(message.child_frame_id)
        if child_from_rig is None:
            self._refuse(
                source,
                Rejection(
                    RejectionReason.ODOMETRY_FRAME,
                    "odometry",
                    detail=self.rig_offset.explain(message.child_frame_id),
                ),
                now_ns,
            )
            return None
        reads_twist = not self.pipeline.settings.limits.motion_by_poses
        pose = ego_pose(message, child_from_rig, reads_twist)
        if isinstance(pose, Rejection):
            self._refuse(source, pose, now_ns)
            return None
        pose = replace(pose, stamp_ns=stamp)
        refused = self.pipeline.add_pose(pose, now_ns)
        if refused is not None:
            source.refused(refused)
            return None
        return pose

    def _refuse(self, source: Source, why: Rejection, now_ns: int) -> None:
        """A message that the pipeline never sees; its ticks are to name the cause all the same."""
        source.refused(why)
        self.pipeline.refused(source.name, why, now_ns)

    def poll(self, arrival_ns: int, now_ns: int) -> list[Selection | Rejection]:
        """What came due; `arrival_ns` is the steady time of the message that may have caused it."""
        return [
            replace(tick, ready_ns=arrival_ns) if isinstance(tick, Selection) else tick
            for tick in self.pipeline.poll(now_ns)
        ]


def steady_ns() -> int:
    """The clock of `arrival_ns`."""
    return time.monotonic_ns()
