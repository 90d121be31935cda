"""One good drive, one fault each: what is said, of whom, when; and that planning resumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import (
    CIRCLE,
    POLL_NS,
    START_NS,
    WARM_UP_NS,
    Message,
    Motion,
    delayed,
    frame,
    good_drive,
    in_order,
    ms,
    pipeline,
    play,
    rejections,
    selections,
    without,
)

from alpamayo_ros.buffers import FrameSlot
from alpamayo_ros.sampling import SamplingLimits, Selection
from alpamayo_ros.types import DEFAULT_CAMERAS, NS_PER_MS, NS_PER_S, EgoPose, RejectionReason

REASON = RejectionReason
CUT_NS = START_NS + ms(3_000)
DEADLINE_NS = ms(150)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(DEFAULT_CAMERAS),
    st.sampled_from((10.0, 15.0, 30.0, 36.0)),
    st.integers(0, 99),
    st.sampled_from((0.0, 10.0)),
)
def test_a_cut_camera_is_named(camera: str, rate_hz: float, cut_ms: int, jitter_ms: float) -> None:
    """From the deadline of the first tick it cannot serve on, each tick names the dead camera.

    The first lies a tick after the last plan, which is due at most half a frame after its t0; the
    node looks every 20 ms. The limits are the tick's deadline plus these.
    """
    drive = good_drive(6.0, rate_hz, jitter_ms=jitter_ms, seed=cut_ms)
    cut = without(drive, camera, CUT_NS + ms(cut_ms))
    last_ns = max(m.stamp_ns for m in cut if m.source == camera)
    heard = [h for h in play(pipeline(), cut) if h.now_ns > START_NS + WARM_UP_NS]
    refused = [h for h in heard if not isinstance(h.tick, Selection)]
    assert {h.tick.source for h in refused} == {camera}
    assert {h.tick.reason for h in refused} == {REASON.CAMERA_MISSING}
    assert refused[0].now_ns - last_ns <= ms(100 + 50 + jitter_ms) + DEADLINE_NS + POLL_NS
    assert refused[0].now_ns - refused[0].tick.due_ns <= DEADLINE_NS + POLL_NS < ms(200)
    assert set(np.diff([h.tick.due_ns for h in refused])) == {ms(100)}
    # Its age is the newest stamp's, and beyond what could have served the tick.
    ages = [h.tick.value - (h.now_ns - last_ns) / NS_PER_MS for h in refused]
    assert max(map(abs, ages)) < 1e-3
    assert all(h.tick.value > DEADLINE_NS / NS_PER_MS for h in refused)


def test_a_camera_long_dead_is_still_a_dead_camera() -> None:
    """Fifteen seconds after its last frame the reason is the camera, not a clock that differs."""
    drive = without(good_drive(18.0), "front_wide", CUT_NS)
    late = rejections(play(pipeline(), drive), CUT_NS + 12 * NS_PER_S)
    assert len(late) >= 25
    assert {(r.reason, r.source) for r in late} == {(REASON.CAMERA_MISSING, "front_wide")}


@pytest.mark.parametrize("away_ms", (400, 1_500, 5_000))
def test_a_camera_that_returns_is_planned_with_again(away_ms: int) -> None:
    """Away for less or more than the buffers hold: plans resume 0.3 s after it is back, and no
    sample holds a frame from before next to one from after."""
    back_ns = CUT_NS + ms(away_ms)
    drive = without(good_drive(5.0 + away_ms / 1e3), "cross_left", CUT_NS, back_ns)
    heard = play(pipeline(), drive)
    after = [s for s in selections(heard) if s.t0_ns >= CUT_NS]
    # Four frames are complete at the first t0 with three frames before it, tick rounding aside.
    assert ms(300) <= after[0].t0_ns - back_ns <= ms(400)
    assert all(slot.stamp_ns >= back_ns for row in after[0].slots for slot in row)
    assert {r.source for r in rejections(heard, CUT_NS)} == {"cross_left"}
    assert after[-1].t0_ns >= drive[-1].stamp_ns - ms(100)


def test_two_cut_cameras_are_both_named() -> None:
    """The one that went first is the source; the detail lists both."""
    drive = without(good_drive(6.0), "front_tele", CUT_NS)
    drive = without(drive, "cross_right", CUT_NS + ms(500))
    late = rejections(play(pipeline(), drive), CUT_NS + ms(1_000))
    assert len(late) >= 15
    assert {r.source for r in late} == {"front_tele"}
    assert all("front_tele" in r.detail and "cross_right" in r.detail for r in late)


def test_a_camera_that_never_came() -> None:
    """Named from the first deadline on, with what it is that is missing."""
    drive = without(good_drive(3.0), "front_tele", 0)
    refused = rejections(play(pipeline(), drive))
    assert len(refused) == 29  # every tick whose deadline lies in the drive
    assert {(r.reason, r.source) for r in refused} == {(REASON.CAMERA_MISSING, "front_tele")}
    assert all("no message yet from front_tele" in r.detail for r in refused)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from((10.0, 30.0)), st.integers(0, 99), st.sampled_from((20.0, 50.0, 100.0)))
def test_cut_odometry_is_extrapolated_then_named(
    rate_hz: float, cut_ms: int, odometry_hz: float
) -> None:
    """Plans up to 50 ms beyond the last pose are flagged with how far; then ODOMETRY_MISSING.

    No camera is ever blamed, whatever the phase of the cut.
    """
    drive = good_drive(5.0, rate_hz, odometry_hz=odometry_hz)
    cut = without(drive, "odometry", CUT_NS + ms(cut_ms))
    last_ns = max(m.stamp_ns for m in cut if m.source == "odometry")
    heard = play(pipeline(), cut)
    for selection in selections(heard):
        beyond_ns = max(selection.t0_ns - last_ns, 0)
        assert selection.history.extrapolated_ns == beyond_ns <= ms(50)
    refused = rejections(heard, START_NS + WARM_UP_NS)
    assert {(r.reason, r.source) for r in refused} == {(REASON.ODOMETRY_MISSING, "odometry")}
    assert len(refused) >= 14  # ten a second for at least 1.9 s, less deadlines at either end
    assert all(np.isfinite(r.value) for r in refused)


def test_an_extrapolated_plan_is_made_at_all() -> None:
    """Odometry cut 40 ms before a frame: that frame is planned, carried forward by 40 ms."""
    drive = without(good_drive(5.0), "odometry", CUT_NS - ms(39))
    last = selections(play(pipeline(), drive))[-1]
    assert last.t0_ns == CUT_NS
    assert last.history.extrapolated_ns == ms(40)


def test_a_gap_in_odometry() -> None:
    """Poses 300 ms apart in the midst of the history: each tick says how wide the gap is."""
    drive = without(good_drive(6.0), "odometry", CUT_NS, CUT_NS + ms(280))
    heard = play(pipeline(), drive)
    gaps = [r for r in rejections(heard, START_NS + WARM_UP_NS) if r.reason is REASON.ODOMETRY_GAP]
    assert len(gaps) >= 12
    assert {(r.value, r.limit, r.unit) for r in gaps} == {(300.0, 150.0, "ms")}
    assert selections(heard)[-1].t0_ns >= CUT_NS + ms(2_500)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_noise_never_blocks_planning(data: st.DataObject) -> None:
    """Duplicates, reordering within 90 ms and lost frames: each t0 is still planned once only,
    every sample keeps its tolerances, and the drive's end is planned."""
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    drive = good_drive(4.0, 30.0, jitter_ms=10.0, seed=seed)
    noisy = [m for m in drive if rng.random() > 0.05 or m.stamp_ns > START_NS + ms(3_500)]
    noisy += [m for m in drive if rng.random() < 0.1]
    noisy = in_order(replace(m, arrival_ns=m.arrival_ns + ms(rng.uniform(0, 90))) for m in noisy)
    chosen = selections(play(pipeline(), noisy))
    t0 = [s.t0_ns for s in chosen]
    assert t0 == sorted(set(t0))
    assert t0[-1] >= START_NS + ms(3_700)
    for selection in chosen:
        for row in selection.slots:
            for k, slot in enumerate(row):
                grid_ns = selection.t0_ns - (3 - k) * ms(100)
                assert abs(slot.stamp_ns - grid_ns) <= ms(50)
        assert selection.skew_ns <= ms(50)


def test_duplicates_and_old_stamps_are_refused() -> None:
    """A stamp seen before, or one older than all that is kept, is OUT_OF_ORDER with its age."""
    subject = pipeline()
    for message in good_drive(3.0):
        (subject.add_frame if isinstance(message.payload, FrameSlot) else subject.add_pose)(
            message.payload,  # type: ignore[arg-type]
            message.stamp_ns,
        )
    newest_ns = START_NS + ms(2_900)
    again = subject.add_frame(frame("front_wide", newest_ns - ms(100)), newest_ns)
    assert again is not None and again.reason is REASON.OUT_OF_ORDER and again.value == 100.0
    between = subject.add_frame(frame("front_wide", newest_ns - ms(50)), newest_ns)
    assert between is None


@pytest.mark.parametrize("change", ("frame_id", "position"))
def test_odometry_of_another_map_starts_the_history_afresh(change: str) -> None:
    """A new frame_id, or a leap of 100 m: no history mixes both; 1.5 s later it plans again."""

    def moved(message: Message) -> Message:
        if message.source != "odometry" or message.stamp_ns < CUT_NS:
            return message
        pose = message.payload
        assert isinstance(pose, EgoPose)
        if change == "frame_id":
            return replace(message, payload=replace(pose, frame_id="map"))
        return replace(message, payload=replace(pose, position_m=pose.position_m + 100.0))

    heard = play(pipeline(), [moved(m) for m in good_drive(6.0)])
    t0 = [s.t0_ns for s in selections(heard)]
    across = [t for t in t0 if CUT_NS <= t < CUT_NS + ms(1_500)]
    assert across == [] and t0[-1] > CUT_NS + ms(2_500)
    refused = rejections(heard, CUT_NS)
    assert {(r.reason, r.source) for r in refused} == {(REASON.WARMING_UP, "odometry")}


def test_fast_and_rough_motion_is_no_leap() -> None:
    """50 m/s (the fastest road car) on 10 Hz odometry: 5 m between poses are driving."""
    drive = good_drive(4.0, odometry_hz=10.0, motion=Motion(speed_mps=50.0, yaw_rate_rps=0.1))
    assert rejections(play(pipeline(), drive), START_NS + WARM_UP_NS) == []


def test_late_cameras_within_a_long_deadline() -> None:
    """Cameras 0.8 s late are planned from where the deadline allows it: the buffers reach back
    as far as a tick may be served, whatever transport_slack says."""
    late = delayed(good_drive(6.0), lambda m: 0.0 if m.source == "odometry" else 800.0)
    heard = play(pipeline(tick_deadline_ns=ms(1_000)), late)
    assert len(selections(heard)) >= 40
    # One camera alone late: the others' frames must wait for it in their buffers.
    late = delayed(good_drive(6.0), lambda m: 800.0 if m.source == "front_tele" else 0.0)
    assert len(selections(play(pipeline(tick_deadline_ns=ms(1_000)), late))) >= 40


def test_an_unreadable_frame_costs_its_instants_only() -> None:
    """A discarded frame of a 30 Hz camera is replaced by its neighbour; at 10 Hz no t0 of the next
    300 ms has all its frames: two ticks are refused and name the camera, the third is served by
    the frame after it, within its deadline."""
    for rate_hz, missing in ((30.0, 0), (10.0, 2)):
        drive = good_drive(5.0, rate_hz)
        bad_ns = START_NS + ms(3_000)
        subject = pipeline()
        first = play(subject, [m for m in drive if m.stamp_ns <= bad_ns], until_ns=bad_ns)
        slot = selections(first)[-1].slots[0][-1]
        assert slot.stamp_ns == bad_ns
        subject.discard(slot)
        rest = [m for m in drive if m.stamp_ns > bad_ns]
        heard = play(subject, rest, start=False)
        refused = rejections(heard)
        assert [(r.reason, r.source) for r in refused] == [
            (REASON.CAMERA_MISSING, slot.camera)
        ] * missing
        assert selections(heard)[-1].t0_ns >= START_NS + ms(4_900)


def test_memory_stays_bounded() -> None:
    """A minute in which every candidate is refused: nothing grows beyond its seconds of data.

    The cameras lie 40 ms apart at a limit of 10 ms. Kept are 0.7 s of frames (eight at 10 Hz), 2 s
    of poses at 50 Hz, and the refusals of the ticks still open (20 stamps a second and camera).
    """
    subject = pipeline(limits=SamplingLimits(camera_skew_ns=ms(10)))
    offsets = dict(zip(DEFAULT_CAMERAS, (0.0, 40.0, 0.0, 40.0)))
    subject.start(START_NS)
    said = set()
    for k in range(600):
        now_ns = START_NS + k * ms(100) + ms(40)
        for camera, offset in offsets.items():
            subject.add_frame(frame(camera, START_NS + k * ms(100) + ms(offset)), now_ns)
        for step in range(5):
            stamp_ns = START_NS + k * ms(100) + step * ms(20)
            subject.add_pose(CIRCLE.pose(stamp_ns), now_ns)
        said |= {str(tick.reason) for tick in subject.poll(now_ns)}  # type: ignore[union-attr]
    assert said == {"warming_up", "camera_skew"}
    assert max(len(buffer) for buffer in subject.frames.values()) <= 8
    assert len(subject.poses) <= 101
    assert len(subject._due._refused) <= 10
