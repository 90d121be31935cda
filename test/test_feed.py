"""Messages that never reach a buffer: the ticks that they cost name what is wrong with them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulate import CIRCLE, START_NS, ms, pipeline

from alpamayo_ros.cameras.adapt import RigAdapter
from alpamayo_ros.cameras.views import load_views
from alpamayo_ros.feed import Feed, Reader
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import CameraInput
from alpamayo_ros.sampling import Selection, materialise
from alpamayo_ros.sources import Source
from alpamayo_ros.types import DEFAULT_CAMERAS, ImageError, RejectionReason

REASON = RejectionReason
BAD_FROM_NS = START_NS + ms(3_000)
STEP_NS = ms(20)


def check(message: Any) -> None:
    """As the reader of compressed images does, on arrival."""
    if message.damaged:
        raise ImageError("the file is cut off")


READER = Reader(check, lambda message: np.full((90, 160, 3), 9, np.uint8), False)


def header(stamp_ns: int, frame_id: str = "odom") -> Any:
    """std_msgs/Header."""
    time = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return SimpleNamespace(stamp=time, frame_id=frame_id)


def odometry(stamp_ns: int, child: str = "base_link", x: float | None = None) -> Any:
    """nav_msgs/Odometry of the circle."""
    pose = CIRCLE.pose(stamp_ns)
    position = dict(zip("xyz", pose.position_m.tolist()))
    if x is not None:
        position["x"] = x
    nothing = {"x": 0.0, "y": 0.0, "z": 0.0}
    return SimpleNamespace(
        header=header(stamp_ns),
        child_frame_id=child,
        pose=SimpleNamespace(
            pose=SimpleNamespace(
                position=SimpleNamespace(**position),
                orientation=SimpleNamespace(**dict(zip("xyzw", pose.quaternion_xyzw.tolist()))),
            )
        ),
        twist=SimpleNamespace(
            twist=SimpleNamespace(
                linear=SimpleNamespace(**{**nothing, "x": pose.speed_mps}),
                angular=SimpleNamespace(**{**nothing, "z": pose.yaw_rate_rps}),
            )
        ),
    )


def drive(spoil: str, from_ns: int = BAD_FROM_NS, until_ns: int = 2**62) -> list[Any]:
    """The ticks of 6 s, `spoil` being wrong with a source's messages from a time on."""
    sources = {name: Source(name, f"/{name}") for name in (*DEFAULT_CAMERAS, "odometry")}
    feed = Feed(pipeline(), sources, RigOffset("base_link", None), "crop", lambda image: None)
    feed.pipeline.start(START_NS)
    ticks = []
    for now_ns in range(START_NS, START_NS + ms(6_000), STEP_NS):
        bad = from_ns <= now_ns < until_ns
        message = odometry(
            now_ns,
            "imu" if bad and spoil == "frame" else "base_link",
            math.nan if bad and spoil == "invalid" else None,
        )
        feed.add_odometry(message, 0, now_ns)
        for name in DEFAULT_CAMERAS if (now_ns - START_NS) % ms(100) == 0 else ():
            its_bad = bad and name == "cross_left"
            stamp_ns = from_ns if its_bad and spoil == "frozen" else now_ns
            image = SimpleNamespace(
                header=header(stamp_ns), damaged=its_bad and spoil.startswith("damaged")
            )
            if its_bad and spoil == "damaged then dead" and now_ns > from_ns + ms(500):
                continue
            feed.add_image(image, CameraInput(name, f"/{name}", "auto", 0), READER, 0, now_ns)
        ticks += feed.poll(0, now_ns)
    return ticks


def late(ticks: list[Any]) -> list[Any]:
    """The rejections of ticks due half a second after it went wrong and later."""
    return [
        tick
        for tick in ticks
        if not isinstance(tick, Selection) and tick.due_ns > BAD_FROM_NS + ms(500)
    ]


@pytest.mark.parametrize(
    ("spoil", "source", "reason", "said"),
    (
        ("damaged", "cross_left", REASON.IMAGE_UNREADABLE, "the file is cut off"),
        ("frozen", "cross_left", REASON.OUT_OF_ORDER, "a stamp seen before"),
        ("frame", "odometry", REASON.ODOMETRY_FRAME, "'imu'"),
        ("invalid", "odometry", REASON.ODOMETRY_INVALID, "finite"),
    ),
)
def test_ticks_name_the_cause(spoil: str, source: str, reason: RejectionReason, said: str) -> None:
    """Where every recent message of a source was refused, each tick says why, not "late"."""
    refused = late(drive(spoil))
    assert len(refused) >= 20
    assert {(tick.source, tick.reason) for tick in refused} == {(source, reason)}
    assert all(said in tick.detail for tick in refused)


@pytest.mark.parametrize("spoil", ("damaged", "frame", "invalid"))
def test_from_the_first_message_on(spoil: str) -> None:
    """A source of which nothing was ever taken: the cause too, not "no message yet"."""
    refused = late(drive(spoil, from_ns=0))
    assert len(refused) >= 20
    assert not [tick for tick in refused if "no message yet" in tick.detail]
    assert len({tick.reason for tick in refused}) == 1


def test_a_camera_that_dies_damaged() -> None:
    """A second after its last message, damaged or not, what is wrong is that it is missing."""
    refused = [t for t in late(drive("damaged then dead")) if t.due_ns > BAD_FROM_NS + ms(1_600)]
    assert len(refused) >= 10
    assert {(t.source, t.reason) for t in refused} == {("cross_left", REASON.CAMERA_MISSING)}


def test_one_damaged_image() -> None:
    """Costs its instants, and planning goes on."""
    ticks = drive("damaged", until_ns=BAD_FROM_NS + ms(50))
    assert isinstance(ticks[-1], Selection) and ticks[-1].t0_ns > START_NS + ms(5_700)


def test_the_models_filter() -> None:
    """A feed with one reduces its images by it."""
    asked = []

    def resize(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
        asked.append(rgb.shape)
        return np.full((height, width, 3), 77, np.uint8)

    sources = {name: Source(name, f"/{name}") for name in (*DEFAULT_CAMERAS, "odometry")}
    offset = RigOffset("base_link", None)
    feed = Feed(pipeline(), sources, offset, "crop", lambda image: None, resize)
    feed.pipeline.start(START_NS)
    ticks: list[Any] = []
    for now_ns in range(START_NS, START_NS + ms(2_000), STEP_NS):
        feed.add_odometry(odometry(now_ns), 0, now_ns)
        for name in DEFAULT_CAMERAS if (now_ns - START_NS) % ms(100) == 0 else ():
            image = SimpleNamespace(header=header(now_ns), damaged=False)
            feed.add_image(image, CameraInput(name, f"/{name}", "auto", 0), READER, 0, now_ns)
        ticks += feed.poll(0, now_ns)
    selection = next(tick for tick in reversed(ticks) if isinstance(tick, Selection))
    sample = materialise(selection)
    assert sample.images.shape == (4, 4, 320, 576, 3) and (sample.images == 77).all()
    assert asked == [(90, 160, 3)] * 16


def test_an_uncalibrated_camera_is_named() -> None:
    """With rig_views a camera without CameraInfo gives refusals that name it and what it lacks."""
    sources = {name: Source(name, f"/{name}") for name in (*DEFAULT_CAMERAS, "odometry")}
    adapter = RigAdapter(load_views("world"), "base_link")
    offset = RigOffset("base_link", None)
    feed = Feed(pipeline(), sources, offset, "crop", lambda image: None, adapter=adapter)
    feed.pipeline.start(START_NS)
    ticks: list[Any] = []
    for now_ns in range(START_NS, START_NS + ms(3_000), ms(100)):
        feed.add_odometry(odometry(now_ns), 0, now_ns)
        for name in DEFAULT_CAMERAS:
            message = SimpleNamespace(header=header(now_ns), damaged=False)
            feed.add_image(message, CameraInput(name, "/c", "raw", 0), READER, 0, now_ns)
        ticks += feed.poll(0, now_ns)
    assert ticks and {tick.reason for tick in ticks} == {REASON.CAMERA_UNCALIBRATED}
    assert "no CameraInfo yet, which rig_views needs" in str(ticks[-1])
    assert ticks[-1].source in DEFAULT_CAMERAS
