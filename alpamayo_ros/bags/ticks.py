"""What was due when, over a whole recording: the node's pipeline without a planner behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from alpamayo_ros.bags.context import DriveContext
from alpamayo_ros.bags.inputs import READERS, check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.feed import Feed, steady_ns
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection, UnreadableFrame
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, Rejection, Resize


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
    ) -> None:
        check_inputs(bag, settings)
        assert context.child_from_rig is not None
        self._bag, self._settings = bag, settings
        self.first_frame_ns: int | None = None  # stamp of the oldest camera frame read so far
        sources = {camera.name: Source(camera.name, camera.topic) for camera in settings.cameras}
        sources["odometry"] = Source("odometry", settings.odometry_topic)
        self._feed = Feed(
            Pipeline(settings.pipeline), sources, context.child_from_rig, settings.resize_policy,
            decode_soon=lambda image: None, resize=resize,
        )  # fmt: skip

    def discard(self, unreadable: UnreadableFrame) -> None:
        """Let no later tick select this frame; to be called before the next one is taken."""
        self._feed.pipeline.discard(unreadable.slot)

    def all(
        self, progress: Callable[[float], None] = lambda done_s: None
    ) -> Iterator[Selection | Rejection]:
        """Every tick; `progress` hears how many seconds of the bag are read. Raises BagError."""
        cameras = {camera.topic: camera for camera in self._settings.cameras}
        odometry = self._settings.odometry_topic
        waiting: deque[Rejection] = deque()
        begun = False
        for topic, now_ns, message in self._bag.messages([*cameras, odometry]):
            if not begun:
                self._feed.pipeline.start(now_ns)
                begun = True
            if topic in cameras:
                camera = cameras[topic]
                reader = READERS[self._bag.topics[topic].type]
                stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
                self.first_frame_ns = min(stamp, self.first_frame_ns or stamp)
                self._feed.add_image(message, camera, reader, steady_ns(), now_ns)
                newest = self._feed.pipeline.frames[camera.name].newest_ns or 0
                while waiting and waiting[0].due_ns <= newest:
                    yield waiting.popleft()
            else:
                offset_ns = self._settings.odometry_stamp_offset_ns
                self._feed.add_odometry(message, offset_ns, now_ns)
            for tick in self._feed.poll(steady_ns(), now_ns):
                if isinstance(tick, Rejection):
                    waiting.append(tick)
                    continue
                while waiting:  # they were due before this one
                    yield waiting.popleft()
                yield tick
            progress((now_ns - self._bag.start_ns) / NS_PER_S)
