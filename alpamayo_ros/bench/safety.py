"""What safety and diagnostics cost a tick: pictures, odometry and plan checked, entries made.

    python -m alpamayo_ros.bench.safety --check

The stop is timed by itself: it takes the place of a plan's check, and of the model's work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from alpamayo_ros import action_space, diagnosis, geometry
from alpamayo_ros.bench.figures import percentiles
from alpamayo_ros.buffers import FrameSlot, InterpolatedPoses, LazyImage
from alpamayo_ros.camera_policy import all_of
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.motion import MotionLimits, check_speed
from alpamayo_ros.planning_record import PlanningRecord
from alpamayo_ros.safety.limits import load_vehicle
from alpamayo_ros.safety.rulings import Ego, SafetySettings
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import (
    CAMERA_NAMES,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    NS_PER_MS,
    NS_PER_S,
    Decisions,
    EgoPose,
    Plan,
    ReasoningSource,
    Rejection,
    RejectionReason,
)

SPEED_MPS, CAMERAS, FRAMES = 10.0, (0, 1, 2, 6), 4
BAR_MS = 1.0
TICK_NS = 100 * NS_PER_MS
START_NS = 1_700_000_000 * NS_PER_S
LOST = Rejection(RejectionReason.CAMERA_MISSING, "front_wide")


def _pose(stamp_ns: int) -> EgoPose:
    x = SPEED_MPS * (stamp_ns - START_NS) / NS_PER_S
    return EgoPose(stamp_ns, np.array([x, 0, 0]), np.array([0, 0, 0, 1.0]), SPEED_MPS, 0.0)


def _plan(t0_ns: int) -> Plan:
    action = np.zeros((64, 2))
    xyz, rot = action_space.integrate(action, SPEED_MPS)
    source = ReasoningSource.MODEL
    decisions = Decisions("set-speed tracking", "lane keeping and centring")
    return Plan(
        t0_ns, xyz, rot, action, SPEED_MPS, xyz[None], rot[None], "Go.", source, decisions, "bench"
    )


def _selection(t0_ns: int, frames: dict[tuple[int, int], FrameSlot]) -> Selection:
    """Of frames by (camera, stamp); each is part of four selections."""
    positions = np.zeros((16, 3))
    positions[:, 0] = np.arange(16)
    poses = InterpolatedPoses(positions, np.tile([0, 0, 0, 1.0], (16, 1)), np.zeros(16, int), 0)
    stamps = [t0_ns - back * TICK_NS for back in range(FRAMES - 1, -1, -1)]
    slots = tuple(tuple(frames[camera, stamp] for stamp in stamps) for camera in CAMERAS)
    return Selection(t0_ns, t0_ns, slots, CAMERAS, poses, SPEED_MPS, 0.0, 0.0, "odom", 0)


def _frame(camera: int, stamp_ns: int, picture: np.ndarray) -> FrameSlot:
    image = LazyImage(lambda: picture)
    image.get()
    return FrameSlot(CAMERA_NAMES[camera], stamp_ns, 0, image)


def measure(ticks: int) -> dict[str, Any]:
    """Milliseconds of each part and of all of it, a tick."""
    rng = np.random.default_rng(0)
    shape = (IMAGE_HEIGHT, IMAGE_WIDTH, 3)
    pictures = [rng.integers(0, 255, shape, dtype=np.uint8) for _ in range(9)]
    stage, record = SafetyStage(SafetySettings(load_vehicle()), "bench"), PlanningRecord()
    stopping = SafetyStage(SafetySettings(load_vehicle()), "bench")
    judge = CameraJudge(all_of([CAMERA_NAMES[camera] for camera in CAMERAS]))
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        return result

    frames: dict[tuple[int, int], FrameSlot] = {}

    def tick(t0_ns: int) -> None:
        now_ns, plan = t0_ns + 60 * NS_PER_MS, _plan(t0_ns)
        selection = _selection(t0_ns, frames)
        recent = [_pose(t0_ns - back * 20 * NS_PER_MS) for back in range(15, -1, -1)]
        here = recent[-1]
        rig = geometry.pose_from_quaternion(here.position_m, here.quaternion_xyzw)
        ego = Ego(SPEED_MPS, rig, "odom")
        assert not isinstance(timed("pictures", lambda: judge.without_faulty(selection)), Rejection)
        assert timed("odometry", lambda: check_speed(recent, MotionLimits())) is None
        ruling = timed("plan", lambda: stage.judge(plan, ego, t0_ns, now_ns))
        assert ruling.plan is plan, ruling.verdict
        # While plans are good, it is asked five times a tick whether a stop is due.
        timed("no stop", lambda: [stage.fallback(here, now_ns) for _ in range(5)])
        record.planned(t0_ns, now_ns, 5.0)
        timed(
            "diagnostics",
            lambda: (
                record.entry(0.1),
                diagnosis.safety(str(stage.verdict), stage.reason, stage.counts()),
            ),
        )
        stopping.judge(plan, ego, t0_ns, now_ns)
        stopping.refuse(LOST, now_ns)
        assert timed("the stop", lambda: stopping.fallback(here, now_ns)) is not None

    for k in range(-FRAMES, ticks):
        t0_ns = START_NS + k * TICK_NS
        for camera in CAMERAS:
            frames[camera, t0_ns] = _frame(camera, t0_ns, pictures[(camera + k) % len(pictures)])
            frames.pop((camera, t0_ns - FRAMES * TICK_NS), None)
        if k < 0:
            continue
        tick(t0_ns)
    parts = [name for name in times if name != "the stop"]
    times["all but the stop"] = np.sum([times[name] for name in parts], axis=0).tolist()
    return {name: percentiles(values) for name, values in times.items()}


def main() -> int:
    """Print the figures; with --check 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ticks", type=int, default=300)
    parser.add_argument("--check", action="store_true", help=f"at most {BAR_MS:g} ms p50 a tick")
    args = parser.parse_args()
    figures = measure(args.ticks)
    print(json.dumps(figures, indent=1))
    return 1 if args.check and figures["all but the stop"]["p50"] > BAR_MS else 0


if __name__ == "__main__":
    raise SystemExit(main())
