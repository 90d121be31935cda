"""A long drive full of faults, faster than real time: does anything get out that should not?

    make soak TICKS=100000

The node's pipeline, worker step and safety stage on a vehicle that drives what is published. Every
plan that goes out is looked at by `soak_checker`, which shares no code with the safety stage.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from alpamayo_ros.bench.soak_checker import Sent, faults
from alpamayo_ros.bench.soak_faults import Schedule, SoakModel, resident_mb, timed_ms
from alpamayo_ros.bench.soak_report import Report
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.camera_policy import CameraPolicy, all_of
from alpamayo_ros.feed import Feed
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.pipeline import Pipeline, PipelineSettings
from alpamayo_ros.safety.limits import load_vehicle
from alpamayo_ros.safety.rulings import SafetySettings, ego_of
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.sampling import Selection
from alpamayo_ros.sources import Source
from alpamayo_ros.types import (
    DEFAULT_CAMERAS,
    NS_PER_MS,
    NS_PER_S,
    ImageError,
    Plan,
    Rejection,
    RejectionReason,
)
from alpamayo_ros.worker import Outcome, run

STEP_NS = 20 * NS_PER_MS
STEPS_A_TICK = 5
START_NS = 1_700_000_000 * NS_PER_S
GAP_LIMIT_S = 0.8  # without a plan while there is odometry: a controller's watchdog


def _decode_later(image: LazyImage) -> None:
    """Frames are decoded when they are selected."""


def _good(stamp_ns: int) -> Any:
    """A picture unlike the one before."""
    return np.full((2, 2, 3), 40 + stamp_ns // STEP_NS % 150, np.uint8)


def _black() -> Any:
    return np.zeros((2, 2, 3), np.uint8)


def _frozen() -> Any:
    return np.full((2, 2, 3), 128, np.uint8)


def _bad() -> Any:
    raise ImageError("not a JPEG")


class Soak:
    """One drive. The vehicle does what was published last, and brakes where nothing is."""

    def __init__(self, seed: int = 0, enforce: bool = True, spare: bool = False) -> None:
        """`spare`: one camera less will do."""
        self._rng = np.random.default_rng(seed)
        self._schedule = Schedule(self._rng)
        self._model = SoakModel(load_manifest("kinematic"), self._rng)
        policy = CameraPolicy(3, frozenset({"front_wide"})) if spare else all_of(DEFAULT_CAMERAS)
        self._judge = CameraJudge(policy)
        self._pipeline = Pipeline(PipelineSettings(cameras=DEFAULT_CAMERAS), policy)
        sources = {name: Source(name, name) for name in (*DEFAULT_CAMERAS, "odometry")}
        self._feed = Feed(self._pipeline, sources, RigOffset("base_link"), "crop", _decode_later)
        self._stage = SafetyStage(SafetySettings(load_vehicle(), enforce), "soak")
        self._now_ns = START_NS
        self._x, self._y, self._yaw, self._speed = 500_000.0, 4_000_000.0, 0.3, 5.0
        self._bend, self._offset, self._frame = 0.0, np.zeros(2), "odom"
        self._seen = self._x, self._y  # by odometry
        self._following: Plan | None = None
        self._flight: list[tuple[int, int, FrameSlot]] = []  # frames on their way
        self._working: tuple[int, Outcome, Plan | None] | None = None
        self._sent_ns, self._count = START_NS, 0
        self.report = Report(faults=self._schedule.counts)

    def run(self, ticks: int) -> Report:
        """Drive on for so many ticks of 0.1 s."""
        started, base_mb = time.perf_counter(), 0.0
        self._pipeline.start(self._now_ns)
        self._stage.start(self._now_ns)
        for index in range(ticks):
            if index == max(ticks // 10, min(ticks - 1, 500)):
                base_mb = resident_mb()
            under_way = self._schedule.tick(index)
            self._model.faults = under_way
            self._events(under_way)
            for step in range(STEPS_A_TICK):
                self._step(step, under_way)
        self.report.ticks += ticks
        self.report.growth_mb = resident_mb() - base_mb
        self.report.wall_s = time.perf_counter() - started
        return self.report

    # ---- the vehicle and its sensors ---------------------------------------------------------

    def _events(self, under_way: set[str]) -> None:
        if "clock_back" in under_way:
            self._now_ns -= 3 * NS_PER_S
        if "clock_ahead" in under_way:
            self._now_ns += 5 * NS_PER_S
        if under_way & {"clock_back", "clock_ahead"}:
            self._following, self._sent_ns = None, self._now_ns
            self._flight.clear()
        if "odometry_offset" in under_way:
            self._offset = self._offset + self._rng.normal(0.0, 0.5, 2)
        if "odometry_jump" in under_way:
            self._offset = self._offset + self._rng.normal(0.0, 30.0, 2)
        self._frame = "map" if "odometry_frame" in under_way else "odom"

    def _step(self, step: int, under_way: set[str]) -> None:
        self._now_ns += STEP_NS
        self._drive(STEP_NS / NS_PER_S)
        heard = None
        if "odometry_gap" not in under_way:
            odometry = self._odometry(under_way)
            heard = self._feed.add_odometry(odometry, 0, self._now_ns)
        if step == 0:
            self._cameras(under_way)
        while self._flight and self._flight[0][0] <= self._now_ns:
            slot = heapq.heappop(self._flight)[2]
            self._pipeline.add_frame(slot, self._now_ns)
        for tick in self._feed.poll(self._now_ns, self._now_ns):
            self._on_tick(tick)
        if self._working is not None and self._working[0] <= self._now_ns:
            self._on_outcome()
        self._stop_if_due()
        # After a jump of the clock nothing is known of the vehicle until odometry is heard again.
        if heard is not None and self.report.sent["planner"]:
            gap_s = (self._now_ns - self._sent_ns) / NS_PER_S
            self.report.longest_gap_s = max(self.report.longest_gap_s, gap_s)
            if gap_s > GAP_LIMIT_S:
                self.report.bad.append(f"silent for {gap_s:.2f} s")
                self._sent_ns = self._now_ns

    def _drive(self, dt_s: float) -> None:
        plan, acceleration = self._following, -2.0
        if plan is not None:
            index = (self._now_ns - plan.t0_ns) // (100 * NS_PER_MS)
            if 0 <= index < 64:
                acceleration, self._bend = (float(v) for v in plan.action[int(index)])
        after = max(self._speed + acceleration * dt_s, 0.0)
        moved = 0.5 * (self._speed + after) * dt_s
        middle = self._yaw + 0.5 * self._bend * moved
        self._x += moved * math.cos(middle)
        self._y += moved * math.sin(middle)
        self._yaw += self._bend * moved
        self._speed = after
        self.report.driven_m += moved

    def _odometry(self, under_way: set[str]) -> Any:
        if "odometry_stuck" not in under_way:
            self._seen = self._x + self._offset[0], self._y + self._offset[1]
        x, y = self._seen
        nan = "odometry_nan" in under_way
        half = 0.5 * self._yaw
        vector = SimpleNamespace
        return SimpleNamespace(
            header=SimpleNamespace(stamp=_stamp(self._now_ns), frame_id=self._frame),
            child_frame_id="base_link",
            pose=SimpleNamespace(
                pose=SimpleNamespace(
                    position=vector(x=math.nan if nan else x, y=y, z=0.0),
                    orientation=vector(x=0.0, y=0.0, z=math.sin(half), w=math.cos(half)),
                )
            ),
            twist=SimpleNamespace(
                twist=SimpleNamespace(
                    linear=vector(x=self._speed, y=0.0, z=0.0),
                    angular=vector(x=0.0, y=0.0, z=self._speed * self._bend),
                )
            ),
        )

    def _cameras(self, under_way: set[str]) -> None:
        for name in DEFAULT_CAMERAS:
            hit = name == "front_tele"
            if hit and "camera_lost" in under_way:
                continue
            now_ns = self._now_ns
            load: Callable[[], Any] = functools.partial(_good, now_ns)
            for fault, made in (
                ("camera_corrupt", _bad),
                ("camera_black", _black),
                ("camera_frozen", _frozen),
            ):
                load = made if hit and fault in under_way else load
            late_ms = 400 if hit and "camera_late" in under_way else 20
            self._count += 1
            slot = FrameSlot(name, self._now_ns, 0, LazyImage(load))
            heapq.heappush(self._flight, (self._now_ns + late_ms * NS_PER_MS, self._count, slot))

    # ---- as the node does --------------------------------------------------------------------

    def _on_tick(self, tick: Selection | Rejection) -> None:
        if isinstance(tick, Rejection):
            if tick.reason == RejectionReason.CLOCK_JUMP:
                self._working = None
            self._refuse(tick)
        elif self._working is not None:
            self._refuse(Rejection(RejectionReason.PLANNER_BUSY, "planner", due_ns=tick.due_ns))
        else:
            slow_ms = self._rng.integers(200, 1_500) if "model_slow" in self._model.faults else 0
            outcome = run(self._model, tick, self._judge)
            done_ns = self._now_ns + int(slow_ms) * NS_PER_MS
            self._working = (done_ns, outcome, self._model.latest)

    def _on_outcome(self) -> None:
        assert self._working is not None
        _, outcome, chosen = self._working
        self._working = None
        if outcome.unreadable is not None:
            self._pipeline.discard(outcome.unreadable.slot)
        if outcome.rejection is not None:
            self._refuse(outcome.rejection)
            return
        assert outcome.plan is not None and outcome.sample is not None
        start = time.perf_counter()
        ruling = self._stage.judge(outcome.plan, ego_of(outcome.sample), 0, self._now_ns)
        self._note_time(self.report.judge_ms, start)
        self.report.actions[ruling.verdict.action.value] += 1
        if ruling.plan is None:
            assert ruling.rejection is not None
            self.report.refused[ruling.rejection.reason.value] += 1
            self._stop_if_due()
            self._unlock()
            return
        same = chosen is not None and np.array_equal(ruling.plan.action, chosen.action)
        self._send(ruling.plan, "", ruling.verdict.action.value != "accepted", same)

    def _refuse(self, rejection: Rejection) -> None:
        self.report.refused[rejection.reason.value] += 1
        self._stage.refuse(rejection, self._now_ns)
        self._unlock()
        self._stop_if_due()

    def _unlock(self) -> None:
        """Once the vehicle stands for what only a person can resolve, one activates it anew."""
        doubted = "odometry_inconsistent" in self._stage.reason
        if self._speed == 0.0 and (self._stage.locked or doubted):
            self.report.unlocked += 1
            self._pipeline.start(self._now_ns)
            self._stage.engage(False)
            self._stage.engage(True)

    def _stop_if_due(self) -> None:
        start = time.perf_counter()
        stop = self._stage.fallback(self._pipeline.poses.newest, self._now_ns)
        if stop is not None:
            self._note_time(self.report.fallback_ms, start)
            self._send(stop.plan, stop.reason, True, True)

    def _note_time(self, times: list[float], start_s: float) -> None:
        if len(times) < 20_000:  # bounded, or the list itself were the growth
            times.append(timed_ms(start_s))

    def _send(self, plan: Plan, reason: str, flagged: bool, as_planned: bool) -> None:
        self.report.sent[plan.source] += 1
        sent = Sent(
            self._now_ns,
            plan.t0_ns,
            plan.source,
            reason,
            flagged,
            as_planned,
            plan.xyz_in_rig_t0,
            plan.rot_in_rig_t0,
            plan.speed_t0_mps,
            plan.speeds_mps,
        )
        wrong = faults(sent)
        if wrong and len(self.report.bad) < 1000:
            self.report.bad.append(f"{plan.source} {reason}: {'; '.join(wrong)}")
        self._following, self._sent_ns = plan, self._now_ns


def _stamp(stamp_ns: int) -> Any:
    return SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def main() -> int:
    """Soak and print the figures; 1 where a plan went out that should not have, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ticks", type=int, default=100_000, help="of 0.1 s (default 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spare", action="store_true", help="plan with one camera less")
    parser.add_argument("--max-growth-mb", type=float, default=5.0)
    args = parser.parse_args()
    report = Soak(args.seed, spare=args.spare).run(args.ticks)
    print(json.dumps(report.figures(), indent=1))
    return 1 if report.bad or report.growth_mb > args.max_growth_mb else 0


if __name__ == "__main__":
    raise SystemExit(main())
