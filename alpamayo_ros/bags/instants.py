"""One instant of a recording as a planner sees it."""

from __future__ import annotations

from pathlib import Path

from alpamayo_ros.backends.base import Resize
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import READERS, check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.errors import BagError
from alpamayo_ros.feed import Feed, steady_ns
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, PlannerSample, Rejection


def sample_at(
    path: Path, settings: PlannerSettings, at_s: float, resize: Resize | None = None
) -> PlannerSample:
    """The first sample whose t0 is `at_s` seconds or more behind the first camera frame's stamp.

    Goes through the node's own pipeline. Raises BagError: no such time, or why there is no sample
    then.
    """
    with BagReader(path) as bag:
        length_s = (bag.end_ns - bag.start_ns) / NS_PER_S
        if not 0.0 <= at_s <= length_s:
            raise BagError(f"{path} is {length_s:.1f} s long; there is no instant at {at_s:g} s")
        check_inputs(bag, settings)
        context = read_context(bag, settings)
        assert context.child_from_rig is not None
        sources = {camera.name: Source(camera.name, camera.topic) for camera in settings.cameras}
        sources["odometry"] = Source("odometry", settings.odometry_topic)
        pipeline = Pipeline(settings.pipeline)
        feed = Feed(
            pipeline, sources, context.child_from_rig, settings.resize_policy,
            decode_soon=lambda image: None, resize=resize,
        )  # fmt: skip
        cameras = {camera.topic: camera for camera in settings.cameras}
        last: Rejection | None = None
        begun = False
        first_ns: int | None = None
        for topic, now_ns, message in bag.messages([*cameras, settings.odometry_topic]):
            if not begun:
                pipeline.start(now_ns)
                begun = True
            if topic in cameras:
                reader = READERS[bag.topics[topic].type]
                stamp = stamp_ns(message.header.stamp) + cameras[topic].stamp_offset_ns
                first_ns = stamp if first_ns is None else min(first_ns, stamp)
                feed.add_image(message, cameras[topic], reader, steady_ns(), now_ns)
            else:
                feed.add_odometry(message, settings.odometry_stamp_offset_ns, now_ns)
            for tick in feed.poll(steady_ns(), now_ns):
                if isinstance(tick, Rejection):
                    last = tick
                elif first_ns is not None and tick.t0_ns >= first_ns + round(at_s * NS_PER_S):
                    return _sample(tick, path)
        raise BagError(f"{path} has no sample from {at_s:g} s on; the last reason: {last}")


def _sample(selection: Selection, path: Path) -> PlannerSample:
    try:
        return materialise(selection)
    except UnreadableFrame as error:
        raise BagError(f"{path}: a frame of {error.slot.camera}: {error.reason}") from error
