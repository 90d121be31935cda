"""Strategies of messages: sensor_msgs and nav_msgs by their fields, wild in all or in one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from fuzz import wild
from hypothesis import strategies as st
from numpy.typing import NDArray

ENCODINGS = (
    "rgb8 bgr8 rgba8 bgra8 mono8 mono16 rgb16 bgra16 bayer_rggb8 bayer_grbg16 8UC1 8UC3 8UC4 16UC1 "
    "16UC3 32FC1 yuv422 uyvy yuyv yuv422_yuy2 nv12 nv21 nv24"
).split()


@st.composite
def raw_images(draw: st.DrawFn) -> Any:
    """Any fields, or such as would fit each other but for one."""
    height, width = (draw(st.one_of(st.integers(0, 48), wild.UINT32)) for _ in range(2))
    encoding = draw(st.one_of(st.sampled_from(ENCODINGS), wild.TEXTS))
    row = min(width, 256) * draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    step = draw(st.one_of(st.just(row), st.just(0), st.just(row + 7), wild.UINT32))
    size = row * min(height, 48) * draw(st.sampled_from([1, 1, 1, 2, 3])) // draw(st.integers(1, 2))
    size += draw(st.sampled_from([0, 0, 0, 1, -1]))
    pattern = draw(st.binary(min_size=1, max_size=32))
    data = (pattern * (size // len(pattern) + 1))[: max(size, 0)]
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=step, data=data,
        is_bigendian=draw(st.integers(0, 255)),
    )  # fmt: skip


def _picture(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (24, 40) if channels == 1 else (24, 40, channels)
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _encoded(suffix: str, picture: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(suffix, picture)
    assert done
    return data.tobytes()


GOOD_FILES = [
    _encoded(".jpg", _picture(3)), _encoded(".jpg", _picture(1)), _encoded(".png", _picture(3)),
    _encoded(".png", _picture(4)), _encoded(".png", _picture(1, np.uint16)),
]  # fmt: skip


def compressed_images() -> st.SearchStrategy[Any]:
    """Damaged files, files that are none, and what their message calls them."""
    formats = st.one_of(
        st.sampled_from(["jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed",
                         "16UC1; compressedDepth"]), wild.TEXTS
    )  # fmt: skip
    data = st.one_of(
        st.sampled_from(GOOD_FILES).flatmap(wild.damaged),
        st.sampled_from(GOOD_FILES),
        st.binary(max_size=64),
        st.binary(max_size=32).map(lambda rest: b"\xff\xd8" + rest + b"\xff\xd9"),
    )
    return st.builds(SimpleNamespace, format=formats, data=data)


def odometry(stamps: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """nav_msgs/Odometry with wild numbers."""
    wild_stamp = st.builds(SimpleNamespace, sec=wild.INT32, nanosec=wild.UINT32)
    pose = st.builds(SimpleNamespace, position=wild.xyz(), orientation=wild.quaternions())
    twist = st.builds(SimpleNamespace, linear=wild.xyz(), angular=wild.xyz())
    return st.builds(
        SimpleNamespace,
        header=st.builds(
            SimpleNamespace, stamp=wild_stamp if stamps is None else stamps, frame_id=wild.TEXTS
        ),
        child_frame_id=st.one_of(st.just("base_link"), wild.TEXTS),
        pose=pose.map(lambda inner: SimpleNamespace(pose=inner)),
        twist=twist.map(lambda inner: SimpleNamespace(twist=inner)),
    )
