"""Bugs found in other planners, each with a test that fails where the bug is (numbers: issue 2)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulate import (
    CIRCLE,
    START_NS,
    Message,
    Motion,
    frame,
    good_drive,
    ms,
    one_sample,
    pipeline,
    play,
    selections,
)

from alpamayo_ros import messages
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.buffers import FrameSlot
from alpamayo_ros.geometry import yaw_of
from alpamayo_ros.sampling import Selection, materialise
from alpamayo_ros.types import CAMERA_NAMES, Plan, PlannerSample


def make(msgtype: str, /, **fields: Any) -> Any:
    """A message as a plain namespace."""
    return SimpleNamespace(**fields)


def planned(sample: PlannerSample) -> Plan:
    """The kinematic plan of a sample."""
    backend = create_backend("kinematic")
    backend.load()
    return backend.plan(sample)


@pytest.mark.parametrize("odometry_hz", (20.0, 37.0, 50.0))
def test_bug_1_the_last_pose_of_the_history_is_t0(odometry_hz: float) -> None:
    """Not the pose some messages earlier: exactly zero and, to rounding, the identity, and the
    pose in the odometry frame is where the vehicle is at t0."""
    sample = one_sample(odometry_hz=odometry_hz)
    np.testing.assert_array_equal(sample.history_xyz_in_rig_t0[-1], np.zeros(3))
    # Of a rotation with itself: six products of sines and cosines.
    np.testing.assert_allclose(sample.history_rot_in_rig_t0[-1], np.eye(3), atol=1e-15)
    exact = CIRCLE.pose(sample.t0_ns)
    # A chord of the circle between poses 50 ms apart is at most 0.7 mm inside of it; the bug's
    # 80 ms are 800 mm.
    error = np.linalg.norm(sample.odometry_from_rig_t0.translation_m - exact.position_m)
    assert error < 0.7e-3


@pytest.mark.parametrize("odometry_hz", (20.0, 50.0, 100.0, 200.0))
def test_bug_2_the_rate_of_odometry_does_not_matter(odometry_hz: float) -> None:
    """The history is 0.1 s apart at any rate: within 1.4 mm of the exact circle (two chords at
    20 Hz, as above), where twice the rate would halve its 15 m."""
    sample = one_sample(odometry_hz=odometry_hz)
    grid = [sample.t0_ns - k * ms(100) for k in range(15, -1, -1)]
    exact = CIRCLE.in_rig_at(sample.t0_ns, grid)
    np.testing.assert_allclose(sample.history_xyz_in_rig_t0, exact, atol=1.4e-3)
    yaws = yaw_of(sample.history_rot_in_rig_t0)
    np.testing.assert_allclose(yaws, 0.2 * np.arange(-1.5, 0.01, 0.1), atol=1e-9)


def test_bug_2_irregular_odometry() -> None:
    """Poses at random times, 5 to 60 ms apart, give the same history."""
    rng = np.random.default_rng(3)
    drive = [m for m in good_drive(3.0) if m.source != "odometry"]
    stamp = START_NS
    while stamp < START_NS + ms(3_000):
        drive.append(Message("odometry", stamp, stamp, CIRCLE.pose(stamp)))
        stamp += ms(rng.uniform(5.0, 60.0))
    drive.sort(key=lambda m: m.arrival_ns)
    sample = materialise(selections(play(pipeline(), drive))[-1])
    exact = CIRCLE.in_rig_at(sample.t0_ns, [sample.t0_ns - k * ms(100) for k in range(15, -1, -1)])
    # A chord of 60 ms lies at most 0.9 mm inside; twice, since t0's pose is one as well.
    np.testing.assert_allclose(sample.history_xyz_in_rig_t0, exact, atol=1.8e-3)


@pytest.mark.parametrize("rate_hz", (10.0, 15.0, 20.0, 30.0, 36.0))
def test_bug_3_frames_are_chosen_by_stamp(rate_hz: float) -> None:
    """Four frames span 0.3 s at any rate (three periods of a 30 Hz camera are 0.1 s). Half a
    frame of 15 Hz, 33 ms, is the furthest from it."""
    sample = one_sample(rate_hz=rate_hz)
    wanted = sample.t0_ns - np.array([300, 200, 100, 0]) * ms(1)
    off_ms = np.abs(sample.image_stamps_ns - wanted) / 1e6
    furthest_ms = 0.0 if rate_hz == 10.0 else 500.0 / rate_hz
    assert off_ms.max() <= furthest_ms
    assert off_ms[:, -1].max() == 0.0


def test_bug_4_positions_of_a_map() -> None:
    """At UTM coordinates the history is right to a micrometre: float32 resolves 0.25 m there.

    Straight ahead, so that linear interpolation is exact and only rounding is left.
    """
    east = Motion(yaw_rate_rps=1e-9, yaw_rad=0.3)
    sample = one_sample(motion=east)
    assert abs(sample.odometry_from_rig_t0.translation_m[1]) > 3.9e6
    exact = np.stack([10.0 * np.arange(-1.5, 0.01, 0.1), np.zeros(16), np.zeros(16)], axis=1)
    np.testing.assert_allclose(sample.history_xyz_in_rig_t0, exact, atol=1e-6)
    as_float32 = sample.odometry_from_rig_t0.translation_m.astype(np.float32)
    assert np.abs(as_float32 - sample.odometry_from_rig_t0.translation_m).max() > 1e-3


def test_bug_5_stamps_are_those_of_the_data() -> None:
    """Path and trajectory carry t0, not now; pose k is (k + 1) * 0.1 s after it, the trajectory's
    point k is k * 0.1 s after it, and its first speed is the vehicle's."""
    sample = one_sample()
    plan = planned(sample)
    frame_of = messages.path_frame(sample, "base_link", in_odometry=True)
    path = messages.path(make, plan, frame_of)
    assert to_ns(path.header.stamp) == sample.t0_ns
    assert [to_ns(p.header.stamp) for p in path.poses] == [
        sample.t0_ns + (k + 1) * ms(100) for k in range(64)
    ]
    trajectory = messages.trajectory(make, plan, frame_of, sequence=1)
    assert to_ns(trajectory.header.stamp) == sample.t0_ns
    assert [to_ns(p.time_from_start) for p in trajectory.points] == [k * ms(100) for k in range(65)]
    assert trajectory.points[0].velocity_mps == pytest.approx(10.0)
    # The point at 0.1 s is where pose 0 of the path is.
    assert vars(trajectory.points[1].pose.position) == vars(path.poses[0].pose.position)


def to_ns(time: Any) -> int:
    """A Time or Duration in nanoseconds."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def test_bug_6_equal_samples_have_equal_plans() -> None:
    """Bit by bit, in one backend and across two. (Greedy decoding that samples after all is the
    peers' case; a planner that decodes joins this test with its first model.)"""
    first, second = one_sample(), one_sample()
    backends = [create_backend("kinematic") for _ in range(2)]
    for backend in backends:
        backend.load()
    plans = [backend.plan(sample) for backend in backends for sample in (first, second, first)]
    for plan in plans[1:]:
        assert plan.xyz_in_rig_t0.tobytes() == plans[0].xyz_in_rig_t0.tobytes()
        assert plan.rot_in_rig_t0.tobytes() == plans[0].rot_in_rig_t0.tobytes()
        assert plan.action.tobytes() == plans[0].action.tobytes()
        assert plan.reasoning == plans[0].reasoning


@pytest.mark.parametrize("has_clock", (True, False))
def test_bug_9_a_looping_bag(has_clock: bool) -> None:
    """The same recording thrice, without a pause: each pass plans the same instants, and no
    sample reaches back into the pass before. With a /clock that loops, and by the stamps alone."""
    drive = good_drive(4.0)
    subject = pipeline()

    def replayed(*, start: bool = False) -> list[Selection]:
        return selections(
            play(subject, drive, start=start, clock=lambda now_ns: now_ns if has_clock else 0)
        )

    passes = [[s.t0_ns for s in replayed(start=n == 0)] for n in range(3)]
    assert passes[0] == passes[1] == passes[2] != []
    for selection in replayed():
        stamps = [slot.stamp_ns for row in selection.slots for slot in row]
        assert max(stamps) - min(stamps) == ms(300)
        assert np.ptp(selection.history.positions_m, axis=0).max() < 16.0  # 15 m in 1.5 s


# Red, green and blue of a pixel say whose it is: camera, time, column. Rows are told by a ramp.
def coloured(camera: str, stamp_ns: int) -> FrameSlot:
    """A frame of 6 x 10 pixels that can be recognised in any layout."""
    image = np.zeros((6, 10, 3), np.uint8)
    image[..., 0] = 10 + CAMERA_NAMES.index(camera)
    image[..., 1] = np.arange(6)[:, None] * 20
    image[..., 2] = (stamp_ns - START_NS) // ms(100)
    return frame(camera, stamp_ns, lambda: image)


def test_bug_14_layout_and_channels() -> None:
    """(camera, time, row, column, RGB), cameras by index, times oldest first: each pixel is where
    its colour says, so that a swap of any two axes or channels is seen."""
    drive = [
        Message(m.source, m.stamp_ns, m.arrival_ns, coloured(m.source, m.stamp_ns))
        if isinstance(m.payload, FrameSlot)
        else m
        for m in good_drive(3.0)
    ]
    sample = materialise(selections(play(pipeline(), drive))[-1])
    assert sample.images.shape == (4, 4, 6, 10, 3)
    assert sample.camera_indices.tolist() == [0, 1, 2, 6]
    assert not sample.images.flags.writeable
    newest = (sample.t0_ns - START_NS) // ms(100)
    for row, index in enumerate(sample.camera_indices):
        assert set(sample.images[row, ..., 0].ravel()) == {10 + index}
        for k in range(4):
            assert set(sample.images[row, k, ..., 2].ravel()) == {newest - 3 + k}
            np.testing.assert_array_equal(
                sample.images[row, k, ..., 1], np.tile(np.arange(6)[:, None] * 20, (1, 10))
            )
