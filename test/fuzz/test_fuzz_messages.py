"""Messages as no driver should send them: a refusal with its reason, or something valid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz import wild
from fuzz.budget import fuzzed
from fuzz.messages import compressed_images, odometry, raw_images
from hypothesis import strategies as st
from numpy.typing import NDArray

from alpamayo_ros import geometry, images
from alpamayo_ros.bags.inputs import COMPRESSED, IMAGE, READERS
from alpamayo_ros.cameras.calibration import Calibration, camera_model
from alpamayo_ros.model_text import (
    MAX_NAVIGATION_LENGTH,
    MAX_QUESTION_LENGTH,
    TextRefused,
    clean,
)
from alpamayo_ros.navigation import NavigationText
from alpamayo_ros.odometry import RigOffset, ego_pose
from alpamayo_ros.types import NS_PER_S, ImageError, Pose3, Rejection

MODEL_SHAPE = (320, 576, 3)


# ---- images ----------------------------------------------------------------------------------


def _check_pixels(rgb: NDArray[Any], policy: str) -> None:
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size
    fitted = images.to_model_size(rgb, policy)
    assert fitted.shape == MODEL_SHAPE and fitted.dtype == np.uint8


@fuzzed(0.14, message=raw_images(), policy=st.sampled_from(images.FIT_POLICIES))
def test_raw_images(message: Any, policy: str) -> None:
    """Pixels of the message's own size, or ImageError."""
    try:
        rgb = READERS[IMAGE].to_rgb(message)
    except ImageError:
        return
    assert rgb.shape == (message.height, message.width, 3)
    _check_pixels(rgb, policy)


@fuzzed(0.12, message=compressed_images(), policy=st.sampled_from(images.FIT_POLICIES))
def test_compressed_images(message: Any, policy: str) -> None:
    """Pixels, or ImageError; the check on arrival refuses nothing that would have decoded."""
    try:
        rgb = READERS[COMPRESSED].to_rgb(message)
    except ImageError:
        return
    check = READERS[COMPRESSED].check
    assert check is not None
    check(message)
    _check_pixels(rgb, policy)


# ---- motion ----------------------------------------------------------------------------------


LEVER = Pose3(np.array([1.5, 0.0, 0.3]), geometry.yaw_to_rotation(0.1))


@fuzzed(0.12, message=odometry())
def test_odometry(message: Any) -> None:
    """A finite pose with a unit quaternion, or a rejection."""
    pose = ego_pose(message, LEVER)
    if isinstance(pose, Rejection):
        assert pose.source == "odometry"
        return
    numbers = [*pose.position_m, *pose.quaternion_xyzw, pose.speed_mps, pose.yaw_rate_rps]
    assert np.isfinite(numbers).all()
    assert geometry.is_unit_quaternion(pose.quaternion_xyzw)


@st.composite
def transforms(draw: st.DrawFn) -> Any:
    """A TFMessage of few frames, so that they form chains and loops."""
    frames = st.sampled_from(["base_link", "imu", "/imu", "camera", "", "odom"])
    entries = [
        SimpleNamespace(
            header=SimpleNamespace(frame_id=draw(frames)),
            child_frame_id=draw(frames),
            transform=SimpleNamespace(
                translation=draw(wild.xyz()), rotation=draw(wild.quaternions())
            ),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return SimpleNamespace(transforms=entries)


@fuzzed(0.06, message=transforms())
def test_static_transforms(message: Any) -> None:
    """Every frame has a finite transform to the rig, or none."""
    offset = RigOffset("base_link")
    offset.add_static_transforms(message)
    for frame in ("imu", "camera", "", "odom", "base_link"):
        found = offset.child_from_rig(frame)
        if found is None:
            assert offset.explain(frame)
            continue
        assert np.isfinite(found.translation_m).all() and np.isfinite(found.rotation).all()


@st.composite
def camera_infos(draw: st.DrawFn) -> Any:
    """CameraInfo, its matrix wild or a camera's."""
    focal = draw(st.one_of(st.floats(1.0, 2000.0), wild.REALS))
    good = np.array([focal, 0.0, 320.0, 0.0, focal, 240.0, 0.0, 0.0, 1.0])
    k = (
        good
        if draw(st.booleans())
        else np.array(draw(st.lists(wild.REALS, min_size=9, max_size=9)))
    )
    return SimpleNamespace(
        k=k,
        d=np.array(draw(st.lists(st.one_of(st.floats(-1, 1), wild.REALS), max_size=14)), float),
        distortion_model=draw(
            st.one_of(st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant"]),
                      wild.TEXTS)
        ),
        width=draw(st.one_of(st.integers(0, 2000), wild.UINT32)),
        height=draw(st.one_of(st.integers(0, 2000), wild.UINT32)),
    )  # fmt: skip


POINTS = np.array([[5.0, 0.0, 10.0], [-3.0, 1.0, 0.5], [0.0, 0.0, -1.0], [40.0, 0.0, 2.0]])


@fuzzed(0.05, info=camera_infos())
def test_camera_infos(info: Any) -> None:
    """A camera that projects every point, to a pixel or to none; or no camera."""
    camera = camera_model(Calibration(info, "camera"), _camera_frames())
    if camera is None:
        return
    for scaled in (camera, camera.resized(576, 320)):
        pixels = scaled.to_pixels(scaled.to_optical(POINTS))
        assert pixels.shape == (len(POINTS), 2)


def _camera_frames() -> RigOffset:
    offset = RigOffset("base_link")
    offset.add("base_link", "camera", LEVER)
    return offset


# ---- texts -----------------------------------------------------------------------------------

MARKUP = st.sampled_from(
    ["<|", "|>", "<i1>", "</think>", "<", ">", "\x00", "\u2028", "\u202e", " "]
)
WORDS = st.lists(st.one_of(MARKUP, st.text(max_size=12)), max_size=40).map("".join)


@fuzzed(0.12, text=WORDS, limit=st.sampled_from([MAX_NAVIGATION_LENGTH, MAX_QUESTION_LENGTH, 8]))
def test_texts(text: str, limit: int) -> None:
    """One line without markup within the limit, or TextRefused; taken again it stays the same."""
    navigation = NavigationText(60.0, limit)
    refusal = navigation.hear(text, NS_PER_S)
    in_force = navigation.state(NS_PER_S).text
    try:
        cleaned = clean(text, "text", limit)
    except TextRefused as error:
        assert refusal and str(error) and not in_force
        return
    assert in_force == cleaned and not refusal
    assert len(cleaned) <= limit and clean(cleaned, "text", limit) == cleaned
    assert "<|" not in cleaned and "|>" not in cleaned and "\n" not in cleaned
    cleaned.encode()
