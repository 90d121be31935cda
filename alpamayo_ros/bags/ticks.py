"""What was due when, over a whole recording: the node's pipeline without a planner behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from alpamayo_ros.bags.clock import clock_offset_ns
from alpamayo_ros.bags.context import DriveContext
from alpamayo_ros.bags.inputs import READERS
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.buffers import LazyImage
from alpamayo_ros.camera_policy import CameraPolicy
from alpamayo_ros.cameras.adapt import RigAdapter
from alpamayo_ros.cameras.views import load_views
from alpamayo_ros.errors import UserError
from alpamayo_ros.feed import Feed, steady_ns
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import CameraInput, PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection, UnreadableFrame
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, Rejection, Resize


def feed_for(
    bag: BagReader,
    settings: PlannerSettings,
    context: DriveContext,
    resize: Resize | None = None,
    policy: CameraPolicy | None = None,
    decode_soon: Callable[[LazyImage], object] = lambda image: None,
) -> Feed:
    """The node's pipeline and its inputs for one pass over a bag that `check_inputs` passed."""
    assert context.child_from_rig is not None
    sources = {camera.name: Source(camera.name, camera.topic) for camera in settings.cameras}
    sources["odometry"] = Source("odometry", settings.odometry_topic)
    return Feed(
        Pipeline(settings.pipeline, policy),
        sources,
        context.child_from_rig,
        settings.resize_policy,
        decode_soon=decode_soon,
        resize=resize,
        adapter=_adapter(bag, settings, context),
    )


def _adapter(bag: BagReader, settings: PlannerSettings, context: DriveContext) -> RigAdapter | None:
    """What rig_views asks for. By CameraInfo alone, as in the node, even where the bag says more.

    Raises UserError naming every camera that cannot be adapted.
    """
    if not settings.rig_views:
        return None
    adapter = RigAdapter(load_views(settings.rig_views), settings.rig_frame)
    if "/tf_static" in bag.topics:
        for _, _, message in bag.messages(["/tf_static"]):
            adapter.add_static_transforms(message)
    for name, calibration in context.calibrations.items():
        adapter.add_camera_info(name, calibration.info)
    names = [camera.name for camera in settings.cameras]
    faults = [f"{name}: {fault}" for name in names if (fault := adapter.fault(name))]
    if faults:
        raise UserError(f"{bag.path} cannot be reprojected:\n" + "\n".join(faults))
    return adapter


def fed(
    bag: BagReader, settings: PlannerSettings, feed: Feed, clock_offset_ns: int
) -> Iterator[tuple[int, CameraInput | None, Any]]:
    """Add every message to the feed; after each the time, its camera (None: odometry), itself.

    The time is the message's log time less `clock_offset_ns`. The pipeline is started at the first
    message's.
    """
    cameras = {camera.topic: camera for camera in settings.cameras}
    begun = False
    for topic, log_ns, message in bag.messages([*cameras, settings.odometry_topic]):
        now_ns = log_ns - clock_offset_ns
        if not begun:
            feed.pipeline.start(now_ns)
            begun = True
        camera = cameras.get(topic)
        if camera is not None:
            reader = READERS[bag.topics[topic].type]
            feed.add_image(message, camera, reader, steady_ns(), now_ns)
        else:
            feed.add_odometry(message, settings.odometry_stamp_offset_ns, now_ns)
        yield now_ns, camera, message


class Ticks:
    """The selections and rejections of one pass over a bag, in the order of their due times.

    Ticks that are due behind the last image are left out: the recording is over, no fault.
    """

    def __init__(
        self,
        bag: BagReader,
        settings: PlannerSettings,
        context: DriveContext,
        resize: Resize | None = None,
        decode_soon: Callable[[LazyImage], object] = lambda image: None,
    ) -> None:
        """`decode_soon` is told of images that are likely to be selected, as they are read."""
        self._bag, self._settings = bag, settings
        self._offset_ns = clock_offset_ns(bag, settings)
        self._feed = feed_for(bag, settings, context, resize, decode_soon=decode_soon)
        self.first_frame_ns: int | None = None  # stamp of the oldest camera frame read so far

    @property
    def view_coverage(self) -> dict[str, float]:
        """The share of the model's view that each camera has shown; empty without `rig_views`."""
        names = [camera.name for camera in self._settings.cameras if self._settings.rig_views]
        shares = {name: self._feed.sources[name].view_coverage for name in names}
        return {name: share for name, share in shares.items() if share == share}

    def discard(self, unreadable: UnreadableFrame) -> None:
        """Let no later tick select this frame; to be called before the next one is taken."""
        self._feed.pipeline.discard(unreadable.slot)

    def all(
        self, progress: Callable[[float], None] = lambda done_s: None
    ) -> Iterator[Selection | Rejection]:
        """Every tick; `progress` hears how many seconds of the bag are read. Raises BagError."""
        waiting: deque[Rejection] = deque()
        start_ns = self._bag.start_ns - self._offset_ns
        for now_ns, camera, message in fed(self._bag, self._settings, self._feed, self._offset_ns):
            if camera is not None:
                stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
                first_ns = self.first_frame_ns
                self.first_frame_ns = stamp if first_ns is None else min(stamp, first_ns)
                newest = self._feed.pipeline.frames[camera.name].newest_ns or 0
                while waiting and waiting[0].due_ns <= newest:
                    yield waiting.popleft()
            for tick in self._feed.poll(steady_ns(), now_ns):
                if isinstance(tick, Rejection):
                    waiting.append(tick)
                    continue
                while waiting:  # they were due before this one
                    yield waiting.popleft()
                yield tick
            progress((now_ns - start_ns) / NS_PER_S)
