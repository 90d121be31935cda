"""The pipeline on drives without a fault: the same plans in any order of arrival, ten a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import (
    POLL_NS,
    START_NS,
    WARM_UP_NS,
    Message,
    content,
    delayed,
    good_drive,
    in_order,
    ms,
    pipeline,
    play,
    rejections,
    selections,
)

from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import DEFAULT_CAMERAS, NS_PER_S

RATES_HZ = (10.0, 15.0, 20.0, 30.0, 36.0)
# Camera drivers that share a trigger differ by transfer and exposure, a few milliseconds.
OFFSETS_MS = dict(zip(DEFAULT_CAMERAS, (0.0, 3.0, 7.0, 5.0)))

Drive = dict[str, Any]  # arguments of good_drive
drives = st.fixed_dictionaries(
    {
        "seconds": st.just(3.0),
        "rate_hz": st.sampled_from(RATES_HZ),
        "jitter_ms": st.sampled_from((0.0, 1.0, 5.0, 20.0)),
        "phase_ms": st.floats(0.0, 100.0),
        "camera_offsets_ms": st.sampled_from(({}, OFFSETS_MS)),
        "common_jitter": st.booleans(),
        "seed": st.integers(0, 2**16),
    }
)


def planned(messages: list[Message], poll_ns: int = POLL_NS) -> list[tuple[object, ...]]:
    """What is planned of a drive, the end left out: there the drive stops before odometry's
    answer to the last frames."""
    heard = play(pipeline(), messages, until_ns=START_NS + 4 * NS_PER_S, poll_ns=poll_ns)
    return [content(s) for s in selections(heard) if s.t0_ns < START_NS + ms(2800)]


@settings(max_examples=35, deadline=None)
@given(drives, st.integers(0, 2**16), st.floats(0.0, 90.0), st.floats(0.0, 75.0))
def test_the_order_of_arrival_does_not_matter(
    drive: Drive, seed: int, camera_delay_ms: float, odometry_delay_ms: float
) -> None:
    """Transport delays change neither t0, nor the frames chosen, nor a bit of the history.

    The delays stay below the deadlines: a frame of up to 20 ms of jitter is at most 110 ms late,
    the pose that follows t0 at most 20 + 75 ms, under the 100 ms that odometry is waited for.
    """
    rng = np.random.default_rng(seed)

    def delay_ms(message: Message) -> float:
        odometry = message.source == "odometry"
        return float(rng.uniform(0.0, odometry_delay_ms if odometry else camera_delay_ms))

    messages = good_drive(**drive)
    prompt = planned(messages)
    assert len(prompt) >= 10
    assert planned(delayed(messages, delay_ms)) == prompt


@settings(max_examples=20, deadline=None)
@given(drives, st.sampled_from((*DEFAULT_CAMERAS, "odometry")))
def test_one_late_source_changes_nothing(drive: Drive, source: str) -> None:
    """One camera 95 ms behind the others, or odometry 75 ms behind them, gives the same plans."""
    late_ms = 75.0 if source == "odometry" else 95.0
    messages = good_drive(**drive)
    late = delayed(messages, lambda m: late_ms if m.source == source else 0.0)
    assert planned(late) == planned(messages)


@settings(max_examples=10, deadline=None)
@given(drives, st.integers(1, 40))
def test_how_often_it_is_polled_does_not_matter(drive: Drive, poll_ms: int) -> None:
    """A replay polls after each message, the node by timer as well: both plan the same."""
    messages = good_drive(**drive)
    assert planned(messages, ms(poll_ms)) == planned(messages, NS_PER_S)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("jitter_ms", (0.0, 1.0, 20.0))
def test_ten_plans_a_second(rate_hz: float, jitter_ms: float) -> None:
    """10.0 ± 0.2 Hz over 20 s at any rate, jitter, phase and small offset; nothing is refused."""
    for seed, (offsets, common) in enumerate((({}, True), ({}, False), (OFFSETS_MS, False))):
        drive = good_drive(
            21.8,
            rate_hz,
            jitter_ms=jitter_ms,
            phase_ms=37.0 * seed,
            camera_offsets_ms=offsets,
            common_jitter=common,
            seed=seed,
        )
        heard = play(pipeline(), drive)
        assert rejections(heard, START_NS + WARM_UP_NS) == []
        t0 = [s.t0_ns for s in selections(heard)]
        rate = (len(t0) - 1) * NS_PER_S / (t0[-1] - t0[0])
        assert rate == pytest.approx(10.0, abs=0.2)
        # None twice, none bunched: due times lie 100 ms apart, a t0 at most half a frame early
        # and one late; jitter comes on top.
        spacing_ms = np.diff(t0) / 1e6
        assert spacing_ms.min() >= 100.0 - 1000.0 / rate_hz - jitter_ms - 1.0
        assert spacing_ms.max() <= 200.0 + jitter_ms


@settings(max_examples=25, deadline=None)
@given(drives)
def test_nothing_is_refused_once_warm(drive: Drive) -> None:
    """A good drive of any rate, phase, jitter and offset has no rejection after warm-up."""
    assert rejections(play(pipeline(), good_drive(**drive)), START_NS + WARM_UP_NS) == []


@pytest.mark.parametrize("rate_hz", (9.65, 9.0))
def test_cameras_slower_than_the_ticks(rate_hz: float) -> None:
    """Every frame of a 9.65 Hz camera (kitti06) becomes a t0: no tick is refused for its sake."""
    drive = good_drive(12.0, rate_hz)
    heard = play(pipeline(), drive)
    t0 = [s.t0_ns for s in selections(heard)]
    frames = sorted({m.stamp_ns for m in drive if m.source == DEFAULT_CAMERAS[0]})
    assert t0 == [stamp for stamp in frames if stamp >= t0[0]]
    assert t0[0] <= START_NS + ms(1620)
    assert rejections(heard, START_NS + WARM_UP_NS) == []


def test_five_hertz_cameras_are_refused_with_the_reason() -> None:
    """Frames 200 ms apart leave every other grid time 100 ms from a frame: each tick says so."""
    heard = play(pipeline(), good_drive(6.0, 5.0))
    assert selections(heard) == []
    refused = rejections(heard, START_NS + WARM_UP_NS)
    assert 39 <= len(refused) <= 42  # ten a second for 4.2 s
    assert {r.reason.value for r in refused} == {"camera_missing"}
    assert all(r.source in DEFAULT_CAMERAS for r in refused)
    told = [r for r in refused if abs(r.value) == 100.0 and r.limit == 50.0]
    assert len(told) > len(refused) / 2 and "t0 - " in told[0].detail


def test_the_first_plan_comes_with_the_first_full_history() -> None:
    """Odometry and cameras start together: t0 is the first stamp 1.5 s later, before it only
    WARMING_UP is said."""
    heard = play(pipeline(), good_drive(3.0))
    first = selections(heard)[0]
    assert first.t0_ns == START_NS + ms(1500)
    assert {r.reason.value for r in rejections(heard)} == {"warming_up"}


def test_phase_lock_survives_jitter() -> None:
    """t0 - due stays within the jitter over 20 s of 10 Hz frames: due times do not drift."""
    heard = play(pipeline(), good_drive(20.0, jitter_ms=20.0, common_jitter=True))
    off_ms = [(s.t0_ns - s.due_ns) / 1e6 for s in selections(heard)[1:]]
    assert max(map(abs, off_ms)) <= 20.0


def test_due_times_are_told_once_each() -> None:
    """Ticks, planned or not, have rising due times half a tick apart or more."""
    drive = good_drive(4.0, 30.0, jitter_ms=5.0)
    drive = [m for m in drive if not (m.source == "front_wide" and m.stamp_ns > START_NS + ms(3e3))]
    heard = play(pipeline(), in_order(drive))
    due = [entry.tick.due_ns for entry in heard]
    locked = due[next(i for i, e in enumerate(heard) if isinstance(e.tick, Selection)) :]
    assert np.diff(locked[1:]).min() == ms(100)


@pytest.mark.parametrize(("rate_hz", "share"), ((10.0, 1.0), (30.0, 0.55), (36.0, 0.5)))
def test_frames_worth_decoding_on_arrival(rate_hz: float, share: float) -> None:
    """What is selected was called wanted when it came, all of it at 10 Hz. At 36 Hz, whose frames
    share no phase with the ticks, one in six may have to be decoded late; of a 30 Hz camera about
    one frame in three is wanted, with 5 ms of room to either side one in two."""
    subject, wanted, chosen = pipeline(), set(), set()
    drive = good_drive(6.0, rate_hz, jitter_ms=5.0)
    assert not subject.is_wanted(drive[0].stamp_ns)  # nothing is due before the start
    play(subject, drive[: len(drive) // 2])
    rest = drive[len(drive) // 2 :]
    frames = {(m.source, m.stamp_ns) for m in rest if m.source != "odometry"}
    for message in rest:
        if (message.source, message.stamp_ns) in frames and subject.is_wanted(message.stamp_ns):
            wanted.add((message.source, message.stamp_ns))
        for selection in selections(play(subject, [message], start=False, until_ns=0)):
            chosen |= {(slot.camera, slot.stamp_ns) for row in selection.slots for slot in row}
    chosen &= frames
    assert len(chosen & wanted) >= (1.0 if rate_hz == 10.0 else 0.8) * len(chosen) > 0
    assert len(wanted) <= (share + 0.1) * len(frames)
