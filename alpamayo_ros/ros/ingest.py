"""Camera and odometry messages into the pipeline: a message_filters filter.

    PlannerSynchronizer(feed, now_ns).registerCallback(on_tick)

Its output is a tick: a `Selection` ready to be planned, or a `Rejection`. Unlike
message_filters' own synchronisers it selects by a grid of stamps, names the camera that is late,
and no exception of a callback can lock it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alpamayo_ros.feed import Feed, Reader, check_compressed, steady_ns
from alpamayo_ros.parameters import CameraInput
from alpamayo_ros.ros import compat

RAW = Reader(None, compat.image_to_rgb, True)
COMPRESSED = Reader(check_compressed, compat.compressed_to_rgb, False)


class PlannerSynchronizer(compat.SimpleFilter):
    """Feeds a pipeline from message_filters Subscribers and signals its ticks."""

    def __init__(self, feed: Feed, now_ns: Callable[[], int]) -> None:
        super().__init__()
        self.feed = feed
        self._now_ns = now_ns

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
        arrival_ns, now_ns = steady_ns(), self._now_ns()
        self.feed.add_image(message, camera, reader, arrival_ns, now_ns)
        self.poll(arrival_ns, now_ns)

    def add_odometry(self, message: Any, stamp_offset_ns: int) -> None:
        """One odometry message."""
        arrival_ns, now_ns = steady_ns(), self._now_ns()
        self.feed.add_odometry(message, stamp_offset_ns, now_ns)
        self.poll(arrival_ns, now_ns)

    def poll(self, arrival_ns: int, now_ns: int) -> None:
        """Signal whatever came due; `arrival_ns` is the steady time of what may have caused it."""
        for tick in self.feed.poll(arrival_ns, now_ns):
            self.signalMessage(tick)
