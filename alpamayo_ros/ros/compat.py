"""The one place that imports message_filters, cv_bridge and tf_transformations.

A ROS installation has them and they are used there. The ROS 2 wheels of a plain machine lack
them; `stand_ins` (on transforms3d) and `feed` (on OpenCV) then do the same.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import feed
from alpamayo_ros.types import ImageError, Pose3

try:
    from message_filters import SimpleFilter, Subscriber
except ImportError:
    from alpamayo_ros.ros.stand_ins import SimpleFilter, Subscriber

try:
    from tf_transformations import quaternion_matrix
except ImportError:
    from alpamayo_ros.ros.stand_ins import quaternion_matrix

try:
    from cv_bridge import CvBridge

    _BRIDGE: Any = CvBridge()
except ImportError:
    _BRIDGE = None

__all__ = [
    "SimpleFilter",
    "Subscriber",
    "compressed_to_rgb",
    "image_to_rgb",
    "origin",
    "to_pose",
]


def origin() -> dict[str, str]:
    """Which implementation serves each of the three, for diagnostics."""
    return {
        "message_filters": Subscriber.__module__,
        "cv_bridge": feed.__name__ if _BRIDGE is None else "cv_bridge",
        "tf_transformations": quaternion_matrix.__module__,
    }


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """sensor_msgs/Image to (H, W, 3) RGB. Raises ImageError."""
    if _BRIDGE is None:
        return feed.image_to_rgb(message)
    try:
        return np.asarray(_BRIDGE.imgmsg_to_cv2(message, desired_encoding="rgb8"), dtype=np.uint8)
    except Exception as error:  # CvBridgeError, and TypeError or ValueError from bad sizes
        raise ImageError(f"{message.encoding} {message.width}x{message.height}: {error}") from error


def compressed_to_rgb(message: Any) -> NDArray[np.uint8]:
    """sensor_msgs/CompressedImage to (H, W, 3) RGB. Raises ImageError."""
    if _BRIDGE is None:
        return feed.compressed_to_rgb(message)
    feed.check_compressed(message)  # OpenCV decodes a truncated JPEG in silence
    try:
        return np.asarray(
            _BRIDGE.compressed_imgmsg_to_cv2(message, desired_encoding="rgb8"), dtype=np.uint8
        )
    except Exception as error:
        raise ImageError(f"{message.format}: {error}") from error


def to_pose(translation_m: Sequence[float], quaternion_xyzw: Sequence[float]) -> Pose3:
    """A transform from its translation (3,) and unit quaternion (4,) xyzw."""
    return Pose3(np.asarray(translation_m), quaternion_matrix(quaternion_xyzw)[:3, :3])
