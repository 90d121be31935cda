"""What a sample is made of: frames by stamp, limits to the nanosecond, history in the rig frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import CIRCLE, START_NS, Motion, frame, ms

from alpamayo_ros.buffers import FrameBuffer, PoseBuffer
from alpamayo_ros.geometry import yaw_of
from alpamayo_ros.sampling import (
    SamplingLimits,
    Selection,
    UnreadableFrame,
    by_model_index,
    materialise,
    select,
)
from alpamayo_ros.types import (
    CAMERA_NAMES,
    DEFAULT_CAMERAS,
    EgoPose,
    ImageError,
    Rejection,
    RejectionReason,
)

REASON = RejectionReason
GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "parts_dataset.npz"
T0 = START_NS + ms(3_000)
LIMITS = SamplingLimits()


def frames_at(offsets_ms: dict[str, list[float]]) -> dict[str, FrameBuffer]:
    """Cameras with frames at these offsets from T0."""
    buffers = {}
    for name, offsets in offsets_ms.items():
        buffers[name] = FrameBuffer(name, ms(5_000))
        for offset in offsets:
            buffers[name].add(frame(name, T0 + ms(offset)))
    return buffers


GRID = [-300.0, -200.0, -100.0, 0.0]


def cameras(**changed: list[float]) -> dict[str, FrameBuffer]:
    """The four cameras on the grid, some of them changed."""
    return frames_at({name: changed.get(name, [-400.0, *GRID]) for name in DEFAULT_CAMERAS})


def poses(step_ms: float = 20.0, last_ms: float = 100.0, motion: Motion = CIRCLE) -> PoseBuffer:
    """Odometry from T0 - 1.9 s to T0 + `last_ms`."""
    buffer = PoseBuffer(ms(5_000))
    for k in range(int((1_900 + last_ms) / step_ms) + 1):
        buffer.add(motion.pose(T0 + ms(-1_900 + k * step_ms)))
    return buffer


def chosen(
    frames: dict[str, FrameBuffer] | None = None,
    odometry: PoseBuffer | None = None,
    limits: SamplingLimits = LIMITS,
) -> Selection:
    """A selection at T0 of the good inputs, or of those given."""
    outcome = select(frames or cameras(), odometry or poses(), T0, limits)
    assert isinstance(outcome, Selection), outcome
    return outcome


def refused(
    frames: dict[str, FrameBuffer] | None = None,
    odometry: PoseBuffer | None = None,
    limits: SamplingLimits = LIMITS,
) -> Rejection:
    """The rejection at T0."""
    outcome = select(frames or cameras(), odometry or poses(), T0, limits, due_ns=77)
    assert isinstance(outcome, Rejection)
    assert outcome.due_ns == 77
    return outcome


def offsets_ms(selection: Selection, camera: str) -> list[float]:
    """A camera's chosen stamps relative to T0."""
    row = selection.camera_indices.index(CAMERA_NAMES.index(camera))
    return [(slot.stamp_ns - T0) / 1e6 for slot in selection.slots[row]]


def test_cameras_come_in_the_model_s_order() -> None:
    """By index in the checkpoint's table, however they were configured, and each its own frames."""
    names = list(reversed(DEFAULT_CAMERAS))
    assert by_model_index(names) == ["cross_left", "front_wide", "cross_right", "front_tele"]
    selection = chosen(frames_at({name: GRID for name in names}))
    assert selection.camera_indices == (0, 1, 2, 6)
    for index, row in zip(selection.camera_indices, selection.slots):
        assert {slot.camera for slot in row} == {CAMERA_NAMES[index]}


def test_nearest_frames_of_a_thirty_hertz_camera() -> None:
    """Of frames every 33.3 ms those on the grid; between two equally near the older."""
    fast = [-400 + k * 100 / 3 for k in range(13)]
    assert offsets_ms(chosen(cameras(front_wide=fast)), "front_wide") == pytest.approx(GRID)
    tied = [-340.0, -250.0, -150.0, -50.0, 50.0]
    limits = SamplingLimits(camera_skew_ns=ms(100))
    selection = chosen(cameras(front_wide=tied), limits=limits)
    assert offsets_ms(selection, "front_wide") == [-340.0, -250.0, -150.0, -50.0]


@pytest.mark.parametrize("side", (-1, 1))
def test_the_frame_tolerance_is_inclusive(side: int) -> None:
    """50 ms from the grid is taken; a nanosecond more is refused, with the figures."""
    limits = SamplingLimits(camera_skew_ns=ms(200))
    at_limit = [-400.0, -300.0, -200.0 + side * 50.0, 0.0]
    just_over = [-400.0, -300.0, -200.0 + side * 50.000001, 0.0]
    fits = cameras(front_wide=[*at_limit, -100.0])
    # The frame under test serves t0 - 200 ms; t0 - 100 ms has one of its own.
    assert offsets_ms(chosen(fits, limits=limits), "front_wide")[1] == -200.0 + side * 50.0
    rejection = refused(cameras(front_wide=[*just_over, -100.0]), limits=limits)
    assert (rejection.reason, rejection.source) == (REASON.CAMERA_MISSING, "front_wide")
    assert rejection.value == pytest.approx(side * 50.000001)
    assert rejection.limit == 50.0 and "t0 - 200 ms" in rejection.detail


def test_a_buffer_that_is_still_filling_warms_up() -> None:
    """No frame as old as the grid time: WARMING_UP; a hole with older frames: CAMERA_MISSING;
    no frame at all: CAMERA_MISSING."""
    assert refused(cameras(cross_left=[-100.0, 0.0])).reason is REASON.WARMING_UP
    assert refused(cameras(cross_left=[-400.0, -100.0, 0.0])).reason is REASON.CAMERA_MISSING
    nothing = refused(cameras(cross_left=[]))
    assert (nothing.reason, nothing.source) == (REASON.CAMERA_MISSING, "cross_left")


def test_the_skew_limit_is_inclusive() -> None:
    """Frames of one instant 50 ms apart are taken and the skew is told; a nanosecond more is
    refused and names the camera that stands apart."""
    frames = cameras(front_tele=[-300.0, -200.0, -100.0, -50.0])
    assert chosen(frames).skew_ns == ms(50)
    over = refused(
        cameras(front_tele=[-300.0, -200.0, -100.0, -50.0]),
        limits=SamplingLimits(camera_skew_ns=ms(50) - 1),
    )
    assert (over.reason, over.source) == (REASON.CAMERA_SKEW, "front_tele")
    assert over.value == 50.0 and over.limit == pytest.approx(49.999999)


@given(st.permutations([0.0, 2.0, 4.0, 6.0]))
def test_a_tie_does_not_tear_cameras_apart(offsets: list[float]) -> None:
    """15 Hz: t0 - 100 ms lies midway between frames 33 ms to either side; a few milliseconds of
    offset would choose one for this camera and the other for that, 67 ms apart."""
    frames = frames_at(
        {
            name: [offset + k * 200 / 3 for k in range(-6, 1)]
            for name, offset in zip(DEFAULT_CAMERAS, offsets)
        }
    )
    selection = chosen(frames)
    assert selection.skew_ns <= ms(6) + 1
    for row in selection.slots:
        for k, slot in enumerate(row):
            assert abs(slot.stamp_ns - T0 - ms(GRID[k])) <= LIMITS.frame_tolerance_ns


def test_history_times_and_limits_of_odometry() -> None:
    """It must reach back 1.5 s, to the nanosecond; forward to t0 - 50 ms."""
    buffer = PoseBuffer(ms(5_000))
    for k in range(76):
        buffer.add(CIRCLE.pose(T0 - ms(1_500) + k * ms(20)))
    assert chosen(odometry=buffer).history.extrapolated_ns == 0
    short = PoseBuffer(ms(5_000))
    for k in range(76):
        short.add(CIRCLE.pose(T0 - ms(1_500) + 1 + k * ms(20)))
    rejection = refused(odometry=short)
    assert (rejection.reason, rejection.source) == (REASON.WARMING_UP, "odometry")
    assert rejection.value == pytest.approx(1499.999999) and rejection.limit == 1500.0
    assert chosen(odometry=poses(last_ms=-50.0, step_ms=10.0)).history.extrapolated_ns == ms(50)
    rejection = refused(odometry=poses(last_ms=-60.0))
    assert rejection.reason is REASON.ODOMETRY_MISSING
    assert (rejection.value, rejection.limit, rejection.unit) == (60.0, 50.0, "ms")


def test_the_gap_limit_is_inclusive() -> None:
    """Poses 150 ms apart are interpolated between, 150 ms and 1 ns are not; a gap that no
    history time falls into does not matter."""

    def with_gap(gap_ns: int, begin_ms: float) -> PoseBuffer:
        buffer = PoseBuffer(ms(5_000))
        begin = T0 + ms(begin_ms)
        for k in range(-100, 20):
            stamp = T0 + k * ms(20)
            if not begin < stamp < begin + gap_ns:
                buffer.add(CIRCLE.pose(stamp))
        buffer.add(CIRCLE.pose(begin + gap_ns))
        return buffer

    assert chosen(odometry=with_gap(ms(150), -680.0)).history.gaps_ns.max() == ms(150)
    rejection = refused(odometry=with_gap(ms(150) + 1, -680.0))
    assert (rejection.reason, rejection.limit) == (REASON.ODOMETRY_GAP, 150.0)
    on_grid = with_gap(ms(100), -700.0)
    assert chosen(odometry=on_grid, limits=SamplingLimits(odometry_gap_ns=ms(20)))


def test_speed_and_yaw_rate_at_t0() -> None:
    """Between two poses they are interpolated as positions are; beyond the last they are its."""

    def pose(offset_ms: float, speed: float, yaw_rate: float) -> EgoPose:
        return EgoPose(
            T0 + ms(offset_ms), np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]), speed, yaw_rate
        )

    buffer = PoseBuffer(ms(5_000))
    for k in range(-20, 0):
        buffer.add(pose(k * 100.0 - 10.0, 1.0, 0.0))
    buffer.add(pose(-10.0, 4.0, 0.1))
    any_speed = SamplingLimits(speed_tolerance_mps=100.0)  # than that of poses on one spot
    at_last = chosen(odometry=buffer, limits=any_speed)
    assert (at_last.speed_mps, at_last.yaw_rate_rps) == (4.0, 0.1)
    buffer.add(pose(30.0, 8.0, 0.3))
    selection = chosen(odometry=buffer, limits=any_speed)
    assert selection.speed_mps == pytest.approx(5.0)
    assert selection.yaw_rate_rps == pytest.approx(0.15)


@pytest.mark.parametrize("acceleration", (-3.0, 0.0, 1.5))
def test_acceleration_is_the_slope_of_the_speeds(acceleration: float) -> None:
    """Of the last half second, whatever was before."""
    buffer = PoseBuffer(ms(5_000))
    for k in range(-90, 6):
        t = k * 0.02
        speed = 10.0 + acceleration * t if t >= -0.5 else 99.0
        pose = CIRCLE.pose(T0 + ms(t * 1e3))
        buffer.add(
            EgoPose(pose.stamp_ns, pose.position_m, pose.quaternion_xyzw, speed, 0.0, "odom")
        )
    assert chosen(odometry=buffer).acceleration_mps2 == pytest.approx(acceleration, abs=1e-9)


@settings(max_examples=30)
@given(
    st.floats(-4e6, 4e6), st.floats(-4e6, 4e6), st.floats(-3.1, 3.1), st.sampled_from((-0.5, 0.3))
)
def test_history_does_not_depend_on_the_map(
    east: float, north: float, yaw: float, yaw_rate: float
) -> None:
    """Anywhere and at any heading the same drive has the same history in the rig frame at t0.

    2e-9 m: positions of 4e6 m resolve 5e-10 m in float64, and two are subtracted.
    """
    motion = Motion(origin_m=(east, north, 0.0), yaw_rad=yaw, yaw_rate_rps=yaw_rate)
    sample = materialise(chosen(odometry=poses(motion=motion)))
    exact = motion.in_rig_at(T0, [T0 + ms(-1_500 + 100 * k) for k in range(16)])
    np.testing.assert_allclose(sample.history_xyz_in_rig_t0, exact, atol=2e-9)
    yaws = yaw_of(sample.history_rot_in_rig_t0)
    np.testing.assert_allclose(yaws, yaw_rate * np.arange(-1.5, 0.01, 0.1), atol=1e-9)


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
def test_history_and_future_are_the_reference_s() -> None:
    """World poses of parts_dataset in the rig frame at t0, history as sampled, future as scored.

    The reference ends in float32: 6e-8 of up to 60 m is 4e-6 m.
    """
    golden = np.load(GOLDEN)
    buffer = PoseBuffer(ms(10_000))
    for part in ("world_16", "world_64"):
        for stamp, xyz, quaternion in zip(
            golden[f"{part}_timestamps_us"], golden[f"{part}_xyz"], golden[f"{part}_quat_xyzw"]
        ):
            buffer.add(EgoPose(int(stamp) * 1_000, xyz, quaternion, 8.0, 0.0))
    t0_ns = int(golden["world_16_timestamps_us"][-1]) * 1_000
    frames = {}
    for index, stamps in zip(golden["out_camera_indices"], golden["out_absolute_timestamps"]):
        name = CAMERA_NAMES[index]
        frames[name] = FrameBuffer(name, ms(5_000))
        for stamp in stamps:
            frames[name].add(frame(name, int(stamp) * 1_000))
    selection = select(frames, buffer, t0_ns, LIMITS)
    assert isinstance(selection, Selection)
    sample = materialise(selection)
    np.testing.assert_array_equal(sample.image_stamps_ns, golden["out_absolute_timestamps"] * 1_000)
    np.testing.assert_array_equal(sample.camera_indices, golden["out_camera_indices"])
    history, rotations = golden["out_ego_history_xyz"][0, 0], golden["out_ego_history_rot"][0, 0]
    np.testing.assert_allclose(sample.history_xyz_in_rig_t0, history, atol=4e-6)
    np.testing.assert_allclose(sample.history_rot_in_rig_t0, rotations, atol=1e-6)
    rig = sample.odometry_from_rig_t0
    future = (golden["world_64_xyz"] - rig.translation_m) @ rig.rotation
    np.testing.assert_allclose(future, golden["out_ego_future_xyz"][0, 0], atol=4e-6)


def test_an_unreadable_frame_is_named() -> None:
    """materialise tells which of the sixteen frames it was, and why."""

    def broken() -> np.ndarray:
        raise ImageError("truncated JPEG")

    frames = cameras()
    frames["cross_right"].discard(T0 - ms(200))
    frames["cross_right"].add(frame("cross_right", T0 - ms(200), broken))
    with pytest.raises(UnreadableFrame, match="cross_right: truncated JPEG") as error:
        materialise(chosen(frames))
    assert error.value.slot.stamp_ns == T0 - ms(200)
