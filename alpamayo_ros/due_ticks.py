"""The ticks that are due: each a selection of inputs at a t0, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from alpamayo_ros.buffers import FrameBuffer, PoseBuffer
from alpamayo_ros.camera_policy import CameraPolicy, all_of
from alpamayo_ros.laggards import Arrivals, name_laggard
from alpamayo_ros.lost_cameras import LostCameras
from alpamayo_ros.motion import BELIEVED
from alpamayo_ros.sampling import SamplingLimits, Selection, select
from alpamayo_ros.schedule import TICK_NS, TickSchedule
from alpamayo_ros.types import NS_PER_MS, Rejection, RejectionReason

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


class DueTicks:
    """Of one pipeline, and under its lock."""

    def __init__(
        self,
        settings: PipelineSettings,
        policy: CameraPolicy | None,
        frames: Mapping[str, FrameBuffer],
        poses: PoseBuffer,
        arrivals: Arrivals,
    ) -> None:
        self._settings = settings
        self._frames, self._poses, self._arrivals = frames, poses, arrivals
        self._lost = LostCameras(
            frames, policy or all_of(settings.cameras), settings.limits.frame_tolerance_ns
        )
        self._schedule = TickSchedule()
        self._refused: dict[int, Rejection] = {}  # candidates for t0 that proved invalid
        self._doubt: Rejection | None = None  # what odometry contradicted itself in

    @property
    def due_ns(self) -> int | None:
        """When the next tick is due; None while none is."""
        return self._schedule.due_ns

    def start(self, now_ns: int) -> None:
        """Begin ticking; frames from before now serve as history, not as t0."""
        self.restart(now_ns)
        self._doubt = None
        watermark = self._watermark_ns()
        if watermark is not None:
            self._schedule.last_t0_ns = watermark

    def restart(self, now_ns: int) -> None:
        """Go on after a jump in time, for which the buffers were emptied."""
        self.forget()
        self._schedule.start(now_ns)

    def stop(self) -> None:
        """No tick is due until started again."""
        self._schedule.stop()

    def forget(self) -> None:
        """Try every stamp again, and count on every camera."""
        self.try_again()
        self._lost.clear()

    def try_again(self) -> None:
        """What no plan could be made at may have what it lacked by now."""
        self._refused.clear()

    def wants(self, stamp_ns: int) -> bool:
        """Whether a frame is likely to be selected."""
        due = self._schedule.due_ns
        if due is None:
            return False
        # Frames of the last 300 ms are wanted at the same phase as those of t0.
        phase_ns = (stamp_ns - due + TICK_NS // 2) % TICK_NS - TICK_NS // 2
        return abs(phase_ns) <= self._frame_period_ns(stamp_ns) // 2 + 5 * NS_PER_MS

    def next(self, now_ns: int) -> Tick | None:
        """The next one, if it came due; a now of 0 means that the clock has not started."""
        if now_ns and self._schedule.due_ns == 0 and not self._schedule.locked:
            self._schedule.due_ns = now_ns  # started before the clock: it starts only now
        due = self._schedule.due_ns
        if due is None:
            return None
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
        if now_ns - due <= self._settings.tick_deadline_ns:
            return None
        rejection = replace(self._laggard(now_ns) or refusal or self._unknown(), due_ns=due)
        if self._lost.leave_out(rejection):
            self._refused.clear()
            return self.next(now_ns)
        self._schedule.missed(now_ns, self._settings.tick_deadline_ns)
        horizon_ns = due - TICK_NS
        self._refused = {t0: why for t0, why in self._refused.items() if t0 >= horizon_ns}
        return rejection

    def _candidates(self, now_ns: int) -> list[int]:
        """Stamps that may become t0, oldest first: every camera has reached them.

        The oldest valid one is taken. Whatever arrives later has a later stamp, so the choice is
        the same in whatever order the cameras' messages came.
        """
        watermark = self._watermark_ns()
        earliest = self._earliest_ns(TICK_NS, now_ns)
        if watermark is None or watermark < earliest:  # as after most messages
            return []
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
            earliest = max(earliest, now_ns - self._settings.tick_deadline_ns - TICK_NS // 2)
        return earliest

    def _try(self, t0_ns: int, due_ns: int, now_ns: int) -> Tick:
        """A selection at t0, or a rejection: remembered as final once odometry has reached t0."""
        newest_pose = self._poses.newest_ns
        reached = newest_pose is not None and newest_pose >= t0_ns
        if not reached and self._awaits_odometry(t0_ns, due_ns, now_ns):
            return Rejection(
                RejectionReason.ODOMETRY_MISSING, "odometry", detail="has not reached t0 yet"
            )
        outcome = select(self._lost.present(), self._poses, t0_ns, self._settings.limits, due_ns)
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
        if abs(outcome.speed_mps) > BELIEVED * self._settings.limits.speed_tolerance_mps:
            self._doubt = None
        if self._doubt is None:
            return outcome
        return replace(self._doubt, due_ns=outcome.due_ns, detail=f"{self._doubt.detail} {STUCK}")

    def _awaits_odometry(self, t0_ns: int, due_ns: int, now_ns: int) -> bool:
        """Whether odometry may still come in time for t0; a t0 later than due is waited for later,
        though never beyond the tick's deadline."""
        if not self._schedule.locked:  # the first t0 sets the phase: due means nothing yet
            return now_ns < t0_ns + self._settings.odometry_wait_ns
        patience_ns = max(t0_ns - due_ns, 0) + self._settings.odometry_wait_ns
        return now_ns - due_ns < min(patience_ns, self._settings.tick_deadline_ns)

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

    def _laggard(self, now_ns: int) -> Rejection | None:
        """The source that no stamp able to serve the due tick has come from."""
        period_ns = self._frame_period_ns(self._watermark_ns() or 0)
        earliest_ns = self._earliest_ns(period_ns, now_ns)
        needed_ns = dict.fromkeys(self._lost.present(), earliest_ns)
        needed_ns["odometry"] = earliest_ns - self._settings.limits.extrapolation_ns
        limit_ns = self._settings.tick_deadline_ns + TICK_NS
        newest_ns = {name: self._frames[name].newest_ns for name in self._lost.present()}
        newest_ns["odometry"] = self._poses.newest_ns
        return name_laggard(newest_ns, self._arrivals, needed_ns, now_ns, limit_ns)

    def _unknown(self) -> Rejection:
        """Every source is there, yet no stamp could be tried: none since the start."""
        return Rejection(
            RejectionReason.WARMING_UP,
            min(self._frames, key=lambda name: self._frames[name].newest_ns or 0),
            detail="no stamp that every camera has reached was due",
        )
