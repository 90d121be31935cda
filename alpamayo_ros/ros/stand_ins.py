"""The small part of message_filters and tf_transformations that this package uses.

For machines without a ROS installation; see compat.py. Names and signatures are those of the real
ones, so that either can serve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from transforms3d.quaternions import quat2mat


class SimpleFilter:
    """Something with an output that others register for."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:  # noqa: N802
        """Call `cb(*output, *args)` on every output; returns a handle."""
        handle = len(self.callbacks)
        self.callbacks[handle] = (cb, args)
        return handle

    def signalMessage(self, *msg: Any) -> None:  # noqa: N802
        """Hand an output to everyone registered."""
        for callback, args in self.callbacks.values():
            callback(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter: `Subscriber(node, msg_type, topic, qos_profile=…)`."""

    def __init__(self, node: Node, msg_type: type, topic: str, **kwargs: Any) -> None:
        super().__init__()
        self.node, self.topic = node, topic
        kwargs.setdefault("qos_profile", 10)
        self.sub = node.create_subscription(msg_type, topic, self.callback, **kwargs)

    def callback(self, msg: Any) -> None:
        """Called by the executor."""
        self.signalMessage(msg)

    def getTopic(self) -> str:  # noqa: N802
        """The topic subscribed to."""
        return self.topic


def quaternion_matrix(quaternion: Any) -> NDArray[np.float64]:
    """xyzw to a homogeneous (4, 4) matrix."""
    x, y, z, w = quaternion
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat((w, x, y, z))
    return matrix
