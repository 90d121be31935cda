"""From arriving frames and poses to selections, one a tick, or the reason why there is none.

The same class serves the node and the offline replay, so that both give the same plans: it knows
stamps and the time "now" that its caller gives it (ROS time; a recording's own time in a replay),
and no clock of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Deque, Optional, Sequence, Union

from alpamayo_ros.buffers import FrameBuffer, FrameSlot, PoseBuffer
from alpamayo_ros.sampling import FRAME_SPAN_NS, HISTORY_SPAN_NS, SamplingLimits, Selection, select
from alpamayo_ros.schedule import TICK_NS, TickSchedule
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, EgoPose, Rejection, RejectionReason

# Stamps that run backwards by more than this are a restarted recording or a reset simulator;
# less is reordering on the way.
BACKWARD_JUMP_NS = 200 * NS_PER_MS
# A leap forward by more than this leaves nothing in the buffers that could be used.
FORWARD_JUMP_NS = 2 * NS_PER_S
# Stamps this far from the clock come from another clock, not from a late sensor.
CLOCK_MISMATCH_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What a user may set about time."""

    cameras: tuple[str, ...]
    limits: SamplingLimits = field(default_factory=SamplingLimits)
    tick_deadline_ns: int = 150 * NS_PER_MS  # after due: a tick without t0 is refused
    odometry_wait_ns: int = 100 * NS_PER_MS  # after due: odometry is extrapolated
    future_tolerance_ns: int = 100 * NS_PER_MS  # a stamp ahead of now
    transport_slack_ns: int = 250 * NS_PER_MS  # kept beyond what one sample spans


Tick = Union[Selection, Rejection]


class Pipeline:
    """Buffers, schedule and selection. Thread-safe: one lock around every call."""

    def __init__(self, settings: PipelineSettings) -> None:
        self.settings = settings
        frames_ns = FRAME_SPAN_NS + TICK_NS + settings.limits.frame_tolerance_ns
        retention_ns = frames_ns + settings.transport_slack_ns
        self.frames = {name: FrameBuffer(name, retention_ns) for name in settings.cameras}
        self.poses = PoseBuffer(HISTORY_SPAN_NS + settings.transport_slack_ns + 250 * NS_PER_MS)
        self._schedule = TickSchedule()
        self._refused: dict[int, Rejection] = {}  # candidates for t0 that proved invalid
        self._newest_now_ns = 0
        self._ready: Deque[Tick] = deque()
        self._lock = threading.RLock()

    # ---- what arrives ------------------------------------------------------------------------

    def add_frame(self, slot: FrameSlot, now_ns: int) -> Optional[Rejection]:
        """Take in a frame, or say why not."""
        with self._lock:
            buffer = self.frames[slot.camera]
            refused = self._check_stamp(slot.camera, slot.stamp_ns, buffer.newest_ns, now_ns)
            if refused is None and not buffer.add(slot):
                refused = self._out_of_order(slot.camera, slot.stamp_ns, buffer.newest_ns)
            return refused

    def add_pose(self, pose: EgoPose, now_ns: int) -> Optional[Rejection]:
        """Take in an ego pose, or say why not. A changed frame_id starts the history afresh."""
        with self._lock:
            newest = self.poses.newest
            if newest is not None and newest.frame_id != pose.frame_id:
                self.poses.clear()
            refused = self._check_stamp("odometry", pose.stamp_ns, self.poses.newest_ns, now_ns)
            if refused is None and not self.poses.add(pose):
                refused = self._out_of_order("odometry", pose.stamp_ns, self.poses.newest_ns)
            return refused

    def discard(self, slot: FrameSlot) -> None:
        """Forget a frame whose pixels proved unreadable."""
        self.frames[slot.camera].discard(slot.stamp_ns)

    def clock_jumped(self, now_ns: int, by_ns: int) -> None:
        """The clock itself leapt: what is buffered belongs to another time."""
        with self._lock:
            self._restart(now_ns, by_ns, "clock")

    def start(self, now_ns: int) -> None:
        """Begin ticking; frames from before now serve as history, not as t0."""
        with self._lock:
            self._ready.clear()
            self._refused.clear()
            self._schedule.start(now_ns)
            watermark = self._watermark_ns()
            if watermark is not None:
                self._schedule.last_t0_ns = watermark
            self._newest_now_ns = now_ns

    def stop(self) -> None:
        """Stop ticking; buffers go on filling."""
        with self._lock:
            self._ready.clear()
            self._schedule.stop()

    def is_wanted(self, stamp_ns: int) -> bool:
        """Whether a frame is likely to be selected, so that it is worth decoding on arrival."""
        with self._lock:
            due = self._schedule.due_ns
            if due is None:
                return False
            # Frames of the last 300 ms are wanted at the same phase as those of t0.
            phase_ns = (stamp_ns - due + TICK_NS // 2) % TICK_NS - TICK_NS // 2
            return abs(phase_ns) <= self._frame_period_ns(stamp_ns) // 2 + 5 * NS_PER_MS

    # ---- what is due -------------------------------------------------------------------------

    def poll(self, now_ns: int) -> list[Tick]:
        """The ticks that came due: a Selection or a Rejection each. Cheap when none did.

        A now of 0 means that the clock has not started (simulated time before the first /clock):
        selections are made, deadlines do not pass.
        """
        with self._lock:
            if self._schedule.due_ns is None:
                return []
            self._newest_now_ns = max(self._newest_now_ns, now_ns)
            ticks = list(self._ready)
            self._ready.clear()
            while True:
                tick = self._next_tick(now_ns)
                if tick is None:
                    return ticks
                ticks.append(tick)

    def _next_tick(self, now_ns: int) -> Optional[Tick]:
        due = self._schedule.due_ns
        assert due is not None
        refusal: Optional[Rejection] = None
        for t0_ns in self._candidates(now_ns):
            outcome = self._refused.get(t0_ns) or self._try(t0_ns, due, now_ns)
            if isinstance(outcome, Selection):
                self._schedule.served(t0_ns)
                self._refused.clear()
                return outcome
            if outcome is None:  # odometry may still reach it
                refusal = None
                break
            refusal = refusal or outcome
        if now_ns - due <= self.settings.tick_deadline_ns:
            return None
        rejection = replace(self._laggard(due, now_ns) or refusal or self._unknown(due), due_ns=due)
        self._schedule.missed(now_ns, self.settings.tick_deadline_ns)
        return rejection

    def _candidates(self, now_ns: int) -> list[int]:
        """Stamps that may become t0, oldest first: every camera has reached them.

        The oldest valid one is taken. Whatever arrives later has a later stamp, so the choice is
        the same in whatever order the cameras' messages came.
        """
        watermark = self._watermark_ns()
        if watermark is None:
            return []
        earliest = self._schedule.earliest_t0_ns(self._frame_period_ns(watermark))
        if now_ns and not self._schedule.locked:
            # The first plan must be as fresh as the deadline keeps the later ones.
            earliest = max(earliest, now_ns - self.settings.tick_deadline_ns - TICK_NS // 2)
        stamps: set[int] = set()
        for buffer in self.frames.values():
            stamps.update(buffer.stamps_between(earliest, watermark))
        return sorted(stamps)

    def _try(self, t0_ns: int, due_ns: int, now_ns: int) -> Optional[Tick]:
        """A selection at t0, a final rejection (remembered), or None: wait for odometry."""
        newest_pose = self.poses.newest_ns
        if newest_pose is None:
            return None
        if newest_pose < t0_ns and now_ns - due_ns < self.settings.odometry_wait_ns:
            return None
        outcome = select(self.frames, self.poses, t0_ns, self.settings.limits, due_ns)
        if isinstance(outcome, Rejection):
            if newest_pose < t0_ns:
                return None
            self._refused[t0_ns] = outcome
        return outcome

    # ---- helpers -----------------------------------------------------------------------------

    def _watermark_ns(self) -> Optional[int]:
        newest = [buffer.newest_ns for buffer in self.frames.values()]
        known = [stamp for stamp in newest if stamp is not None]
        return min(known) if len(known) == len(newest) and known else None

    def _frame_period_ns(self, until_ns: int) -> int:
        """The fastest camera's median spacing over the last 400 ms; one tick where unknown.

        Only stamps up to the watermark count: those do not depend on the order of arrival.
        """
        periods = [TICK_NS]
        for buffer in self.frames.values():
            stamps = buffer.stamps_between(until_ns - 4 * TICK_NS, until_ns)
            if len(stamps) > 2:
                spacings = sorted(b - a for a, b in zip(stamps, stamps[1:]))
                periods.append(spacings[len(spacings) // 2])
        return min(periods)

    def _check_stamp(
        self, source: str, stamp_ns: int, newest_ns: Optional[int], now_ns: int
    ) -> Optional[Rejection]:
        ahead_ns = stamp_ns - now_ns
        if now_ns and ahead_ns > self.settings.future_tolerance_ns:
            mismatch = ahead_ns > CLOCK_MISMATCH_NS
            return Rejection(
                RejectionReason.CLOCK_MISMATCH if mismatch else RejectionReason.FUTURE_STAMP,
                source,
                ahead_ns / NS_PER_MS,
                self.settings.future_tolerance_ns / NS_PER_MS,
                "ms",
                detail="stamp ahead of the node's clock; do both use the same clock?",
            )
        if newest_ns is None:
            return None
        if stamp_ns < newest_ns - BACKWARD_JUMP_NS or stamp_ns > newest_ns + FORWARD_JUMP_NS:
            self._restart(now_ns or stamp_ns, stamp_ns - newest_ns, source)
        return None

    def _restart(self, now_ns: int, by_ns: int, source: str) -> None:
        """Clear what belongs to the time before a jump, and say so where ticks are running."""
        if by_ns < 0 or source == "clock":
            for buffer in self.frames.values():
                buffer.clear()
            self.poses.clear()
        elif source in self.frames:
            self.frames[source].clear()  # this camera alone was away; the others go on
            return
        elif source == "odometry":
            self.poses.clear()
            return
        if self._schedule.due_ns is None:
            return
        self._refused.clear()
        self._ready.append(
            Rejection(
                RejectionReason.CLOCK_JUMP,
                source,
                by_ns / NS_PER_MS,
                unit="ms",
                due_ns=self._schedule.due_ns,
                detail="buffers cleared; planning resumes when they have filled again",
            )
        )
        self._schedule.start(now_ns)

    def _out_of_order(self, source: str, stamp_ns: int, newest_ns: Optional[int]) -> Rejection:
        age_ms = ((newest_ns or stamp_ns) - stamp_ns) / NS_PER_MS
        return Rejection(
            RejectionReason.OUT_OF_ORDER,
            source,
            age_ms,
            unit="ms",
            detail="a stamp seen before, or one older than the buffer",
        )

    def _laggard(self, due_ns: int, now_ns: int) -> Optional[Rejection]:
        """The source that keeps the due tick from being planned, where one clearly does."""
        newest = {name: buffer.newest_ns for name, buffer in self.frames.items()}
        newest["odometry"] = self.poses.newest_ns
        absent = [name for name, stamp in newest.items() if stamp is None]
        if absent:
            return self._missing(absent[0], due_ns, detail=_listing("no message yet from", absent))
        stamps = {name: stamp for name, stamp in newest.items() if stamp is not None}
        source = min(stamps, key=lambda name: stamps[name])
        age_ns = now_ns - stamps[source]
        if age_ns > CLOCK_MISMATCH_NS:
            return Rejection(
                RejectionReason.CLOCK_MISMATCH,
                source,
                age_ns / NS_PER_S,
                CLOCK_MISMATCH_NS / NS_PER_S,
                "s",
                detail="stamps lie behind the node's clock; for a recording set use_sim_time "
                "and play it with --clock",
            )
        slack_ns = self.settings.limits.frame_tolerance_ns
        late = sorted(n for n, stamp in stamps.items() if stamp < due_ns - slack_ns)
        if not late:
            return None
        worst = min(late, key=lambda name: stamps[name])
        age_ms = (now_ns - stamps[worst]) / NS_PER_MS
        return self._missing(worst, due_ns, age_ms, _listing("late:", late))

    def _missing(
        self, source: str, due_ns: int, age_ms: float = float("nan"), detail: str = ""
    ) -> Rejection:
        odometry = source == "odometry"
        return Rejection(
            RejectionReason.ODOMETRY_MISSING if odometry else RejectionReason.CAMERA_MISSING,
            source,
            age_ms,
            (self.settings.tick_deadline_ns + TICK_NS) / NS_PER_MS,
            "ms",
            due_ns,
            detail,
        )

    def _unknown(self, due_ns: int) -> Rejection:
        """Every source is nearly there, yet no stamp could be planned from in time."""
        return Rejection(
            RejectionReason.CAMERA_MISSING if self._schedule.locked else RejectionReason.WARMING_UP,
            min(self.frames, key=lambda name: self.frames[name].newest_ns or 0),
            due_ns=due_ns,
            detail="no stamp that every camera has reached was due",
        )


def _listing(text: str, names: Sequence[str]) -> str:
    return f"{text} {', '.join(names)}"
