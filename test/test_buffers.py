"""Buffers by stamp, images decoded once, poses interpolated in integer nanoseconds."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import CIRCLE, START_NS, Motion, frame, ms

from alpamayo_ros.buffers import FrameBuffer, LazyImage, PoseBuffer, interpolate
from alpamayo_ros.geometry import quaternion_to_rotation, yaw_of
from alpamayo_ros.types import NS_PER_S, EgoPose, ImageError

offsets_ms = st.lists(st.integers(0, 2_000), min_size=1, max_size=40)


def filled(stamps_ns: list[int], retention_ms: float = 700.0) -> FrameBuffer:
    """A buffer that was given these stamps in this order."""
    buffer = FrameBuffer("front_wide", ms(retention_ms))
    for stamp_ns in stamps_ns:
        buffer.add(frame("front_wide", stamp_ns))
    return buffer


@given(offsets_ms, st.integers(-100, 2_100))
def test_nearest_is_nearest(offsets: list[int], at_ms: int) -> None:
    """As a search through all that it holds; of two equally near, the older."""
    buffer = filled([START_NS + ms(o) for o in offsets], 5_000.0)
    wanted = START_NS + ms(at_ms)
    held = sorted({START_NS + ms(o) for o in offsets})
    slot = buffer.nearest(wanted)
    assert slot is not None
    assert slot.stamp_ns == min(held, key=lambda s: (abs(s - wanted), s))


@given(offsets_ms)
def test_what_is_held(offsets: list[int]) -> None:
    """Distinct stamps within the retention of the newest, in any order of arrival, and no slot
    that the list of stamps does not know."""
    stamps_ns = [START_NS + ms(o) for o in offsets]
    buffer = filled(stamps_ns)
    horizon_ns = max(stamps_ns) - ms(700)
    assert buffer.stamps_between(0, 2**62) == sorted({s for s in stamps_ns if s >= horizon_ns})
    assert buffer.newest_ns == max(stamps_ns)
    assert set(buffer._slots) == set(buffer._stamps)


def test_add_tells_what_it_refuses() -> None:
    """A stamp held already, or older than the retention, is not taken; the first stays."""
    buffer = FrameBuffer("front_wide", ms(700))
    first = frame("front_wide", START_NS)
    assert buffer.add(first)
    assert not buffer.add(frame("front_wide", START_NS))
    assert buffer.nearest(START_NS) is first
    assert not buffer.add(frame("front_wide", START_NS - ms(700) - 1))
    assert buffer.add(frame("front_wide", START_NS - ms(700)))


def test_bounds_of_stamps_between_are_inclusive() -> None:
    """[first, last], to the nanosecond."""
    buffer = filled([START_NS, START_NS + 5, START_NS + 9])
    assert buffer.stamps_between(START_NS, START_NS + 9) == [START_NS, START_NS + 5, START_NS + 9]
    assert buffer.stamps_between(START_NS + 1, START_NS + 8) == [START_NS + 5]


def test_discard_and_clear() -> None:
    """A discarded frame is not found again, may come again, and twice is once."""
    buffer = filled([START_NS, START_NS + ms(100)])
    buffer.discard(START_NS + ms(100))
    buffer.discard(START_NS + ms(100))
    assert buffer.newest_ns == START_NS
    assert buffer.add(frame("front_wide", START_NS + ms(100)))
    buffer.clear()
    assert (len(buffer), buffer.newest_ns, buffer.nearest(START_NS)) == (0, None, None)


def test_an_image_is_decoded_once() -> None:
    """Eight threads ask at once: one decodes, all get the same pixels."""
    calls = []
    gate = threading.Barrier(8)

    def load() -> np.ndarray:
        calls.append(threading.get_ident())
        return np.zeros((2, 2, 3), np.uint8)

    image, got = LazyImage(load), []

    def ask() -> None:
        gate.wait()
        got.append(image.get())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(got) == 8
    assert all(pixels is got[0] for pixels in got)


@pytest.mark.parametrize(
    "raised", (ImageError("truncated"), RuntimeError("decoder"), KeyError("x"))
)
def test_an_image_that_does_not_decode(raised: Exception) -> None:
    """Whatever the decoder raises is an ImageError that says it, the same one each time."""

    def load() -> np.ndarray:
        raise raised

    image = LazyImage(load)
    said = []
    for _ in range(2):
        with pytest.raises(ImageError, match=str(raised.args[0])) as error:
            image.get()
        said.append(error.value)
    assert said[0] is said[1]


# ---- poses ---------------------------------------------------------------------------------------


def poses_at(stamps_ns: list[int], motion: Motion = CIRCLE) -> list[EgoPose]:
    """Exact poses of a motion."""
    return [motion.pose(stamp) for stamp in stamps_ns]


@given(offsets_ms, st.integers(0, 2_000), st.integers(0, 500))
def test_around_brackets(offsets: list[int], first_ms: int, span_ms: int) -> None:
    """The poses in a span, and the nearest one on either side where there is one."""
    buffer = PoseBuffer(ms(5_000))
    for offset in offsets:
        buffer.add(replace(CIRCLE.pose(START_NS), stamp_ns=START_NS + ms(offset)))
    first, last = START_NS + ms(first_ms), START_NS + ms(first_ms + span_ms)
    held = sorted({START_NS + ms(o) for o in offsets})
    before = [s for s in held if s <= first][-1:]
    after = [s for s in held if s >= last][:1]
    wanted = sorted({*before, *(s for s in held if first <= s <= last), *after})
    assert [p.stamp_ns for p in buffer.around(first, last)] == wanted


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.integers(-(10**9), 0))
def test_nanoseconds_of_today(start_off_ns: int, past_ns: int) -> None:
    """At 1.7e18 ns float64 resolves 256 ns; interpolation resolves one.

    A pose every 2 ns moving 1 m each: halfway is half a metre, to the rounding of metres.
    """
    start = START_NS + start_off_ns
    pose = Motion(speed_mps=0.0).pose(start)
    poses = [
        replace(pose, stamp_ns=start + 2 * k, position_m=np.array([float(k), 0.0, 0.0]))
        for k in range(4)
    ]
    asked = np.array([start + 1, start + 2, start + 5], dtype=np.int64)
    got = interpolate(poses, asked)
    np.testing.assert_array_equal(got.positions_m[:, 0], [0.5, 1.0, 2.5])
    np.testing.assert_array_equal(got.gaps_ns, [2, 0, 2])
    assert got.extrapolated_ns == 0
    with pytest.raises(ValueError, match="before the first"):
        interpolate(poses, np.array([start - 1 + past_ns], dtype=np.int64))


def test_interpolation_error_on_a_circle() -> None:
    """Chords of a circle: off by (v dt)^2 / 8 r, which is 0.1 mm at 10 m/s, 50 Hz and 50 m of
    radius; the heading is exact to rounding."""
    poses = poses_at([START_NS + ms(20 * k) for k in range(20)])
    asked = np.array([START_NS + ms(10 + 20 * k) for k in range(18)], dtype=np.int64)
    got = interpolate(poses, asked)
    exact = poses_at([int(s) for s in asked])
    error = np.linalg.norm(got.positions_m - [p.position_m for p in exact], axis=1)
    bound = (10.0 * 0.02) ** 2 / (8 * 50.0)
    assert bound / 2 < error.max() < 1.01 * bound
    yaw = yaw_of(quaternion_to_rotation(got.quaternions_xyzw))
    true_yaw = yaw_of(quaternion_to_rotation([p.quaternion_xyzw for p in exact]))
    np.testing.assert_allclose(yaw, true_yaw, atol=1e-12)


@pytest.mark.parametrize("yaw_rate", (0.0, 0.2, -0.8))
@pytest.mark.parametrize("speed", (10.0, -3.0, 0.0))
def test_extrapolation_stays_on_the_circle(speed: float, yaw_rate: float) -> None:
    """50 ms on by the twist: the exact circle but for chord against arc, v t (w t)^2 / 24."""
    motion = Motion(speed_mps=speed, yaw_rate_rps=yaw_rate)
    poses = poses_at([START_NS, START_NS + ms(20)], motion)
    asked = np.array([START_NS + ms(20), START_NS + ms(70)], dtype=np.int64)
    got = interpolate(poses, asked)
    exact = motion.pose(START_NS + ms(70))
    bound = abs(speed) * 0.05 * (yaw_rate * 0.05) ** 2 / 24
    # 1e-9: the resolution of a northing of 4e6 m in float64.
    assert np.linalg.norm(got.positions_m[1] - exact.position_m) <= 1.01 * bound + 1e-9
    turned = quaternion_to_rotation(got.quaternions_xyzw[1])
    np.testing.assert_allclose(turned, quaternion_to_rotation(exact.quaternion_xyzw), atol=1e-12)
    assert got.extrapolated_ns == ms(50)
    np.testing.assert_array_equal(got.gaps_ns, [0, 0])


def test_signs_of_quaternions_do_not_matter() -> None:
    """q and -q are one rotation; a driver that flips signs midway turns nothing."""
    poses = poses_at([START_NS + ms(20 * k) for k in range(6)])
    flipped = [
        replace(p, quaternion_xyzw=p.quaternion_xyzw * (-1) ** k) for k, p in enumerate(poses)
    ]
    asked = np.array([START_NS + ms(7 * k) for k in range(14)], dtype=np.int64)
    a, b = interpolate(poses, asked), interpolate(flipped, asked)
    np.testing.assert_allclose(
        quaternion_to_rotation(a.quaternions_xyzw),
        quaternion_to_rotation(b.quaternions_xyzw),
        atol=1e-12,
    )


def test_one_pose_is_enough_for_its_own_time() -> None:
    """At its stamp the pose itself; no pose at all is refused."""
    (pose,) = poses_at([START_NS])
    got = interpolate([pose], np.array([START_NS], dtype=np.int64))
    np.testing.assert_array_equal(got.positions_m[0], pose.position_m)
    with pytest.raises(ValueError, match="before the first"):
        interpolate([], np.array([START_NS], dtype=np.int64))


def test_an_hour_of_thirty_hertz() -> None:
    """108 000 frames and 180 000 poses: the buffers hold 0.7 s and 2 s of them."""
    frames, poses = FrameBuffer("front_wide", ms(700)), PoseBuffer(ms(2_000))
    for k in range(108_000):
        frames.add(frame("front_wide", START_NS + k * NS_PER_S // 30))
    pose = CIRCLE.pose(START_NS)
    for k in range(180_000):
        poses.add(replace(pose, stamp_ns=START_NS + k * ms(20)))
    assert (len(frames), len(frames._slots)) == (22, 22)
    assert (len(poses), len(poses._poses)) == (101, 101)
