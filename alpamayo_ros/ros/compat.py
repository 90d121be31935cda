"""The one place that imports message_filters, cv_bridge and tf_transformations.

A ROS installation has them and they are used there. The ROS 2 wheels of a plain machine lack
them; `stand_ins` (on transforms3d) and `feed` (on OpenCV) then do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import feed
from alpamayo_ros.types import Pose3

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
    if _BRIDGE is not None:
        try:
            return _eight_bit(_BRIDGE.imgmsg_to_cv2(message, desired_encoding="rgb8"))
        except Exception:  # an encoding that its version lacks, or a broken message: ask `feed`
            pass
    return feed.image_to_rgb(message)


def compressed_to_rgb(message: Any) -> NDArray[np.uint8]:
    """sensor_msgs/CompressedImage to (H, W, 3) RGB. Raises ImageError."""
    if _BRIDGE is not None:
        feed.check_compressed(message)  # OpenCV decodes a truncated JPEG in silence
        try:
            return _eight_bit(_BRIDGE.compressed_imgmsg_to_cv2(message, desired_encoding="rgb8"))
        except Exception:
            pass
    return feed.compressed_to_rgb(message)


def _eight_bit(image: Any) -> NDArray[np.uint8]:
    """ValueError unless it is (H, W, 3) uint8: older versions hand 16-bit images on as they are."""
    if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError("not an 8-bit colour image")
    return np.asarray(image)


def to_pose(translation_m: Sequence[float], quaternion_xyzw: Sequence[float]) -> Pose3:
    """A transform from its translation (3,) and unit quaternion (4,) xyzw."""
    return Pose3(np.asarray(translation_m), quaternion_matrix(quaternion_xyzw)[:3, :3])
