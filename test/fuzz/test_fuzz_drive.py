"""A good drive with wild messages in it, through feed, pipeline, worker and planner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz import wild
from fuzz.budget import fuzzed
from fuzz.messages import compressed_images, odometry, raw_images
from hypothesis import strategies as st
from simulate import START_NS, ms

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bags.inputs import COMPRESSED, IMAGE, READERS
from alpamayo_ros.feed import Feed
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import Selection
from alpamayo_ros.sources import Source
from alpamayo_ros.types import NS_PER_S, EgoPose, Plan
from alpamayo_ros.worker import run

MODEL_SHAPE = (320, 576, 3)
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
