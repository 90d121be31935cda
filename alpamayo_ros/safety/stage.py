"""Between a planner and the messages: what it lets out, and what goes out where it lets nothing.

Knows stamps and the time that its caller gives it, no clock and no ROS. One thread at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from alpamayo_ros import geometry
from alpamayo_ros.safety.acceptance import choose, unsafe
from alpamayo_ros.safety.checks import Situation, check
from alpamayo_ros.safety.fallback import Fallback
from alpamayo_ros.safety.pull_away import PullAway
from alpamayo_ros.safety.rulings import Ego, FallbackPlan, Ruling, SafetySettings
from alpamayo_ros.safety.track import Track, relocation, track_of
from alpamayo_ros.safety.verdict import SafetyAction, SafetyVerdict, Violation, ViolationName
from alpamayo_ros.types import (
    NS_PER_MS,
    NS_PER_S,
    EgoPose,
    Plan,
    Rejection,
    RejectionReason,
)

PERIOD_NS = 100 * NS_PER_MS
# The newest pose is where the vehicle is; one older than this is carried on along what was planned.
POSE_AGE_NS = 200 * NS_PER_MS
# The plan before is still under way: the tick that these refuse says nothing about it.
HARMLESS = frozenset({RejectionReason.PLANNER_BUSY, RejectionReason.RECOVERING})
# Before the first plan inputs are found one after the other.
STILL_TO_COME = frozenset(
    {
        RejectionReason.WARMING_UP,
        RejectionReason.CAMERA_MISSING,
        RejectionReason.ODOMETRY_MISSING,
        RejectionReason.ODOMETRY_GAP,
    }
)
# A start takes so long until the history is full. Until then nothing of ours is being driven.
WARM_UP_NS = 2_500 * NS_PER_MS
ACTION = SafetyAction


class SafetyStage:
    """Judges plans; after one that is not good, stops the vehicle until they are good again."""

    def __init__(self, settings: SafetySettings, model: str) -> None:
        self._settings, self._model = settings, model
        self._fallback, self._pull_away = Fallback(settings.vehicle), PullAway()
        self.verdict = SafetyVerdict(True)  # the last one
        self.reason = ""  # why the fallback is under way; empty while it is not
        self.engaged = True  # False while somebody else drives
        self._counts: Counter[str] = Counter()
        self.start(0)

    def start(self, now_ns: int) -> None:
        """Begin anew: nothing from before counts."""
        self._forget()
        self.reason, self._good_ticks, self._has_planned = "", 0, False
        self.verdict = SafetyVerdict(True)
        self._newest_t0_ns = 0
        self._fell_ns = now_ns  # when the stop under way began
        self._unsafe_in_a_row = self._repaired_in_a_row = 0
        self._released_ns = now_ns  # when a plan last went out
        self._next_ns = 0  # when the next fallback is due

    def _forget(self) -> None:
        """What lies in the odometry frame or in time is of no use after a jump."""
        self._fallback.forget()
        self._pull_away.forget()
        self._pose: EgoPose | None = None  # the newest that was believed
        self._has_leapt = self._is_doubted = False  # of odometry
        self._previous: Track | None = None  # the last plan that was good but for continuity
        self._emitted: Track | None = None  # the last one that went out, whoever made it

    def engage(self, engaged: bool) -> None:
        """Somebody else drives from now on, or does so no longer.

        Meanwhile plans are judged and sent as ever, but what was planned is not what was driven:
        no plan has to go on from the one before, and a stop begins with no acceleration of ours.
        """
        if engaged != self.engaged:
            self._forget()
            self._unsafe_in_a_row = self._repaired_in_a_row = 0
        self.engaged = engaged

    # ---- what comes in -----------------------------------------------------------------------

    def judge(self, plan: Plan, ego: Ego, due_ns: int, now_ns: int) -> Ruling:
        """The plan, or the next best of its candidates, or the reason why none goes out."""
        ruling = self._judge(plan, ego, due_ns, now_ns)
        self._counts[f"plans_{ruling.verdict.action}"] += 1
        return ruling

    @property
    def locked(self) -> bool:
        """Whether the model was wrong so often that it has to be taken up anew: by `start`, or
        after somebody else has driven."""
        return 0 < self._settings.lock_ticks <= self._unsafe_in_a_row

    @property
    def enforces(self) -> bool:
        """Whether it stops the vehicle, rather than say that it would."""
        return self._settings.enforce

    def counts(self) -> dict[str, int]:
        """What became of plans so far, and how many stops were made."""
        return {"fallback_plans": 0, **self._counts}

    def _judge(self, plan: Plan, ego: Ego, due_ns: int, now_ns: int) -> Ruling:
        settings = self._settings
        situation = Situation(
            now_ns,
            settings.max_plan_age_ns,
            ego.speed_mps,
            ego.odometry_from_rig_t0,
            ego.frame_id,
            self._previous,
            self._newest_t0_ns,
        )
        try:
            chosen, verdict = choose(plan, situation, settings.vehicle, repairs=settings.enforce)
            verdict = self._without_lasting_repairs(verdict)
            if settings.enforce and verdict.ok:
                chosen, verdict = self._without_hesitation(chosen, verdict, situation)
        except Exception as error:  # whatever a model hands over, the vehicle gets a plan
            rejection = Rejection(
                RejectionReason.PLANNER_FAILED,
                "planner",
                due_ns=due_ns,
                detail=f"the plan could not be judged: {type(error).__name__}: {error}",
            )
            self.verdict = SafetyVerdict(False, action=ACTION.REJECTED)
            self.refuse(rejection, now_ns)
            return Ruling(self.verdict, rejection=rejection)
        track = track_of(chosen, ego.odometry_from_rig_t0, ego.frame_id)
        jumps = [v for v in verdict.violations if v.name.value.startswith("jump_")]
        if verdict.ok or len(jumps) == len(verdict.violations):
            # A lasting change of mind costs one tick; plans that jump to and fro never pass.
            self._previous = track if self.engaged else None
        self.verdict = verdict
        if not settings.enforce and not verdict.ok:
            self.verdict = verdict = replace(verdict, action=ACTION.OBSERVED)
        elif not verdict.ok:
            self._unsafe_in_a_row += 1
            rejection = unsafe(verdict.violations, due_ns)
            self.refuse(rejection, now_ns)
            return Ruling(verdict, rejection=rejection)
        if not self.locked:
            self._unsafe_in_a_row = 0
        if settings.enforce and self.reason and (self.locked or not self._recovered()):
            self.verdict = replace(verdict, action=ACTION.HELD)
            return Ruling(self.verdict, rejection=self._recovering(due_ns))
        self._release(track, now_ns, verdict.ok)
        return Ruling(verdict, chosen)

    def refuse(self, rejection: Rejection, now_ns: int) -> None:
        """A tick came to nothing."""
        if rejection.reason == RejectionReason.ODOMETRY_JUMP:
            self._has_leapt, self._previous = True, None
        if rejection.reason == RejectionReason.ODOMETRY_INCONSISTENT:
            self._is_doubted = True
        if rejection.reason == RejectionReason.CLOCK_JUMP:
            self._previous = self._emitted = None  # the path stays where it is, if not when
            self._newest_t0_ns, self._next_ns, self._released_ns = 0, 0, now_ns
            self._fell_ns = now_ns
        waiting = rejection.reason in STILL_TO_COME and not self._has_planned
        if rejection.reason not in HARMLESS and not waiting:
            self._fall(str(rejection), now_ns)

    def fallback(self, pose: EgoPose | None, now_ns: int) -> FallbackPlan | None:
        """The stop, where one is due: ask after every event and at least every 20 ms.

        `pose` is the newest of odometry. None where plans are good, or where the vehicle has never
        been heard of; nothing is due while time stands still.
        """
        if not now_ns:
            return None
        self._note(pose)
        self._released_ns = self._released_ns or now_ns  # the clock started after the stage
        silent_ns = now_ns - self._released_ns
        limit_ns = self._settings.max_plan_age_ns if self._has_planned else WARM_UP_NS
        if not self.reason and silent_ns > limit_ns:
            limit_ms = limit_ns // NS_PER_MS
            self._fall(f"no plan for {silent_ns // NS_PER_MS} ms (limit {limit_ms} ms)", now_ns)
        if not self.reason or now_ns < self._next_ns or not self._settings.enforce:
            return None
        start = self._start_of_stop(pose, now_ns)
        if start is None:
            return None
        # In step with the ticks as long as it is asked in time.
        self._next_ns = max((self._next_ns or now_ns) + PERIOD_NS, now_ns + PERIOD_NS // 2)
        planned = self._emitted.acceleration_before(start.stamp_ns) if self._emitted else 0.0
        since_s = (now_ns - self._fell_ns) / NS_PER_S
        plan, path = self._fallback.plan(start, planned, self.reason, self._model, since_s)
        odometry_from_rig = geometry.pose_from_quaternion(start.position_m, start.quaternion_xyzw)
        track = track_of(plan, odometry_from_rig, start.frame_id)
        self._emitted = track if self.engaged else None
        self._counts["fallback_plans"] += 1
        shown = path if self._settings.fallback_on_path else None
        return FallbackPlan(plan, odometry_from_rig, start.frame_id, self.reason, shown)

    # ---- inside ------------------------------------------------------------------------------

    def _without_lasting_repairs(self, verdict: SafetyVerdict) -> SafetyVerdict:
        """A slip is repaired; a model that slips all the time is led where it was not going."""
        if verdict.action is not ACTION.REPAIRED:
            if verdict.ok:
                self._repaired_in_a_row = 0
            return verdict
        self._repaired_in_a_row += 1
        limit = self._settings.repair_ticks
        if not 0 < limit < self._repaired_in_a_row:
            return verdict
        lasting = Violation(ViolationName.LASTING, self._repaired_in_a_row, limit, "plans")
        return SafetyVerdict(False, (*verdict.violations, lasting), ACTION.REJECTED)

    def _without_hesitation(
        self, plan: Plan, verdict: SafetyVerdict, situation: Situation
    ) -> tuple[Plan, SafetyVerdict]:
        going, wait = self._pull_away.hold_to_it(plan, situation.speed_mps)
        if wait is None or check(going, self._settings.vehicle.limits, situation):
            return plan, verdict
        return going, SafetyVerdict(True, (*verdict.violations, wait), ACTION.REPAIRED)

    def _release(self, track: Track, now_ns: int, is_good: bool) -> None:
        self.reason, self._good_ticks, self._has_planned = "", 0, True
        self._is_doubted = False
        self._newest_t0_ns, self._released_ns = track.t0_ns, now_ns
        self._emitted = track if self.engaged else None
        if is_good:
            self._fallback.good(track)

    def _fall(self, reason: str, now_ns: int) -> None:
        if not self.reason:
            self._next_ns = 0  # at once
            self._fell_ns = now_ns
        self.reason, self._good_ticks = reason, 0

    def _recovered(self) -> bool:
        """One more good plan: enough? The first plan of all waits for no other."""
        self._good_ticks += 1
        return self._good_ticks >= (self._settings.recovery_ticks if self._has_planned else 1)

    def _recovering(self, due_ns: int) -> Rejection:
        return Rejection(
            RejectionReason.RECOVERING,
            "safety",
            self._good_ticks,
            self._settings.recovery_ticks,
            "good plans",
            due_ns,
            f"{self._unsafe_in_a_row} unsafe plans in a row: the stop stays; drive by hand, or "
            "deactivate and activate the planner"
            if self.locked
            else f"the stop goes on until then, because of {self.reason}",
        )

    def _note(self, pose: EgoPose | None) -> None:
        """Follow odometry, into another frame too."""
        if pose is None or pose is self._pose:
            return
        if self._has_leapt:
            self._has_leapt = False
            new_from_old = relocation(self._pose, pose) if self._pose is not None else None
            if new_from_old is None:
                self._forget()
            else:
                self._fallback.relocate(new_from_old, pose.frame_id)
                if self._emitted is not None:
                    self._emitted = self._emitted.moved(new_from_old, pose.frame_id)
        self._pose = pose

    def _start_of_stop(self, pose: EgoPose | None, now_ns: int) -> EgoPose | None:
        """The newest pose, or where the vehicle should be by now if odometry fell silent.

        A pose of long ago, or of another clock, says nothing by itself."""
        emitted = self._emitted
        if self._is_doubted and emitted is not None:
            return emitted.pose_at(now_ns)
        if pose is not None and abs(now_ns - pose.stamp_ns) <= POSE_AGE_NS and _is_finite(pose):
            return pose
        if emitted is None or (pose is not None and emitted.frame_id != pose.frame_id):
            return None
        return emitted.pose_at(now_ns)


def _is_finite(pose: EgoPose) -> bool:
    numbers = (*pose.position_m, *pose.quaternion_xyzw, pose.speed_mps, pose.yaw_rate_rps)
    return all(map(math.isfinite, numbers))
