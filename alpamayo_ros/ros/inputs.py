"""The planner's subscriptions, from a camera's topic to the synchroniser."""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.cameras.adapt import RigAdapter
from alpamayo_ros.cameras.calibration import info_topic
from alpamayo_ros.cameras.views import load_views
from alpamayo_ros.errors import UserError
from alpamayo_ros.feed import Feed
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.navigation import NavigationText
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.ros import compat, topics
from alpamayo_ros.ros.camera_infos import CameraInfos
from alpamayo_ros.ros.executor import guarded
from alpamayo_ros.ros.ingest import COMPRESSED, RAW, PlannerSynchronizer
from alpamayo_ros.ros.navigation import NavigationInput
from alpamayo_ros.sources import Source, SourceReport
from alpamayo_ros.types import CameraFrame, ImageError, Resize

CAMERA_DEPTH = 10  # 1/3 s at 30 Hz: more would only be old by the time it is read
ODOMETRY_DEPTH = 200  # 1 s at 200 Hz


class PlannerInputs:
    """Everything subscribed to between configure and cleanup."""

    def __init__(
        self,
        node: Node,
        settings: PlannerSettings,
        pipeline: Pipeline,
        rig_offset: RigOffset,
        now_ns: Callable[[], int],
        group: CallbackGroup,
        on_tick: Callable[[Any], None],
        manifest: Manifest,
        resize: Resize | None = None,
        on_decoded: Callable[[CameraFrame], object] = lambda frame: None,
    ) -> None:
        """`on_decoded` is called on decoding threads, with frames likely to be selected."""
        self._node, self._rig_offset = node, rig_offset
        self._on_decoded = on_decoded
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._sources = {
            camera.name: Source(camera.name, topics.resolve(node, "camera_topics", camera.topic))
            for camera in settings.cameras
        }
        odometry_topic = topics.resolve(node, "odometry_topic", settings.odometry_topic)
        self._sources["odometry"] = Source("odometry", odometry_topic)
        self._adapter = (
            RigAdapter(load_views(settings.rig_views), settings.rig_frame)
            if settings.rig_views
            else None
        )
        feed = Feed(
            pipeline,
            self._sources,
            rig_offset,
            settings.resize_policy,
            self._decode_soon,
            resize,
            self._adapter,
            self._wanted_soon,
        )
        self.synchronizer = PlannerSynchronizer(feed, now_ns)
        self.synchronizer.registerCallback(on_tick)
        text = NavigationText(settings.navigation_timeout_s, settings.navigation_max_length)
        self.navigation = NavigationInput(node, text, now_ns, group)
        self._subscribers: list[compat.Subscriber] = []
        self.camera_infos = CameraInfos(node, settings, manifest.rig, group)
        self._static_tf = node.create_subscription(
            TFMessage,
            "/tf_static",
            guarded(node, self._on_static_transforms),
            topics.reliable_qos(latched=True),
            callback_group=group,
        )
        self._infos = self._subscribe_infos(settings, group)
        self._subscribe(settings, group)

    def _subscribe(self, settings: PlannerSettings, group: CallbackGroup) -> None:
        for camera in settings.cameras:
            message_type = topics.image_type(self._node, camera)
            subscriber = self._subscriber(message_type, camera.topic, CAMERA_DEPTH, group)
            reader = RAW if message_type is Image else COMPRESSED
            self.synchronizer.connect_camera(subscriber, camera, reader)
        odometry = self._subscriber(Odometry, settings.odometry_topic, ODOMETRY_DEPTH, group)
        odometry.sub.callback = guarded(self._node, _draining(odometry.sub))
        self.synchronizer.connect_odometry(odometry, settings.odometry_stamp_offset_ns)

    def _subscribe_infos(self, settings: PlannerSettings, group: CallbackGroup) -> list[Any]:
        """CameraInfo of each camera, where images are reprojected."""
        adapter = self._adapter
        if adapter is None:
            return []
        return [
            self._node.create_subscription(
                CameraInfo,
                camera.info_topic or info_topic(camera.topic),
                guarded(
                    self._node,
                    functools.partial(
                        adapter.add_camera_info, camera.name, image_topic=camera.topic
                    ),
                ),
                topics.sensor_qos(1),
                callback_group=group,
            )
            for camera in settings.cameras
        ]

    def _subscriber(
        self, message_type: type, topic: str, depth: int, group: CallbackGroup
    ) -> compat.Subscriber:
        subscriber = compat.Subscriber(
            self._node,
            message_type,
            topic,
            qos_profile=topics.sensor_qos(depth),
            callback_group=group,
            qos_overriding_options=topics.overridable(),
        )
        # The filter's callback is the subscription's: guard it there, once for all behind it.
        subscriber.sub.callback = guarded(self._node, subscriber.sub.callback)
        self._subscribers.append(subscriber)
        return subscriber

    def await_odometry_frame(self, wait_s: float) -> None:
        """Wait for a first odometry and raise UserError if its frame cannot be related to the rig.

        Without odometry within `wait_s` there is nothing to check yet; ticks will say so.
        """
        deadline = time.monotonic() + wait_s
        while True:
            child = self.synchronizer.feed.odometry_child_frame
            if child is not None and self._rig_offset.child_from_rig(child) is not None:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        if child is not None:
            raise UserError(self._rig_offset.explain(child))

    def check_cameras(self, wait_s: float, refuses: bool) -> None:
        """Wait for calibrations that are published; raise UserError where they do not fit."""
        self.camera_infos.await_published(wait_s)
        found = self.camera_infos.problems()
        if found and refuses:
            remedy = "; put it right, or set camera_info to flag to drive on with it"
            raise UserError("camera_info: " + "; ".join(found) + remedy)

    def _on_static_transforms(self, message: Any) -> None:
        self._rig_offset.add_static_transforms(message, to_pose=compat.to_pose)
        self.camera_infos.add_static_transforms(message)
        if self._adapter is not None:
            self._adapter.add_static_transforms(message, compat.to_pose)

    def _wanted_soon(self, slot: FrameSlot) -> None:
        camera, stamp_ns = slot.camera, slot.stamp_ns
        self._decode_soon(
            slot.image, lambda pixels: self._on_decoded(CameraFrame(camera, stamp_ns, pixels))
        )

    def _decode_soon(
        self, image: LazyImage, then: Callable[[NDArray[np.uint8]], object] = lambda pixels: None
    ) -> None:
        try:
            self._decoders.submit(_decode, weakref.ref(image), then)
        except RuntimeError:
            pass  # cleanup ended the decoders while a last message was on its way

    def reports(self, now_ns: int) -> tuple[SourceReport, ...]:
        """Figures of every input."""
        return tuple(source.report(now_ns) for source in self._sources.values())

    def close(self) -> None:
        """End the subscriptions and the decoders."""
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)
        for subscription in (self._static_tf, *self._infos):
            self._node.destroy_subscription(subscription)
        self.navigation.close()
        self.camera_infos.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)


def _draining(subscription: Any) -> Callable[[Any], None]:
    """A subscription's callback, called for everything that waits.

    rclpy takes one message of each subscription in turn. With four large images in each turn that
    is too seldom for odometry, which then falls further and further behind.
    """
    callback = subscription.callback

    @functools.wraps(callback)
    def call(message: Any) -> None:
        callback(message)
        for _ in range(ODOMETRY_DEPTH):
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            callback(taken[0])

    return call


def _decode(reference: weakref.ref[LazyImage], then: Callable[[NDArray[np.uint8]], object]) -> None:
    # A frame that left its buffer while it queued is gone: where decoding cannot keep up, the
    # queue would otherwise hold every frame ever received, 6 MB each, and decode only old ones.
    image = reference()
    if image is None:
        return
    try:
        pixels = image.get()
    except ImageError:
        return  # kept by the image, and reported by whoever selects it
    then(pixels)
