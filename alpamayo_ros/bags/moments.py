"""The instants of a drive as a camera saw them, each with the images and the plan of that time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry, images
from alpamayo_ros.bags.context import DriveContext
from alpamayo_ros.bags.inputs import COMPRESSED, READERS
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.shown import ShownPlans
from alpamayo_ros.bags.track import Track
from alpamayo_ros.cameras.calibration import camera_model
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import CameraInput, PlannerSettings
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, ImageError, Pose3
from alpamayo_ros.viz.moment import CameraView, Moment, MomentPlan

Rgb = NDArray[np.uint8]
PanelSize = Callable[[int], tuple[int, int]]

_TOLERANCE_NS = 50 * NS_PER_MS  # an image of another camera beside the first one's
_WAIT_NS = 300 * NS_PER_MS  # of recording time, for other cameras' images of the same instant
_AHEAD = 3  # instants that are decoded while one is drawn


@dataclass(frozen=True, slots=True)
class _Instant:
    """The messages of one instant; None: that camera had none."""

    stamp_ns: int
    messages: tuple[Any | None, ...]


class Moments:
    """The instants of one bag, in order. The first camera sets them; decoded by two threads."""

    def __init__(
        self,
        bag: BagReader,
        settings: PlannerSettings,
        context: DriveContext,
        plans: ShownPlans,
    ) -> None:
        self._bag, self._plans = bag, plans
        self.track = Track(context.scorer.drive)
        names = [camera.name for camera in settings.cameras]
        first = names.index("front_wide") if "front_wide" in names else 0
        order = [first, *(k for k in range(len(names)) if k != first)]
        self.cameras = [
            settings.cameras[k] for k in order if settings.cameras[k].topic in bag.topics
        ]
        self._lenses = [
            camera_model(context.calibrations.get(camera.name), context.transforms)
            for camera in self.cameras
        ]
        self._start_ns: int | None = None

    def all(
        self,
        panel_size: PanelSize,
        progress: Callable[[float], None] = lambda done_s: None,
        from_s: float = 0.0,
    ) -> Iterator[Moment]:
        """Every instant from `from_s` after the first on; images as large as they fit."""
        with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[_Instant, list[Future[Rgb | None]]]] = deque()
            for instant in self._instants(progress):
                if self._start_ns is None:
                    self._start_ns = instant.stamp_ns
                if instant.stamp_ns < self._start_ns + round(from_s * NS_PER_S):
                    continue
                waiting.append((instant, self._decoding(pool, instant, panel_size)))
                if len(waiting) > _AHEAD:
                    yield self._moment(*waiting.popleft())
            while waiting:
                yield self._moment(*waiting.popleft())

    def _decoding(
        self, pool: ThreadPoolExecutor, instant: _Instant, panel_size: PanelSize
    ) -> list[Future[Rgb | None]]:
        return [
            pool.submit(_decoded, self._bag, camera, message, panel_size(k))
            for k, (camera, message) in enumerate(zip(self.cameras, instant.messages))
        ]

    def _instants(self, progress: Callable[[float], None]) -> Iterator[_Instant]:
        """The first camera's frames in order, each with the nearest one of the others."""
        by_topic = {camera.topic: k for k, camera in enumerate(self.cameras)}
        recent: list[deque[tuple[int, Any]]] = [deque() for _ in self.cameras]
        pending: deque[tuple[int, int, Any]] = deque()  # stamp, log time, message
        newest = -1
        for topic, log_ns, message in self._bag.messages(by_topic):
            index = by_topic[topic]
            stamp = stamp_ns(message.header.stamp) + self.cameras[index].stamp_offset_ns
            if index:
                # A first camera that comes late, or has died, must not let the others pile up.
                horizon = pending[0][0] - _TOLERANCE_NS if pending else stamp - 2 * _WAIT_NS
                recent[index].append((stamp, message))
                while recent[index] and recent[index][0][0] < horizon:
                    recent[index].popleft()
            elif stamp > newest:  # a repeated or late frame has no place in a video
                newest = stamp
                pending.append((stamp, log_ns, message))
            while pending and (
                log_ns - pending[0][1] > _WAIT_NS
                or all(frames and frames[-1][0] >= pending[0][0] for frames in recent[1:])
            ):
                yield self._gathered(pending.popleft(), recent)
            progress((log_ns - self._bag.start_ns) / NS_PER_S)
        while pending:
            yield self._gathered(pending.popleft(), recent)

    def _gathered(
        self, first: tuple[int, int, Any], recent: Sequence[deque[tuple[int, Any]]]
    ) -> _Instant:
        stamp, _, message = first
        chosen: list[Any | None] = [message]
        for frames in recent[1:]:
            while frames and frames[0][0] < stamp - _TOLERANCE_NS:
                frames.popleft()
            near = min(frames, key=lambda entry: abs(entry[0] - stamp), default=None)
            good = near is not None and abs(near[0] - stamp) <= _TOLERANCE_NS
            chosen.append(near[1] if near is not None and good else None)
        return _Instant(stamp, tuple(chosen))

    def _moment(self, instant: _Instant, decoded: list[Future[Rgb | None]]) -> Moment:
        assert self._start_ns is not None
        views = tuple(
            CameraView(camera.name, image.result(), lens)
            for camera, image, lens in zip(self.cameras, decoded, self._lenses)
        )
        stamp = instant.stamp_ns
        return Moment(
            (stamp - self._start_ns) / NS_PER_S,
            views,
            self.track.around(stamp),
            self._plan(stamp),
            self._plans.refusal(stamp),
        )

    def _plan(self, stamp: int) -> MomentPlan | None:
        plan = self._plans.in_force(stamp)
        if plan is None:
            return None
        if stamp == plan.t0_ns:
            return plan.at(stamp, geometry.identity_pose())
        now, then = self.track.pose_at(stamp), self.track.pose_at(plan.t0_ns)
        if now is None or then is None:
            return None
        moved: Pose3 = geometry.compose(geometry.invert(now), then)
        return plan.at(stamp, moved)


def _decoded(
    bag: BagReader, camera: CameraInput, message: Any | None, size: tuple[int, int]
) -> Rgb | None:
    """The image as large as it fits (width, height)."""
    if message is None:
        return None
    kind = bag.topics[camera.topic].type
    try:
        if kind == COMPRESSED:
            image = images.decode_reduced(message.data, message.format, *size)
        else:
            image = READERS[kind].to_rgb(message)
    except ImageError:
        return None
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    fitted = round(image.shape[1] * scale), round(image.shape[0] * scale)
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, fitted, interpolation=mode), np.uint8)
