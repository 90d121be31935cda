"""The planner's process when no plan is good: a stop on its topics, its reason, and recovery."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from alpamayo_ros.msg import PlannedTrajectory, PlannerStatus
from drive import Drive, nanoseconds
from harness import START_S, Bench
from visualization_msgs.msg import Marker

SCRIPT = "planner_with_test_backends.py"


def stops(bench: Bench) -> list[PlannedTrajectory]:
    """What the fallback published so far."""
    fallback = PlannedTrajectory.SOURCE_FALLBACK
    return [message for message in bench.trajectories if message.source == fallback]


def drawn_health(drawn: list[Marker]) -> str:
    """The newest in ~/markers; empty before."""
    return next((m.text for m in reversed(drawn) if m.ns == "diagnostics"), "")


def planning(bench: Bench, script: str = "", **parameters: Any) -> Drive:
    """An active planner and a drive at 10 m/s for it, in simulated time."""
    bench.start_planner(script, autostart=True, use_sim_time=True, **parameters)
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    return drive


def test_a_camera_dies_and_comes_back(bench: Bench) -> None:
    """The stop starts at the vehicle, brakes, says why on every topic, and gives way to plans."""
    drawn = bench.hear_markers()
    drive = planning(bench)
    bench.wait_plans(3)
    seen = len(stops(bench))
    drive.cut.add("front_tele")
    bench.wait(lambda: len(stops(bench)) >= seen + 12, 10.0, "a dozen stops")
    bench.wait(lambda: bench.diagnostic("safety").level == b"\x02", 5.0, "diagnostic")
    assert "front_tele" in bench.diagnostic("safety").message
    bench.wait(
        lambda: re.match("ERROR .*front_tele", drawn_health(drawn), re.DOTALL),
        5.0,
        "it in ~/markers",
    )
    found = stops(bench)[seen:]
    assert all("front_tele" in stop.reason and len(stop.points) == 65 for stop in found)
    assert all(stop.points[-1].velocity_mps < stop.points[0].velocity_mps for stop in found)
    stamps = [nanoseconds(stop.header.stamp) for stop in found]
    assert 95.0 <= np.median(np.diff(stamps)) / 1e6 <= 125.0
    # From where odometry was at the stamp, not from where the last plan had begun.
    for stop, stamp in zip(found, stamps):
        x_m, _, _ = drive.motion.pose_at(stamp)
        assert abs(stop.points[0].pose.position.x - x_m) < 1e-3
    rejected = [s for s in bench.statuses if s.outcome == PlannerStatus.REJECTED and s.t0.sec == 0]
    assert any("front_tele" in status.fallback_reason for status in rejected)
    drive.cut.clear()
    bench.wait_plans(3)
    bench.wait(lambda: bench.diagnostic("safety").level == b"\x00", 5.0, "diagnostic")
    assert "recovering" in {status.reason for status in bench.statuses}
    assert bench.statuses[-1].fallback_reason == ""
    sequences = [message.sequence for message in bench.trajectories]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_odometry_dies_the_stop_goes_on(bench: Bench) -> None:
    """Without poses the stop is carried on in time: every stamp is recent, speeds go down."""
    drive = planning(bench)
    bench.wait_plans(3)
    seen = len(stops(bench))
    drive.cut.add("odometry")
    bench.wait(lambda: len(stops(bench)) >= seen + 15, 10.0, "stops")
    found = stops(bench)[seen:]
    stamps = [nanoseconds(stop.header.stamp) for stop in found]
    assert all(b > a for a, b in zip(stamps[4:], stamps[5:]))
    speeds = [stop.points[0].velocity_mps for stop in found]
    assert speeds[-1] < 10.0 and np.diff(speeds).max() < 1e-6


def test_an_unsafe_model(bench: Bench, manifest: Callable[..., str]) -> None:
    """A plan out of limits: the status names what, how much, and the vehicle is stopped."""
    planning(bench, SCRIPT, model=manifest(bend_1pm=0.3))
    status = bench.wait_rejection("plan_unsafe", START_S)
    assert status.safety_action == "rejected"
    assert {v.name for v in status.safety_violations} >= {"lateral", "curvature"}
    assert all(v.value > v.limit for v in status.safety_violations)
    bench.wait(lambda: len(stops(bench)) >= 3, 5.0, "stops")
    assert not bench.planned


def test_observing_publishes_what_it_names(bench: Bench, manifest: Callable[..., str]) -> None:
    """`safety: observe`: the plan goes out, flagged."""
    planning(bench, SCRIPT, model=manifest(bend_1pm=0.3), safety="observe")
    bench.wait_plans(2)
    bench.wait(
        lambda: any(s.safety_action == "observed" and s.safety_violations for s in bench.statuses),
        5.0,
        "flagged status",
    )
    assert not stops(bench)


def test_withheld_from_path(bench: Bench) -> None:
    """`fallback_on_path: false`: the stop is on ~/trajectory alone."""
    drive = planning(bench, fallback_on_path=False)
    bench.wait_plans(3)
    drive.cut.add("cross_left")
    bench.wait(lambda: len(stops(bench)) >= 5, 10.0, "stops")
    bench.watch(0.2)
    assert len(bench.paths) == len(bench.planned)


def test_a_slow_model_is_stopped_for(bench: Bench, manifest: Callable[..., str]) -> None:
    """Plans 1 s old are stale: none goes out, and the vehicle is not left without a word."""
    planning(bench, SCRIPT, model=manifest(plan_s=1.0))
    status = bench.wait_rejection("plan_unsafe", START_S)
    assert "stale" in {v.name for v in status.safety_violations}
    bench.wait(lambda: len(stops(bench)) >= 3, 10.0, "stops")
    assert not bench.planned


def test_a_profile_that_is_not_there(bench: Bench) -> None:
    """Configure is refused with the file and what it has."""
    bench.start_planner(vehicle_profile="racing", configure_odometry_wait_s=0.0)
    assert not bench.change("configure")
    bench.wait(lambda: bench.diagnostic("lifecycle"), 5.0, "diagnostic")
    bench.wait(
        lambda: (
            "no profile 'racing'; it has default, comfort" in bench.diagnostic("lifecycle").message
        ),
        5.0,
        "reason in /diagnostics",
    )
