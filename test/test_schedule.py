"""When ticks are due: phase-locked, never drifting, never in bursts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from simulate import START_NS, ms

from alpamayo_ros.schedule import TICK_NS, TickSchedule


def started() -> TickSchedule:
    """A schedule whose first t0 was START_NS."""
    schedule = TickSchedule()
    schedule.start(START_NS - ms(37))
    schedule.served(START_NS)
    return schedule


def test_the_first_t0_sets_the_phase() -> None:
    """Before it any stamp will do; after it the next is due 100 ms on."""
    schedule = TickSchedule()
    assert schedule.due_ns is None
    schedule.start(START_NS - ms(37))
    assert schedule.earliest_t0_ns(TICK_NS) == 0
    schedule.served(START_NS)
    assert (schedule.locked, schedule.due_ns) == (True, START_NS + TICK_NS)


def test_the_earliest_t0_is_half_a_frame_before_due() -> None:
    """Half a frame period, at most half a tick, and always later than the last t0."""
    schedule = started()
    due = START_NS + TICK_NS
    assert schedule.earliest_t0_ns(ms(30)) == due - ms(15)
    assert schedule.earliest_t0_ns(ms(400)) == due - TICK_NS // 2
    schedule.last_t0_ns = due - ms(3)
    assert schedule.earliest_t0_ns(ms(30)) == due - ms(3) + 1


@given(st.lists(st.integers(-49, 49), min_size=1, max_size=200))
def test_jitter_does_not_move_the_grid(jitter_ms: list[int]) -> None:
    """t0 up to 49 ms off its due time, in any pattern: the n-th is due at n * 100 ms."""
    schedule = started()
    for n, off in enumerate(jitter_ms, start=1):
        assert schedule.due_ns == START_NS + n * TICK_NS
        schedule.served(schedule.due_ns + ms(off))


@given(st.integers(0, 950))
def test_a_late_t0_passes_over_what_it_stands_for(late_ms: int) -> None:
    """The next tick is the first on the grid more than half a tick after t0."""
    schedule = started()
    t0_ns = START_NS + TICK_NS + ms(late_ms)
    schedule.served(t0_ns)
    assert schedule.due_ns is not None
    assert (schedule.due_ns - START_NS) % TICK_NS == 0
    assert TICK_NS // 2 < schedule.due_ns - t0_ns <= TICK_NS * 3 // 2


@given(st.integers(1, 50_000))
def test_missed_ticks_come_in_no_burst(overdue_ms: int) -> None:
    """Looked at `overdue_ms` after a deadline: at most ten are told one by one (a second), a
    longer stall as one; afterwards the next deadline lies ahead, in phase."""
    schedule = started()
    assert schedule.due_ns is not None
    now_ns = schedule.due_ns + ms(150) + ms(overdue_ms)
    told = 0
    while now_ns - schedule.due_ns > ms(150):
        schedule.missed(now_ns, ms(150))
        told += 1
    assert told <= 10 if overdue_ms <= 1_000 else told == 1
    assert (schedule.due_ns - START_NS) % TICK_NS == 0
    assert schedule.due_ns + ms(150) - now_ns <= TICK_NS


def test_stop_forgets() -> None:
    """After a stop nothing is due; a new start is unlocked and takes any stamp."""
    schedule = started()
    schedule.stop()
    assert schedule.due_ns is None
    schedule.start(START_NS - ms(9_000))
    assert not schedule.locked
    assert schedule.earliest_t0_ns(TICK_NS) == 0
