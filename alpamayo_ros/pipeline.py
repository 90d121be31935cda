"""From arriving frames and poses to selections, one a tick, or the reason why there is none.

The same class serves the node and the offline replay, so that both give the same plans: it knows
stamps and the time "now" that its caller gives it (ROS time; a recording's own time in a replay),
and no clock of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from alpamayo_ros.buffers import FrameBuffer, FrameSlot, PoseBuffer
from alpamayo_ros.camera_policy import CameraPolicy, all_of
from alpamayo_ros.laggards import Arrivals, check_against_clock, name_laggard, out_of_order
from alpamayo_ros.lost_cameras import LostCameras
from alpamayo_ros.motion import BELIEVED, HISTORY_SPAN_NS, is_elsewhere
from alpamayo_ros.sampling import FRAME_SPAN_NS, SamplingLimits, Selection, select
from alpamayo_ros.schedule import TICK_NS, TickSchedule
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, EgoPose, Rejection, RejectionReason

# Stamps that run backwards by more than this are a restarted recording or a reset simulator;
# less is reordering on the way.
BACKWARD_JUMP_NS = 200 * NS_PER_MS
# A leap forward by more than this leaves nothing in the buffers that could be used.
FORWARD_JUMP_NS = 2 * NS_PER_S
# "now" is read before the lock is held, so that threads may hand it in slightly out of order.
NOW_BACKWARD_NS = 1 * NS_PER_S

STUCK = (
    "(unchanged since the vehicle stands; when it is right, drive on by hand, or deactivate and "
    "activate the planner)"
)


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What a user may set about time."""

    cameras: tuple[str, ...]
    limits: SamplingLimits = field(default_factory=SamplingLimits)
    tick_deadline_ns: int = 150 * NS_PER_MS  # after due: a tick without t0 is refused
    odometry_wait_ns: int = 100 * NS_PER_MS  # after due: odometry is extrapolated
    future_tolerance_ns: int = 100 * NS_PER_MS  # a stamp ahead of now
    transport_slack_ns: int = 250 * NS_PER_MS  # kept beyond what one sample spans


Tick = Selection | Rejection


class Pipeline:
    """Buffers, schedule and selection. Thread-safe: one lock around every call."""

    def __init__(self, settings: PipelineSettings, policy: CameraPolicy | None = None) -> None:
        """`policy` says which cameras ticks may go on without; None: none."""
        self.settings = settings
        frames_ns = FRAME_SPAN_NS + TICK_NS + settings.limits.frame_tolerance_ns
        # A tick may be served until its deadline, so that long its inputs must be kept.
        slack_ns = max(settings.transport_slack_ns, settings.tick_deadline_ns + TICK_NS)
        self.frames = {name: FrameBuffer(name, frames_ns + slack_ns) for name in settings.cameras}
        self.poses = PoseBuffer(HISTORY_SPAN_NS + slack_ns + 250 * NS_PER_MS)
        self._lost = LostCameras(
            self.frames, policy or all_of(settings.cameras), settings.limits.frame_tolerance_ns
        )
        self._schedule = TickSchedule()
        self._arrivals = Arrivals()
        self._refused: dict[int, Rejection] = {}  # candidates for t0 that proved invalid
        self._doubt: Rejection | None = None  # what odometry contradicted itself in
        self._newest_now_ns = 0
        self._ready: deque[Tick] = deque()
        self._lock = threading.RLock()

    # ---- what arrives ------------------------------------------------------------------------

    def add_frame(self, slot: FrameSlot, now_ns: int) -> Rejection | None:
        """Take in a frame, or say why not."""
        with self._lock:
            self._note(now_ns)
            buffer = self.frames[slot.camera]
            refused = self._check_stamp(slot.camera, slot.stamp_ns, buffer.newest_ns, now_ns)
            if refused is not None:
                return refused
            return self._added(buffer.add(slot), slot.camera, slot.stamp_ns, now_ns)

    def add_pose(self, pose: EgoPose, now_ns: int) -> Rejection | None:
        """Take in an ego pose, or say why not.

        A changed frame_id or a jump of the position starts the history afresh.
        """
        with self._lock:
            self._note(now_ns)
            refused = self._check_stamp("odometry", pose.stamp_ns, self.poses.newest_ns, now_ns)
            if refused is not None:
                return refused
            newest = self.poses.newest
            if newest is not None and is_elsewhere(newest, pose):
                self._relocate(newest, pose)
            return self._added(self.poses.add(pose), "odometry", pose.stamp_ns, now_ns)

    def discard(self, slot: FrameSlot) -> None:
        """Forget a frame whose pixels proved unreadable."""
        with self._lock:
            self.frames[slot.camera].discard(slot.stamp_ns)

    def refused(self, source: str, why: Rejection, now_ns: int) -> None:
        """A message of a source came to nothing before its stamp was looked at."""
        with self._lock:
            self._arrivals.refused(source, why, now_ns)

    def clock_jumped(self, now_ns: int, by_ns: int) -> None:
        """The clock itself leapt: what is buffered belongs to another time."""
        with self._lock:
            self._newest_now_ns = now_ns
            self._restart(now_ns, by_ns, "clock")

    def start(self, now_ns: int) -> None:
        """Begin ticking; frames from before now serve as history, not as t0."""
        with self._lock:
            self._ready.clear()
            self._refused.clear()
            self._lost.clear()
            self._doubt = None
            self._schedule.start(now_ns)
            watermark = self._watermark_ns()
            if watermark is not None:
                self._schedule.last_t0_ns = watermark

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
            self._note(now_ns)
            if now_ns and self._schedule.due_ns == 0 and not self._schedule.locked:
                self._schedule.due_ns = now_ns  # started before the clock: it starts only now
            ticks = list(self._ready)
            self._ready.clear()
            while True:
                tick = self._next_tick(now_ns)
                if tick is None:
                    return ticks
                ticks.append(tick)

    def _next_tick(self, now_ns: int) -> Tick | None:
        due = self._schedule.due_ns
        assert due is not None
        watermark = self._watermark_ns()
        if watermark is not None and self._lost.take_back(watermark):
            self._refused.clear()
        refusal: Rejection | None = None
        for t0_ns in self._candidates(now_ns):
            outcome = self._refused.get(t0_ns) or self._try(t0_ns, due, now_ns)
            if isinstance(outcome, Selection):
                self._schedule.served(t0_ns)
                self._refused.clear()
                return outcome
            refusal = refusal or outcome
            if t0_ns not in self._refused:  # odometry may still reach it
                break
        if now_ns - due <= self.settings.tick_deadline_ns:
            return None
        rejection = replace(self._laggard(now_ns) or refusal or self._unknown(), due_ns=due)
        if self._lost.leave_out(rejection):
            self._refused.clear()
            return self._next_tick(now_ns)
        self._schedule.missed(now_ns, self.settings.tick_deadline_ns)
        horizon_ns = due - TICK_NS
        self._refused = {t0: why for t0, why in self._refused.items() if t0 >= horizon_ns}
        return rejection

    def _candidates(self, now_ns: int) -> list[int]:
        """Stamps that may become t0, oldest first: every camera has reached them.

        The oldest valid one is taken. Whatever arrives later has a later stamp, so the choice is
        the same in whatever order the cameras' messages came.
        """
        watermark = self._watermark_ns()
        if watermark is None:
            return []
        earliest = self._earliest_ns(TICK_NS, now_ns)
        stamps: set[int] = set()
        for buffer in self._lost.present().values():
            stamps.update(buffer.stamps_between(earliest, watermark))
        # The period as it was at each stamp: at the watermark it depends on what else has come.
        return [
            stamp
            for stamp in sorted(stamps)
            if stamp in self._refused
            or stamp >= self._earliest_ns(self._frame_period_ns(stamp), now_ns)
        ]

    def _earliest_ns(self, frame_period_ns: int, now_ns: int) -> int:
        earliest = self._schedule.earliest_t0_ns(frame_period_ns)
        if now_ns and not self._schedule.locked:
            # The first plan must be as fresh as the deadline keeps the later ones.
            earliest = max(earliest, now_ns - self.settings.tick_deadline_ns - TICK_NS // 2)
        return earliest

    def _try(self, t0_ns: int, due_ns: int, now_ns: int) -> Tick:
        """A selection at t0, or a rejection: remembered as final once odometry has reached t0."""
        newest_pose = self.poses.newest_ns
        reached = newest_pose is not None and newest_pose >= t0_ns
        if not reached and self._awaits_odometry(t0_ns, due_ns, now_ns):
            return Rejection(
                RejectionReason.ODOMETRY_MISSING, "odometry", detail="has not reached t0 yet"
            )
        outcome = select(self._lost.present(), self.poses, t0_ns, self.settings.limits, due_ns)
        outcome = self._doubted(outcome)
        if isinstance(outcome, Rejection):
            if reached:
                self._refused[t0_ns] = outcome
            return outcome
        return replace(outcome, left_out=self._lost.why)

    def _doubted(self, outcome: Tick) -> Tick:
        """Odometry that contradicted itself is believed again when the two have agreed in motion:
        at a standstill a pose that is stuck agrees with anything."""
        if isinstance(outcome, Rejection):
            if outcome.reason == RejectionReason.ODOMETRY_INCONSISTENT:
                self._doubt = outcome
            return outcome
        if abs(outcome.speed_mps) > BELIEVED * self.settings.limits.speed_tolerance_mps:
            self._doubt = None
        if self._doubt is None:
            return outcome
        return replace(self._doubt, due_ns=outcome.due_ns, detail=f"{self._doubt.detail} {STUCK}")

    def _awaits_odometry(self, t0_ns: int, due_ns: int, now_ns: int) -> bool:
        """Whether odometry may still come in time for t0; a t0 later than due is waited for later,
        though never beyond the tick's deadline."""
        if not self._schedule.locked:  # the first t0 sets the phase: due means nothing yet
            return now_ns < t0_ns + self.settings.odometry_wait_ns
        patience_ns = max(t0_ns - due_ns, 0) + self.settings.odometry_wait_ns
        return now_ns - due_ns < min(patience_ns, self.settings.tick_deadline_ns)

    # ---- helpers -----------------------------------------------------------------------------

    def _watermark_ns(self) -> int | None:
        newest = [buffer.newest_ns for buffer in self._lost.present().values()]
        known = [stamp for stamp in newest if stamp is not None]
        return min(known) if len(known) == len(newest) and known else None

    def _frame_period_ns(self, until_ns: int) -> int:
        """The fastest camera's median spacing over the last 400 ms; one tick where unknown.

        Below the watermark it does not depend on the order of arrival.
        """
        periods = [TICK_NS]
        for buffer in self._lost.present().values():
            stamps = buffer.stamps_between(until_ns - 4 * TICK_NS, until_ns)
            if len(stamps) > 2:
                spacings = sorted(b - a for a, b in zip(stamps, stamps[1:]))
                periods.append(spacings[len(spacings) // 2])
        return min(periods)

    def _note(self, now_ns: int) -> None:
        """Follow the clock; one that was set back makes all that is buffered the future's."""
        if not now_ns:
            return
        by_ns = now_ns - self._newest_now_ns
        if by_ns < -NOW_BACKWARD_NS:
            self._restart(now_ns, by_ns, "clock")
        if by_ns < -NOW_BACKWARD_NS or by_ns > 0:
            self._newest_now_ns = now_ns

    def _check_stamp(
        self, source: str, stamp_ns: int, newest_ns: int | None, now_ns: int
    ) -> Rejection | None:
        tolerance_ns = self.settings.future_tolerance_ns
        refused = check_against_clock(source, stamp_ns, newest_ns, now_ns, tolerance_ns)
        if refused is not None:
            self._arrivals.refused(source, refused, now_ns)
            return refused
        if newest_ns is None:
            return None
        if stamp_ns < newest_ns - BACKWARD_JUMP_NS:
            self._restart(now_ns or stamp_ns, stamp_ns - newest_ns, source)
        elif stamp_ns > newest_ns + FORWARD_JUMP_NS:
            others = [stamp for name, stamp in self._newest().items() if name != source]
            if any(stamp is not None and stamp >= stamp_ns - FORWARD_JUMP_NS for stamp in others):
                self._buffer(source).clear()  # it alone was away; the others go on
            else:
                self._restart(now_ns or stamp_ns, stamp_ns - newest_ns, source)
        return None

    def _added(self, added: bool, source: str, stamp_ns: int, now_ns: int) -> Rejection | None:
        """Note what became of a message; why its buffer did not take it, where it did not."""
        if added:
            self._arrivals.taken(source, stamp_ns, now_ns)
            if stamp_ns < (self._buffer(source).newest_ns or 0):
                self._refused.clear()  # it came out of order, and may be what a candidate lacked
            return None
        why = out_of_order(source, stamp_ns, self._buffer(source).newest_ns)
        self._arrivals.refused(source, why, now_ns)
        return why

    def _restart(self, now_ns: int, by_ns: int, source: str) -> None:
        """Clear what belongs to the time before a jump, and say so where ticks are running."""
        for name in (*self.frames, "odometry"):
            self._buffer(name).clear()
        self._refused.clear()
        self._lost.clear()
        detail = "buffers cleared; planning resumes when they have filled again"
        if self._tell(RejectionReason.CLOCK_JUMP, source, by_ns / NS_PER_MS, "ms", detail):
            self._schedule.start(now_ns)

    def _relocate(self, before: EgoPose, after: EgoPose) -> None:
        """Odometry goes on elsewhere: what is known of the way until now is of no use there."""
        self.poses.clear()
        self._refused.clear()
        detail = "history begins anew; planning resumes in 1.5 s"
        if before.frame_id != after.frame_id:
            detail = f"frame_id {before.frame_id!r} became {after.frame_id!r}: {detail}"
        moved_m = float(np.linalg.norm(after.position_m - before.position_m))
        self._tell(RejectionReason.ODOMETRY_JUMP, "odometry", moved_m, "m", detail)

    def _tell(
        self, reason: RejectionReason, source: str, value: float, unit: str, detail: str
    ) -> bool:
        """A rejection outside the ticks' own order; False where none are made."""
        due_ns = self._schedule.due_ns
        if due_ns is None:
            return False
        self._ready.append(
            Rejection(reason, source, value, unit=unit, due_ns=due_ns, detail=detail)
        )
        return True

    def _buffer(self, source: str) -> FrameBuffer | PoseBuffer:
        return self.poses if source == "odometry" else self.frames[source]

    def _newest(self) -> dict[str, int | None]:
        newest = {name: buffer.newest_ns for name, buffer in self.frames.items()}
        return {**newest, "odometry": self.poses.newest_ns}

    def _laggard(self, now_ns: int) -> Rejection | None:
        """The source that no stamp able to serve the due tick has come from."""
        period_ns = self._frame_period_ns(self._watermark_ns() or 0)
        earliest_ns = self._earliest_ns(period_ns, now_ns)
        needed_ns = dict.fromkeys(self._lost.present(), earliest_ns)
        needed_ns["odometry"] = earliest_ns - self.settings.limits.extrapolation_ns
        limit_ns = self.settings.tick_deadline_ns + TICK_NS
        newest_ns = {name: self._newest()[name] for name in needed_ns}
        return name_laggard(newest_ns, self._arrivals, needed_ns, now_ns, limit_ns)

    def _unknown(self) -> Rejection:
        """Every source is there, yet no stamp could be tried: none since the start."""
        return Rejection(
            RejectionReason.WARMING_UP,
            min(self.frames, key=lambda name: self.frames[name].newest_ns or 0),
            detail="no stamp that every camera has reached was due",
        )
