"""Messages as no driver should send them: a refusal with its reason, or something valid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from fuzz import wild
from fuzz.budget import fuzzed
from hypothesis import strategies as st
from numpy.typing import NDArray
from simulate import START_NS, ms

from alpamayo_ros import geometry, images
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bags.inputs import COMPRESSED, IMAGE, READERS, Calibration, camera_model
from alpamayo_ros.feed import Feed
from alpamayo_ros.model_text import (
    MAX_NAVIGATION_LENGTH,
    MAX_QUESTION_LENGTH,
    TextRefused,
    clean,
)
from alpamayo_ros.navigation import NavigationText
from alpamayo_ros.odometry import RigOffset, ego_pose
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, EgoPose, ImageError, Plan, Pose3, Rejection
from alpamayo_ros.worker import run

ENCODINGS = (
    "rgb8 bgr8 rgba8 bgra8 mono8 mono16 rgb16 bgra16 bayer_rggb8 bayer_grbg16 8UC1 8UC3 8UC4 16UC1 "
    "16UC3 32FC1 yuv422 uyvy yuyv yuv422_yuy2 nv12 nv21 nv24"
).split()
MODEL_SHAPE = (320, 576, 3)


# ---- images ----------------------------------------------------------------------------------


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


# ---- all of it, through the pipeline ---------------------------------------------------------

SETTINGS = settings_from({"camera_names": ["front_wide", "cross_left"],
                          "camera_topics": ["/front", "/left"]})  # fmt: skip
GREY = SimpleNamespace(
    height=16, width=24, encoding="mono8", step=24, data=bytes([100]) * 384, is_bigendian=0
)
NOW_NS = START_NS + ms(2000)
KINEMATIC = create_backend("kinematic")
KINEMATIC.load()


def _stamp(at_ns: int) -> Any:
    return SimpleNamespace(sec=at_ns // NS_PER_S, nanosec=at_ns % NS_PER_S)


def _good_odometry(at_ns: int) -> Any:
    elapsed_s = (at_ns - START_NS) * 1e-9
    zero, position = (SimpleNamespace(x=x, y=0.0, z=0.0) for x in (0.0, 10.0 * elapsed_s))
    return SimpleNamespace(
        header=SimpleNamespace(stamp=_stamp(at_ns), frame_id="odom"),
        child_frame_id="base_link",
        pose=SimpleNamespace(
            pose=SimpleNamespace(
                position=position, orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
            )
        ),
        twist=SimpleNamespace(
            twist=SimpleNamespace(linear=SimpleNamespace(x=10.0, y=0.0, z=0.0), angular=zero)
        ),
    )


def _feed() -> Feed:
    """Two seconds of a good drive, but for the last 100 ms."""
    sources = {name: Source(name, name) for name in ("front_wide", "cross_left", "odometry")}
    feed = Feed(
        Pipeline(SETTINGS.pipeline), sources, RigOffset("base_link"), "stretch", lambda image: None
    )
    feed.pipeline.start(START_NS)
    for at_ns in range(START_NS, NOW_NS - ms(50), ms(50)):
        feed.add_odometry(_good_odometry(at_ns), 0, at_ns)
        if (at_ns - START_NS) % ms(100) == 0:
            for camera in SETTINGS.cameras:
                image = SimpleNamespace(header=SimpleNamespace(stamp=_stamp(at_ns)), **vars(GREY))
                feed.add_image(image, camera, READERS[IMAGE], at_ns, at_ns)
        feed.poll(at_ns, at_ns)
    return feed


NEAR = st.integers(-400, 400).map(lambda late_ms: _stamp(NOW_NS + ms(late_ms)))
STAMPS = st.one_of(
    st.just(_stamp(NOW_NS)),
    NEAR,
    st.builds(SimpleNamespace, sec=wild.INT32, nanosec=wild.UINT32),
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """A few wild messages, among good ones of the last 100 ms."""
    made: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["raw", "compressed", "odometry"]))
        if kind == "odometry":
            made.append((kind, draw(odometry(STAMPS))))
            continue
        image = draw(raw_images() if kind == "raw" else compressed_images())
        image.header = SimpleNamespace(stamp=draw(STAMPS))
        made.append((kind, image))
    good: list[tuple[str, Any]] = [("odometry", _good_odometry(NOW_NS + ms(k))) for k in (-50, 0)]
    for _ in SETTINGS.cameras:
        grey = SimpleNamespace(header=SimpleNamespace(stamp=_stamp(NOW_NS)), **vars(GREY))
        good.append(("raw", grey))
    return draw(st.permutations([*made, *good]))


@fuzzed(0.1, messages=arrivals(), cameras=st.lists(st.integers(0, 1), min_size=9, max_size=9))
def test_a_drive_with_wild_messages(messages: list[tuple[str, Any]], cameras: list[int]) -> None:
    """Each tick is a plan whose frames all decode and whose poses are finite, or a named reason."""
    feed = _feed()
    for (kind, message), index in zip(messages, cameras):
        if kind == "odometry":
            pose = feed.add_odometry(message, 0, NOW_NS)
            assert pose is None or isinstance(pose, EgoPose)
        else:
            reader = READERS[IMAGE if kind == "raw" else COMPRESSED]
            feed.add_image(message, SETTINGS.cameras[index], reader, NOW_NS, NOW_NS)
    for now_ns in (NOW_NS, NOW_NS + ms(400)):
        for tick in feed.poll(now_ns, now_ns):
            if not isinstance(tick, Selection):
                assert str(tick) and tick.source
                continue
            outcome = run(KINEMATIC, tick)
            if outcome.plan is None:
                assert outcome.rejection is not None and str(outcome.rejection)
                continue
            _check_plan(outcome.plan)
            assert all(slot.image.get().shape == MODEL_SHAPE for row in tick.slots for slot in row)


def _check_plan(plan: Plan) -> None:
    assert np.isfinite(plan.xyz_in_rig_t0).all() and np.isfinite(plan.speeds_mps).all()
    rot = plan.rot_in_rig_t0
    # Rotations about z from float64 angles.
    np.testing.assert_allclose(
        rot @ rot.transpose(0, 2, 1), np.tile(np.eye(3), (64, 1, 1)), atol=1e-9
    )
