"""Camera and odometry messages into the pipeline: a message_filters filter.

    PlannerSynchronizer(camera_subscribers, odometry_subscriber, …).registerCallback(on_tick)

Its output is a tick: a `Selection` ready to be planned, or a `Rejection`. Unlike
message_filters' own synchronisers it selects by a grid of stamps, names the camera that is late,
and no exception of a callback can lock it.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Optional

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import images
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.odometry import RigOffset, ego_pose, stamp_ns
from alpamayo_ros.parameters import CameraInput
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.ros import compat
from alpamayo_ros.sampling import Selection
from alpamayo_ros.sources import Source
from alpamayo_ros.types import ImageError, Rejection, RejectionReason

REPORT_EVERY_NS = 1_000_000_000  # the same refusal of a source is logged once a second


@dataclass(frozen=True, slots=True)
class Reader:
    """How to read one kind of image message."""

    check: Optional[Callable[[Any], None]]  # cheap, on arrival; raises ImageError
    to_rgb: Callable[[Any], NDArray[np.uint8]]
    decode_on_arrival: bool  # raw frames: 6 MB each are not kept for half a second


def _check_compressed(message: Any) -> None:
    images.check_compressed(message.data, message.format)


RAW = Reader(None, compat.image_to_rgb, True)
COMPRESSED = Reader(_check_compressed, compat.compressed_to_rgb, False)


class PlannerSynchronizer(compat.SimpleFilter):
    """Feeds a `Pipeline` from message_filters Subscribers and signals its ticks."""

    def __init__(
        self,
        pipeline: Pipeline,
        sources: Mapping[str, Source],
        rig_offset: RigOffset,
        now_ns: Callable[[], int],
        decoders: Executor,
        resize_policy: str,
    ) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._sources = sources
        self._rig_offset = rig_offset
        self._now_ns = now_ns
        self._decoders = decoders
        self._resize_policy = resize_policy
        self.odometry_child_frame: Optional[str] = None
        self.odometry_frame: Optional[str] = None

    def connect_camera(
        self, subscriber: compat.Subscriber, camera: CameraInput, reader: Reader
    ) -> None:
        """Take a camera's frames from a Subscriber (or any filter of image messages)."""
        subscriber.registerCallback(self.add_image, camera, reader)

    def connect_odometry(self, subscriber: compat.Subscriber, stamp_offset_ns: int) -> None:
        """Take odometry from a Subscriber (or any filter of odometry messages)."""
        subscriber.registerCallback(self.add_odometry, stamp_offset_ns)

    def add_image(self, message: Any, camera: CameraInput, reader: Reader) -> None:
        """One image message."""
        arrival_ns, now_ns = time.monotonic_ns(), self._now_ns()
        source = self._sources[camera.name]
        stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
        source.arrived(stamp, now_ns)
        try:
            if reader.check is not None:
                reader.check(message)
        except ImageError as error:
            rejection = Rejection(RejectionReason.IMAGE_UNREADABLE, camera.name, detail=str(error))
            source.refused(rejection)
            return
        policy = self._resize_policy
        image = LazyImage(lambda: images.to_model_size(reader.to_rgb(message), policy))
        slot = FrameSlot(camera.name, stamp, arrival_ns, image)
        refused = self._pipeline.add_frame(slot, now_ns)
        if refused is not None:
            source.refused(refused)
        elif reader.decode_on_arrival or self._pipeline.is_wanted(stamp):
            self._decoders.submit(_decode, image)
        self.poll(arrival_ns, now_ns)

    def add_odometry(self, message: Any, stamp_offset_ns: int) -> None:
        """One odometry message."""
        arrival_ns, now_ns = time.monotonic_ns(), self._now_ns()
        source = self._sources["odometry"]
        stamp = stamp_ns(message.header.stamp) + stamp_offset_ns
        source.arrived(stamp, now_ns)
        self.odometry_child_frame = message.child_frame_id
        self.odometry_frame = message.header.frame_id
        child_from_rig = self._rig_offset.child_from_rig(message.child_frame_id)
        if child_from_rig is None:
            source.refused(
                Rejection(
                    RejectionReason.ODOMETRY_FRAME,
                    "odometry",
                    detail=self._rig_offset.explain(message.child_frame_id),
                )
            )
            return
        pose = ego_pose(message, child_from_rig)
        if isinstance(pose, Rejection):
            source.refused(pose)
            return
        refused = self._pipeline.add_pose(replace(pose, stamp_ns=stamp), now_ns)
        if refused is not None:
            source.refused(refused)
        self.poll(arrival_ns, now_ns)

    def poll(self, arrival_ns: int, now_ns: int) -> None:
        """Signal whatever came due; `arrival_ns` is the steady time of what may have caused it."""
        for tick in self._pipeline.poll(now_ns):
            if isinstance(tick, Selection):
                tick = replace(tick, ready_ns=arrival_ns)
            self.signalMessage(tick)


def _decode(image: LazyImage) -> None:
    try:
        image.get()
    except ImageError:
        pass  # kept by the image, and reported by whoever selects it
