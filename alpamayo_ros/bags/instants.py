"""One instant of a recording as a planner sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alpamayo_ros.backends.base import Resize
from alpamayo_ros.bags.context import DriveContext, read_context
from alpamayo_ros.bags.inputs import READERS, check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.errors import BagError
from alpamayo_ros.feed import Feed, steady_ns
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, PlannerSample, Rejection


def sample_at(
    path: Path, settings: PlannerSettings, at_s: float, resize: Resize | None = None
) -> PlannerSample:
    """The first sample that is due `at_s` seconds or more behind the bag's start.

    Goes through the node's own pipeline. Raises BagError: no such time, or why there is no sample
    then.
    """
    with BagReader(path) as bag:
        length_s = (bag.end_ns - bag.start_ns) / NS_PER_S
        if not 0.0 <= at_s <= length_s:
            raise BagError(f"{path} is {length_s:.1f} s long; there is no instant at {at_s:g} s")
        last: Rejection | None = None
        for tick in ticks(bag, settings, resize):
            if isinstance(tick, Rejection):
                last = tick
            elif tick.t0_ns >= bag.start_ns + round(at_s * NS_PER_S):
                return sample_of(tick, path)
        raise BagError(f"{path} has no sample from {at_s:g} s on; the last reason: {last}")


def ticks(
    bag: BagReader,
    settings: PlannerSettings,
    resize: Resize | None = None,
    context: DriveContext | None = None,
) -> Iterator[Selection | Rejection]:
    """Every tick of a recording, as the node's own pipeline gives them; no frame is decoded.

    `context` spares a second reading where the caller has it.
    """
    check_inputs(bag, settings)
    context = context or read_context(bag, settings)
    assert context.child_from_rig is not None
    sources = {camera.name: Source(camera.name, camera.topic) for camera in settings.cameras}
    sources["odometry"] = Source("odometry", settings.odometry_topic)
    pipeline = Pipeline(settings.pipeline)
    feed = Feed(
        pipeline, sources, context.child_from_rig, settings.resize_policy,
        decode_soon=lambda image: None, resize=resize,
    )  # fmt: skip
    cameras = {camera.topic: camera for camera in settings.cameras}
    begun = False
    for topic, now_ns, message in bag.messages([*cameras, settings.odometry_topic]):
        if not begun:
            pipeline.start(now_ns)
            begun = True
        if topic in cameras:
            reader = READERS[bag.topics[topic].type]
            feed.add_image(message, cameras[topic], reader, steady_ns(), now_ns)
        else:
            feed.add_odometry(message, settings.odometry_stamp_offset_ns, now_ns)
        yield from feed.poll(steady_ns(), now_ns)


def sample_of(selection: Selection, path: Path) -> PlannerSample:
    """Decode a selection's frames. Raises BagError naming the frame that cannot be."""
    try:
        return materialise(selection)
    except UnreadableFrame as error:
        raise BagError(f"{path}: a frame of {error.slot.camera}: {error.reason}") from error
