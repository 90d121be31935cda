"""From arriving frames and poses to selections, one a tick, or the reason why there is none.

The same class serves the node and the offline replay, so that both give the same plans: it knows
stamps and the time "now" that its caller gives it (ROS time; a recording's own time in a replay),
and no clock of its own.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from alpamayo_ros.buffers import FrameBuffer, FrameSlot, PoseBuffer
from alpamayo_ros.camera_policy import CameraPolicy
from alpamayo_ros.due_ticks import DueTicks, PipelineSettings, Tick
from alpamayo_ros.laggards import Arrivals, check_against_clock, out_of_order
from alpamayo_ros.motion import HISTORY_SPAN_NS, is_elsewhere
from alpamayo_ros.sampling import FRAME_SPAN_NS
from alpamayo_ros.schedule import TICK_NS
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, EgoPose, Rejection, RejectionReason

# Stamps that run backwards by more than this are a restarted recording or a reset simulator;
# less is reordering on the way.
BACKWARD_JUMP_NS = 200 * NS_PER_MS
# A leap forward by more than this leaves nothing in the buffers that could be used.
FORWARD_JUMP_NS = 2 * NS_PER_S
# "now" is read before the lock is held, so that threads may hand it in slightly out of order.
NOW_BACKWARD_NS = 1 * NS_PER_S


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
        self._arrivals = Arrivals()
        self._due = DueTicks(settings, policy, self.frames, self.poses, self._arrivals)
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
            self._due.start(now_ns)

    def stop(self) -> None:
        """Stop ticking; buffers go on filling."""
        with self._lock:
            self._ready.clear()
            self._due.stop()

    def is_wanted(self, stamp_ns: int) -> bool:
        """Whether a frame is likely to be selected, so that it is worth decoding on arrival."""
        with self._lock:
            return self._due.wants(stamp_ns)

    # ---- what is due -------------------------------------------------------------------------

    def poll(self, now_ns: int) -> list[Tick]:
        """The ticks that came due: a Selection or a Rejection each. Cheap when none did.

        A now of 0 means that the clock has not started (simulated time before the first /clock):
        selections are made, deadlines do not pass.
        """
        with self._lock:
            if self._due.due_ns is None:
                return []
            self._note(now_ns)
            ticks = list(self._ready)
            self._ready.clear()
            while True:
                tick = self._due.next(now_ns)
                if tick is None:
                    return ticks
                ticks.append(tick)

    # ---- helpers -----------------------------------------------------------------------------

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
                self._due.try_again()  # it came out of order, and may be what a candidate lacked
            return None
        why = out_of_order(source, stamp_ns, self._buffer(source).newest_ns)
        self._arrivals.refused(source, why, now_ns)
        return why

    def _restart(self, now_ns: int, by_ns: int, source: str) -> None:
        """Clear what belongs to the time before a jump, and say so where ticks are running."""
        for name in (*self.frames, "odometry"):
            self._buffer(name).clear()
        self._due.forget()
        detail = "buffers cleared; planning resumes when they have filled again"
        if self._tell(RejectionReason.CLOCK_JUMP, source, by_ns / NS_PER_MS, "ms", detail):
            self._due.restart(now_ns)

    def _relocate(self, before: EgoPose, after: EgoPose) -> None:
        """Odometry goes on elsewhere: what is known of the way until now is of no use there."""
        self.poses.relocate()
        self._due.try_again()
        detail = "history begins anew; planning resumes in 1.5 s"
        if before.frame_id != after.frame_id:
            detail = f"frame_id {before.frame_id!r} became {after.frame_id!r}: {detail}"
        moved_m = float(np.linalg.norm(after.position_m - before.position_m))
        self._tell(RejectionReason.ODOMETRY_JUMP, "odometry", moved_m, "m", detail)

    def _tell(
        self, reason: RejectionReason, source: str, value: float, unit: str, detail: str
    ) -> bool:
        """A rejection outside the ticks' own order; False where none are made."""
        due_ns = self._due.due_ns
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
