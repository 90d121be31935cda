"""Time itself misbehaves: paused, looping, leaping, another clock; and starting and stopping."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import (
    CIRCLE,
    START_NS,
    WARM_UP_NS,
    Message,
    Motion,
    add,
    content,
    frame,
    good_drive,
    in_order,
    ms,
    pipeline,
    play,
    rejections,
    selections,
)

from alpamayo_ros.types import DEFAULT_CAMERAS, NS_PER_S, Rejection, RejectionReason

REASON = RejectionReason
SOURCES = (*DEFAULT_CAMERAS, "odometry")
ELSEWHERE = Motion(origin_m=(501_000.0, 4_001_000.0, 100.0))  # the second pass, 1.4 km away


def test_a_paused_clock_is_no_fault() -> None:
    """No message, no step of the clock: minutes of polling say nothing; then it plans on."""
    drive = good_drive(6.0)
    subject = pipeline()
    pause_ns = START_NS + ms(3_000)
    play(subject, [m for m in drive if m.stamp_ns <= pause_ns], until_ns=pause_ns)
    assert [subject.poll(pause_ns) for _ in range(3_000)] == [[]] * 3_000
    after = play(subject, [m for m in drive if m.stamp_ns > pause_ns], start=False)
    assert rejections(after) == []
    assert len(selections(after)) == 29


@dataclass(frozen=True)
class Jump:
    """A drive of 4 s, then one elsewhere whose stamps begin `by_s` after the first's end."""

    by_s: float
    delays_ms: dict[str, float]  # of each source's messages
    clock_lag_ms: float  # the clock steps this long after the first pass ended; early if negative
    has_clock: bool = True

    end_ns = START_NS + 4 * NS_PER_S

    @property
    def begin_ns(self) -> int:
        """The first stamp of the second pass."""
        return self.end_ns + round(self.by_s * NS_PER_S)

    def now_ns(self, real_ns: int) -> int:
        """ROS time at a real time; 0 without a clock."""
        if not self.has_clock:
            return 0
        stepped = real_ns >= self.end_ns + ms(self.clock_lag_ms)
        return real_ns + (self.begin_ns - self.end_ns if stepped else 0)

    def messages(self) -> list[Message]:
        """Both passes by real time of arrival."""
        second = good_drive(
            4.0, start_ns=self.begin_ns, motion=replace(ELSEWHERE, start_ns=self.begin_ns)
        )
        back_ns = self.end_ns - self.begin_ns
        both = [(m, m.stamp_ns) for m in good_drive(4.0)]
        both += [(m, m.stamp_ns + back_ns) for m in second]
        return in_order(
            replace(m, arrival_ns=real_ns + ms(self.delays_ms[m.source])) for m, real_ns in both
        )


jumps = st.builds(
    Jump,
    by_s=st.sampled_from((-24.0, -20.0, -5.0, 5.0, 60.0)),
    delays_ms=st.fixed_dictionaries({name: st.floats(0.0, 60.0) for name in SOURCES}),
    clock_lag_ms=st.floats(-60.0, 60.0),
    has_clock=st.booleans(),
)


@settings(max_examples=35, deadline=None)
@given(jumps)
def test_time_that_jumps(jump: Jump) -> None:
    """A looping bag or a leap, in any interleaving of the sources and of /clock: CLOCK_JUMP is
    said, no selection mixes frames or poses of both passes, planning resumes."""
    heard = play(pipeline(), jump.messages(), clock=jump.now_ns)
    first = [s for s in selections(heard) if s.history.positions_m[-1, 0] < 500_500.0]
    second = [s for s in selections(heard) if s.history.positions_m[-1, 0] > 500_500.0]
    for chosen, begin_ns in ((first, START_NS), (second, jump.begin_ns)):
        assert len(chosen) >= 20
        for selection in chosen:
            stamps = [slot.stamp_ns for row in selection.slots for slot in row]
            assert begin_ns <= min(stamps) and max(stamps) < begin_ns + 4 * NS_PER_S
            # 15 m are driven in 1.5 s; the passes lie 1.4 km apart.
            assert np.ptp(selection.history.positions_m, axis=0).max() < 16.0
    said = [h for h in heard if getattr(h.tick, "reason", None) is REASON.CLOCK_JUMP]
    # Once by a message, once by the clock, and once by each message of the first pass that a
    # source still had on its way.
    assert 1 <= len(said) <= 2 + len(SOURCES)
    # A history of 1.5 s, a tick, and what the jump itself may take: 60 ms each of clock and delay.
    assert second[0].t0_ns - jump.begin_ns <= ms(1_500 + 100 + 120)


@settings(max_examples=8, deadline=None)
@given(jumps)
def test_the_node_s_jump_callback(jump: Jump) -> None:
    """rclpy tells of the clock's jump before any message shows it: said once by the clock, and
    the plans after it are those of a first pass."""
    subject = pipeline()
    subject.start(START_NS)
    play(subject, good_drive(4.0), start=False)
    subject.clock_jumped(jump.begin_ns, jump.begin_ns - jump.end_ns)
    (said,) = subject.poll(jump.begin_ns)
    assert isinstance(said, Rejection)
    assert (said.reason, said.source) == (REASON.CLOCK_JUMP, "clock")
    assert said.value == pytest.approx(jump.by_s * 1e3)
    motion = replace(ELSEWHERE, start_ns=jump.begin_ns)
    second = good_drive(4.0, start_ns=jump.begin_ns, motion=motion)
    heard = play(subject, second, start=False)
    assert REASON.CLOCK_JUMP not in {r.reason for r in rejections(heard)}
    fresh = play(pipeline(), second)
    assert [content(s) for s in selections(heard)] == [content(s) for s in selections(fresh)]


@pytest.mark.parametrize("now_known", (True, False))
def test_one_stray_stamp_is_refused(now_known: bool) -> None:
    """A header left unset (stamp 0) amid a good drive is that message's fault alone: refused as
    CLOCK_MISMATCH, and planning goes on. Without a clock to judge by it passes for a jump."""
    subject = pipeline()
    play(subject, good_drive(3.0), clock=lambda now_ns: now_ns if now_known else 0)
    now_ns = START_NS + ms(3_000)
    refused = subject.add_frame(frame("front_wide", 0), now_ns if now_known else 0)
    ticks = play(subject, good_drive(1.0, start_ns=now_ns), start=False)
    jumped = REASON.CLOCK_JUMP in {r.reason for r in rejections(ticks)}
    if now_known:
        assert refused is not None and refused.reason is REASON.CLOCK_MISMATCH
        assert len(selections(ticks)) >= 9 and not jumped
    else:
        assert refused is None and jumped


def test_reordering_is_no_jump() -> None:
    """A stamp 150 ms older than the newest is reordering on the way; nothing is cleared."""
    subject = pipeline()
    play(subject, good_drive(3.0))
    now_ns = START_NS + ms(3_000)
    held = {name: len(buffer) for name, buffer in subject.frames.items()}
    subject.add_frame(frame("front_wide", START_NS + ms(2_750)), now_ns)
    assert len(subject.frames["front_wide"]) == held["front_wide"] + 1
    assert [len(subject.frames[name]) for name in DEFAULT_CAMERAS[1:]] == [
        held[name] for name in DEFAULT_CAMERAS[1:]
    ]


@pytest.mark.parametrize(
    ("ahead_ms", "reason"), ((101.0, REASON.FUTURE_STAMP), (37_000.0, REASON.CLOCK_MISMATCH))
)
def test_stamps_from_the_future(ahead_ms: float, reason: RejectionReason) -> None:
    """A camera whose stamps are ahead (37 s: TAI): each message is refused with by how much, and
    each tick repeats that reason instead of calling the camera dead."""
    drive = [m.restamped(0) for m in good_drive(4.0)]
    subject = pipeline()
    subject.start(START_NS)
    ticks = []
    for message in drive:
        now_ns = message.stamp_ns
        if message.source == "front_tele":
            refused = add(subject, replace_stamp(message, ahead_ms), now_ns)
            assert refused is not None and refused.reason is reason
            assert refused.value == pytest.approx(ahead_ms)
        else:
            add(subject, message, now_ns)
        ticks += subject.poll(now_ns)
    assert len(ticks) == 39
    assert {(t.reason, t.source) for t in ticks if isinstance(t, Rejection)} == {
        (reason, "front_tele")
    }


def test_stamps_at_the_limit_are_taken() -> None:
    """100 ms ahead, a /clock of 10 Hz, is allowed."""
    subject = pipeline()
    assert subject.add_frame(frame("front_wide", START_NS + ms(100)), START_NS) is None


def replace_stamp(message: Message, by_ms: float) -> Message:
    """The same message with a wrong stamp, arriving as before."""
    return replace(message.restamped(ms(by_ms)), arrival_ns=message.arrival_ns)


def test_a_recording_on_the_wall_clock() -> None:
    """Stamps a year behind now: CLOCK_MISMATCH once a tick with the remedy, never a plan."""
    year_ns = 365 * 86_400 * NS_PER_S
    heard = play(pipeline(), good_drive(4.0), clock=lambda now_ns: now_ns + year_ns)
    assert len(heard) == 39
    for entry in heard:
        assert isinstance(entry.tick, Rejection)
    mismatched = [r for r in rejections(heard) if r.reason is REASON.CLOCK_MISMATCH]
    assert len(mismatched) == 39
    assert all("use_sim_time" in r.detail and r.unit == "s" for r in mismatched)


@pytest.mark.parametrize("stall_s", (1.5, 30.0, 3_600.0))
def test_no_burst_after_a_stall(stall_s: float) -> None:
    """A process that stood still reports the ticks it missed as one, and is in phase again."""
    subject = pipeline()
    before = play(subject, good_drive(4.0))
    phase_ns = selections(before)[-1].due_ns % ms(100)
    now_ns = START_NS + ms(4_000) + round(stall_s * NS_PER_S)
    ticks = subject.poll(now_ns)
    assert len(ticks) == 1
    assert isinstance(ticks[0], Rejection)
    later = [t for k in range(1, 11) for t in subject.poll(now_ns + k * ms(100))]
    assert len(later) == 10
    assert {t.due_ns % ms(100) for t in later} == {phase_ns}


def test_before_the_first_clock() -> None:
    """now is 0 until /clock comes: no deadline passes; once it comes, ticks are due from then."""
    subject = pipeline()
    subject.start(0)
    assert [subject.poll(0) for _ in range(100)] == [[]] * 100
    assert subject.poll(START_NS) == []
    assert subject.poll(START_NS + ms(150)) == []
    (refused,) = subject.poll(START_NS + ms(160))
    assert isinstance(refused, Rejection) and refused.due_ns == START_NS


def test_without_any_clock_it_plans_by_stamps() -> None:
    """Simulated time whose /clock never comes: the same plans as with a clock, nothing refused."""
    drive = good_drive(4.0, 30.0)
    bare = play(pipeline(), drive, clock=lambda _: 0)
    clocked = play(pipeline(), drive)
    assert rejections(bare) == []
    assert [content(s) for s in selections(bare)] == [content(s) for s in selections(clocked)]


def test_a_stopped_pipeline_is_silent_and_stays_warm() -> None:
    """Deactivated it says nothing, buffers go on filling; activated again it plans from the next
    frame on and from no older one."""
    drive = good_drive(8.0)
    subject = pipeline()
    play(subject, [m for m in drive if m.stamp_ns < START_NS + ms(3_000)])
    subject.stop()
    idle = [m for m in drive if START_NS + ms(3_000) <= m.stamp_ns < START_NS + ms(6_000)]
    assert play(subject, idle, start=False) == []
    assert len(subject.frames["front_wide"]) >= 7
    again_ns = START_NS + ms(6_000)
    subject.start(again_ns)
    rest = [m for m in drive if m.stamp_ns >= again_ns]
    heard = play(subject, rest, start=False)
    assert rejections(heard) == []
    chosen = selections(heard)
    assert chosen[0].t0_ns == again_ns and heard[0].now_ns == again_ns


def test_a_warm_start_plans_at_once() -> None:
    """Buffers filled before the first activation: the first frame after it is planned, within one
    frame period; nothing is refused on the way."""
    drive = good_drive(4.0, 30.0)
    subject = pipeline()
    begin_ns = START_NS + ms(3_000)
    for message in drive:
        if message.stamp_ns < begin_ns:
            add(subject, message, message.stamp_ns)
            assert subject.poll(message.stamp_ns) == []
    subject.start(begin_ns)
    heard = play(subject, [m for m in drive if m.stamp_ns >= begin_ns], start=False)
    assert begin_ns <= selections(heard)[0].t0_ns <= begin_ns + ms(34)
    assert rejections(heard) == []
    assert WARM_UP_NS < begin_ns


def test_a_jump_while_stopped_is_not_said_later() -> None:
    """Inactive there is no tick to refuse; activated after the loop, it plans or warms up."""
    subject = pipeline()
    play(subject, good_drive(4.0))
    subject.stop()
    begin_ns = START_NS - 20 * NS_PER_S
    loop = good_drive(3.0, start_ns=begin_ns, motion=replace(CIRCLE, start_ns=begin_ns))
    play(subject, loop, start=False)
    subject.start(begin_ns + ms(3_000))
    more = good_drive(2.0, start_ns=begin_ns + ms(3_000), motion=replace(CIRCLE, start_ns=begin_ns))
    heard = play(subject, more, start=False)
    assert rejections(heard) == [] and len(selections(heard)) >= 19
