"""Names, types and qualities of service of what the planner node publishes and subscribes."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from alpamayo_ros.errors import UserError
from alpamayo_ros.parameters import CameraInput

# Twice the 100 ms period and a half: one late plan is no broken contract, two in a row are.
OUTPUT_DEADLINE_S = 0.25
OUTPUT_LEASE_S = 1.0

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"


def sensor_qos(depth: int) -> QoSProfile:
    """Best effort: a late frame is worth less than the next one."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_qos() -> QoSProfile:
    """Plans: reliable, and offering a deadline and liveliness that a controller may ask for."""
    return QoSProfile(
        depth=10,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
        deadline=Duration(seconds=OUTPUT_DEADLINE_S),
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=OUTPUT_LEASE_S),
    )


def reliable_qos(latched: bool = False) -> QoSProfile:
    """Reliable; latched (transient local) where late joiners must hear the last message."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


def overridable(entity_id: str = "") -> QoSOverridingOptions:
    """Lets `qos_overrides.<topic>.<publisher|subscription>.…` parameters have their way."""
    return QoSOverridingOptions.with_default_policies(entity_id=entity_id or None)


def resolve(node: Node, parameter: str, topic: str) -> str:
    """A topic's full name. Raises UserError naming the parameter that has it."""
    try:
        return str(node.resolve_topic_name(topic))
    except Exception as error:  # rclpy raises a plain RCLError for some, its own for others
        raise UserError(f"{parameter} has {topic!r}, which is no topic name: {error}") from error


def image_type(node: Node, camera: CameraInput) -> Any:
    """The message class of a camera's topic.

    `auto` goes by whoever publishes it now, else by the name: image_transport calls its
    compressed topics `…/compressed`.
    """
    if camera.transport == "raw":
        return Image
    if camera.transport == "compressed":
        return CompressedImage
    resolved = node.resolve_topic_name(camera.topic)
    types = {info.topic_type for info in node.get_publishers_info_by_topic(resolved)}
    if types == {IMAGE_TYPE}:
        return Image
    if types == {COMPRESSED_TYPE} or resolved.endswith("/compressed"):
        return CompressedImage
    return Image
