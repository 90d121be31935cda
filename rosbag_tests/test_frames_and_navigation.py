"""Frames of odometry and path, and the navigation text, through a real planner process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from alpamayo_ros.msg import PlannedTrajectory, PlannerStatus
from drive import Drive, Motion, nanoseconds
from harness import START_S, Bench
from nav_msgs.msg import Path
from std_msgs.msg import String

from alpamayo_ros import action_space
from alpamayo_ros.ros import topics

LEVER_M = 1.5
SCRIPT = "planner_with_test_backends.py"


def test_base_offset_by_tf_moves_the_path(bench: Bench) -> None:
    """Odometry of a frame 1.5 m ahead of the rig, related by /tf_static, gives the rig's path.

    The drive is a circle, so the offset must turn with the vehicle.
    """
    drive = Drive(bench.node, sim_time=True, yaw_rate_rps=0.2, child_frame="imu", lever_m=LEVER_M)
    drive.static_transform("base_link", "imu", LEVER_M)
    path = _first_path(bench, drive)
    trajectory = bench.planned[0]
    _assert_starts_at(replace(drive.motion, lever_m=0.0), trajectory, path)
    first = trajectory.points[0].pose.position
    x, y, _ = drive.motion.pose_at(nanoseconds(path.header.stamp))
    assert math.hypot(first.x - x, first.y - y) == pytest.approx(LEVER_M, abs=1e-9)
    assert trajectory.rig_frame_id == "base_link"


def test_base_offset_by_parameter(bench: Bench) -> None:
    """The same offset by parameter odometry_child_from_rig, without TF."""
    drive = Drive(bench.node, sim_time=True, yaw_rate_rps=0.2, child_frame="imu", lever_m=LEVER_M)
    offset = [-LEVER_M, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    path = _first_path(bench, drive, odometry_child_from_rig=offset)
    _assert_starts_at(replace(drive.motion, lever_m=0.0), bench.planned[0], path)


def test_unrelated_child_frame_is_refused(bench: Bench) -> None:
    """Odometry of `imu`, and nothing relates it to base_link: configure refuses and explains.

    When the transform is published, configure works and the node plans.
    """
    drive = Drive(bench.node, sim_time=True, child_frame="imu")
    bench.start_planner(configure_odometry_wait_s=1.5, use_sim_time=True)
    drive.start()
    assert not bench.change("configure")
    assert bench.state() == "unconfigured"
    status = bench.wait(
        lambda: (s := bench.diagnostic("lifecycle")) and "imu" in s.message and s, 5.0, "reason"
    )
    for text in ("'imu'", "'base_link'", "/tf_static", "odometry_child_from_rig", "rig_frame"):
        assert text in status.message
    drive.static_transform("base_link", "imu", LEVER_M)
    assert bench.change("configure")
    assert bench.change("activate")
    bench.wait_plans(1)


def test_path_in_base_frame(bench: Bench) -> None:
    """path_frame base: the path starts at the rig's origin and bears its frame and t0."""
    drive = Drive(bench.node, sim_time=True)
    path = _first_path(bench, drive, path_frame="base")
    assert path.header.frame_id == "base_link"
    first = bench.planned[0].points[0].pose
    assert (first.position.x, first.position.y) == (0.0, 0.0)
    assert path.poses[0].pose.position.x == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("latched", [False, True], ids=["volatile", "transient_local"])
def test_navigation_arrives(bench: Bench, manifest: Callable[..., str], latched: bool) -> None:
    """Navigation text reaches status and sample from either kind of publisher.

    The transient-local one speaks before the planner subscribes, the volatile one after.
    """
    publisher = bench.node.create_publisher(
        String, "/planner/navigation", topics.reliable_qos(latched)
    )
    if latched:
        publisher.publish(String(data="turn left in 100 m"))
    heard: list[String] = []
    bench.node.create_subscription(String, "/planner/reasoning", heard.append, 10)
    drive = Drive(bench.node, sim_time=True)
    _first_path(bench, drive, SCRIPT, model=manifest(takes_navigation=True))
    if not latched:
        bench.wait(publisher.get_subscription_count, START_S, "subscription")
        publisher.publish(String(data="turn left in 100 m"))
    _wait_navigation(bench, "turn left in 100 m")
    bench.wait(
        lambda: heard and heard[-1].data == "navigation=turn left in 100 m", 5.0, "in the sample"
    )


def test_navigation_is_forgotten(bench: Bench, manifest: Callable[..., str]) -> None:
    """After navigation_timeout_s without a new text, none is in force; a new one is again."""
    publisher = bench.node.create_publisher(String, "/planner/navigation", topics.reliable_qos())
    drive = Drive(bench.node, sim_time=True)
    _first_path(bench, drive, navigation_timeout_s=0.7)
    bench.wait(publisher.get_subscription_count, START_S, "subscription")
    for text in ("keep straight", "turn right"):
        publisher.publish(String(data=text))
        _wait_navigation(bench, text)
        _wait_navigation(bench, "")


def test_navigation_that_is_refused(bench: Bench, manifest: Callable[..., str]) -> None:
    """Too long, with control markup, with a control character: none is in force then, and status,
    /diagnostics and the log say why; the next good text, its newlines made spaces, is."""
    publisher = bench.node.create_publisher(String, "/planner/navigation", topics.reliable_qos())
    drive = Drive(bench.node, sim_time=True)
    model = manifest(takes_navigation=True)
    _first_path(bench, drive, SCRIPT, model=model, navigation_max_length=20)
    bench.wait(publisher.get_subscription_count, START_S, "subscription")
    for text, said in (
        ("x" * 21, "navigation text of 21 characters, at most 20"),
        ("left<|im_end|>", "control markup '<|'"),
        ("left <i3>", "control markup '<i3>'"),
        ("left\x07", "control character"),
    ):
        publisher.publish(String(data="turn\nleft"))
        assert _wait_navigation(bench, "turn left").detail == ""
        publisher.publish(String(data=text))
        assert said in _wait_navigation(bench, "").detail
        entry = bench.wait(
            lambda said=said: (s := bench.diagnostic(": navigation")) and said in s.message and s,
            5.0,
            "refusal in /diagnostics",
        )
        values = {pair.key: pair.value for pair in entry.values}
        assert values["text"] == "" and said in values["last_refusal"]
    assert "no navigation is in force: navigation text of 21" in bench.processes[0].output
    publisher.publish(String(data="turn right"))
    bench.wait(
        lambda: (s := bench.diagnostic(": navigation")) and s.values[0].value, 5.0, "it is over"
    )


def test_navigation_is_kept_from_a_model_that_takes_none(
    bench: Bench, manifest: Callable[..., str]
) -> None:
    """A manifest without takes_navigation: the status shows the text, the sample has none."""
    publisher = bench.node.create_publisher(String, "/planner/navigation", topics.reliable_qos())
    heard: list[String] = []
    bench.node.create_subscription(String, "/planner/reasoning", heard.append, 10)
    _first_path(bench, Drive(bench.node, sim_time=True), SCRIPT, model=manifest())
    bench.wait(publisher.get_subscription_count, START_S, "subscription")
    publisher.publish(String(data="turn right"))
    _wait_navigation(bench, "turn right")
    seen = len(heard)
    bench.wait(lambda: len(heard) > seen + 1, 5.0, "more plans")
    said = {message.data for message in heard if not message.data.startswith("Stop: ")}
    assert said == {"navigation=None"}


def _wait_navigation(bench: Bench, text: str) -> PlannerStatus:
    """The next status of a plan that shows this text as the navigation in force."""
    since = len(bench.statuses)

    def shown() -> PlannerStatus | None:
        new = [s for s in bench.statuses[since:] if s.outcome == PlannerStatus.PLANNED]
        return next((status for status in new if status.navigation == text), None)

    return bench.wait(shown, START_S, f"status of {text!r}")


def _first_path(bench: Bench, drive: Drive, script: str = "", **parameters: object) -> Path:
    """Start a planner on a drive; its first path and trajectory."""
    bench.start_planner(script, autostart=True, use_sim_time=True, **parameters)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait(lambda: bench.planned_paths, START_S, "plan")
    assert bench.planned[0].header == bench.planned_paths[0].header
    return bench.planned_paths[0]


def _assert_starts_at(reference: Motion, trajectory: PlannedTrajectory, path: Path) -> None:
    """The trajectory starts at the rig's pose, and the path is what its actions make from there.

    Both to a nanometre: an offset that is lost, or that does not turn with the rig, is 1.5 m.
    """
    x, y, yaw = reference.pose_at(nanoseconds(path.header.stamp))
    first = trajectory.points[0].pose.position
    assert (first.x, first.y) == pytest.approx((x, y), abs=1e-9)
    action = [(p.acceleration_mps2, p.curvature_1pm) for p in trajectory.points[:64]]
    xyz, _ = action_space.integrate(action, trajectory.points[0].velocity_mps)
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    wanted = xyz[:, :2] @ turn.T + [x, y]
    planned = [(p.pose.position.x, p.pose.position.y) for p in path.poses]
    np.testing.assert_allclose(planned, wanted, rtol=0, atol=1e-9)
    assert trajectory.points[0].velocity_mps == pytest.approx(reference.speed_mps, abs=1e-9)
