"""message_filters, cv_bridge and tf_transformations: the real ones win where they are installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from alpamayo_ros import feed
from alpamayo_ros.ros import compat

needs_cv_bridge = pytest.mark.skipif(
    importlib.util.find_spec("cv_bridge") is None,
    reason="needs cv_bridge: run in a ROS workspace",
)
HEIGHT, WIDTH = 8, 16
COLOUR = np.full((HEIGHT, WIDTH, 3), (10, 20, 200), dtype=np.uint8)


def _raw(encoding: str, pixels: Any) -> Image:
    data = np.ascontiguousarray(pixels)
    return Image(
        height=HEIGHT, width=WIDTH, encoding=encoding, step=data.strides[0], data=data.tobytes()
    )


def _png(pixels: Any) -> CompressedImage:
    return CompressedImage(format="png", data=cv2.imencode(".png", pixels)[1].tobytes())


@pytest.mark.parametrize("name", ["message_filters", "cv_bridge", "tf_transformations"])
def test_the_real_one_wins(name: str) -> None:
    """An installed package serves; without it our stand-in does."""
    served_by = compat.origin()[name].split(".")[0]
    assert served_by == (name if importlib.util.find_spec(name) else "alpamayo_ros")


@needs_cv_bridge
@pytest.mark.parametrize(
    "message",
    [
        _raw("rgb8", COLOUR),
        _raw("bgr8", COLOUR),
        _raw("rgba8", np.dstack([COLOUR, COLOUR[..., :1]])),
        _raw("mono8", COLOUR[..., 0]),
        _raw("mono16", COLOUR[..., 0].astype(np.uint16) * 256),
        _raw("bayer_rggb8", COLOUR[..., 0]),
        _raw("yuv422", COLOUR[..., :2]),
        _raw("yuv422_yuy2", COLOUR[..., :2]),
        _raw("8UC1", COLOUR[..., 0]),
        _raw("8UC3", COLOUR),
    ],
    ids=lambda message: message.encoding,
)
def test_raw_images_are_the_same_by_either(message: Image) -> None:
    """cv_bridge and our own decoding give the same pixels."""
    np.testing.assert_array_equal(compat.image_to_rgb(message), feed.image_to_rgb(message))


@needs_cv_bridge
@pytest.mark.parametrize(
    "message",
    [_png(COLOUR), _png(COLOUR[..., 0]), _png(COLOUR.astype(np.uint16) * 256)],
    ids=["colour", "grey", "16 bit"],
)
def test_compressed_images_are_the_same_by_either(message: CompressedImage) -> None:
    """The same for images in a file format."""
    np.testing.assert_array_equal(
        compat.compressed_to_rgb(message), feed.compressed_to_rgb(message)
    )
