"""When plans are due: every 100 ms of stamp time, phase-locked to the first t0.

"At most one plan in 100 ms" would give 7.3 Hz from 10 Hz cameras with a millisecond of jitter:
each frame that comes 1 ms early is skipped. Due times on a fixed grid do not drift with jitter.
"""

from __future__ import annotations

TICK_NS = 100_000_000


class TickSchedule:
    """The next due time, and the earliest t0 that may serve it."""

    def __init__(self) -> None:
        self.due_ns: int | None = None
        self.locked = False  # whether a t0 has set the phase
        self.last_t0_ns: int | None = None

    def start(self, due_ns: int) -> None:
        """Begin, unlocked: the first t0 will set the phase."""
        self.due_ns, self.locked, self.last_t0_ns = due_ns, False, None

    def stop(self) -> None:
        """No tick is due until started again."""
        self.due_ns, self.locked, self.last_t0_ns = None, False, None

    def earliest_t0_ns(self, frame_period_ns: int) -> int:
        """The earliest stamp that may serve the due tick: due - half a frame period.

        Until the first plan any stamp may: there is no phase to keep yet.
        """
        floor = 0 if self.last_t0_ns is None else self.last_t0_ns + 1
        if self.due_ns is None or not self.locked:
            return floor
        return max(floor, self.due_ns - min(frame_period_ns, TICK_NS) // 2)

    def served(self, t0_ns: int) -> None:
        """A tick was planned (or refused) at t0: the next one is due 100 ms after the last.

        Cameras slower than 10 Hz fall behind the grid; when a t0 lies half a tick or more behind
        its due time the ticks that no frame belongs to are passed over, since waiting for them
        would call a slow camera a dead one.
        """
        if self.due_ns is None or not self.locked:
            self.due_ns, self.locked = t0_ns, True
        behind = max(0, t0_ns - self.due_ns + TICK_NS // 2) // TICK_NS
        self.due_ns += (1 + behind) * TICK_NS
        self.last_t0_ns = t0_ns

    def missed(self, now_ns: int, deadline_ns: int) -> None:
        """A tick passed its deadline: on to the next one whose deadline still lies ahead of now.

        After a stall (a suspended process, a clock far ahead of the stamps) the ticks in between
        are passed over at once instead of being reported one by one.
        """
        assert self.due_ns is not None
        overdue = now_ns - deadline_ns - self.due_ns
        self.due_ns += max(1, -(-overdue // TICK_NS) if overdue > 10 * TICK_NS else 1) * TICK_NS
