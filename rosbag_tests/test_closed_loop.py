"""World, planner and controller as processes: the vehicle drives, and stops without a planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alpamayo_ros.msg import VehicleCommand
from harness import START_S, Bench
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from alpamayo_ros import cli
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M
from alpamayo_ros.world.scenarios import START_M
from alpamayo_ros.world.vehicle import WIDTH_M

DRIVE_S = 90.0  # for what a busy machine may make of ten seconds of driving
FREE_M = 0.5 * (LANE_WIDTH_M - WIDTH_M)
SMALL = {"width_px": 160, "height_px": 96}  # 2 is as good as 2.0: numbers are taken either way


def listen(bench: Bench, kind: Any, topic: str) -> list[Any]:
    """What will be heard on a topic."""
    heard: list[Any] = []
    bench.node.create_subscription(kind, topic, heard.append, QoSProfile(depth=100))
    return heard


def test_drives_in_its_lane_and_stops_when_the_planner_ends(bench: Bench) -> None:
    """The chain of `make demo` on a straight road; then the planner goes, and with it the plans."""
    odometry = listen(bench, Odometry, "/odom")
    commands = listen(bench, VehicleCommand, "/controller/command")
    report = bench.folder / "report.json"
    planner = bench.start_planner(autostart=True, use_sim_time=True)
    bench.start("controller_node", use_sim_time=True)
    world = bench.start(
        "world_node", scenario="straight", seed=2, seconds=600, report=str(report),
        wait_for_subscribers_s=START_S, **SMALL,
    )  # fmt: skip
    bench.wait(lambda: commands, DRIVE_S, "a command")
    assert commands[0].header.frame_id == "base_link"
    engaged_m = odometry[-1].pose.pose.position.x

    def moved() -> bool:
        return odometry[-1].pose.pose.position.x > engaged_m + 30.0

    bench.wait(moved, DRIVE_S, "30 m of driving by commands")
    assert engaged_m >= START_M
    offsets = [abs(m.pose.pose.position.y - EGO_LANE_OFFSET_M) for m in odometry]
    assert max(offsets) < FREE_M
    assert planner.stop() == 0
    stopping = VehicleCommand.STATE_STOPPING
    bench.wait(lambda: commands[-1].state == stopping, DRIVE_S, "a stopping command")
    assert "trajectory is" in commands[-1].reason
    bench.wait(lambda: odometry[-1].twist.twist.linear.x == 0.0, DRIVE_S, "standstill")
    assert all(m.twist.twist.linear.x >= 0.0 for m in odometry)
    assert all(abs(m.pose.pose.position.y - EGO_LANE_OFFSET_M) < FREE_M for m in odometry)
    assert world.stop() == 0
    figures = json.loads(report.read_text())
    assert figures["lane_departures"] == 0 and figures["collisions"] == []
    assert figures["progress_m"] > 30.0


def test_a_trajectory_in_another_frame_is_refused(bench: Bench) -> None:
    """path_frame base: the controller says what to set, and commands nothing."""
    commands = listen(bench, VehicleCommand, "/controller/command")
    bench.start_planner(autostart=True, use_sim_time=True, path_frame="base")
    controller = bench.start("controller_node", use_sim_time=True)
    bench.start(
        "world_node", scenario="straight", seconds=600, wait_for_subscribers_s=START_S, **SMALL
    )
    remedy = "set the planner's path_frame to odometry"
    bench.wait(lambda: remedy in controller.output, DRIVE_S, "the remedy")
    assert commands == []


def test_the_route_speaks_and_a_scenario_ends(bench: Bench) -> None:
    """A junction scenario: navigation text for the planner; raw images; exit code 0 at its end."""
    said = listen(bench, String, "/planner/navigation")
    world = bench.start(
        "world_node", scenario="junction", seed=1, seconds=14, rate=4.0, image_transport="raw",
        wait_for_subscribers_s=0, **SMALL,
    )  # fmt: skip
    bench.wait(lambda: any(text.data for text in said), DRIVE_S, "a word of the route")
    words = next(text.data for text in said if text.data)
    assert words.startswith(("Turn left in ", "Turn right in ", "Go straight in "))
    bench.wait(lambda: not world.alive, DRIVE_S, "the end of the scenario")
    assert world.process.returncode == 0


def test_the_demo_drives_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`alpamayo demo`: plans, the drive's figures, and a picture with camera images."""
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)  # a domain of its own
    out = tmp_path / "demo"
    assert cli.main(["demo", "--seconds", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "0 lane departures, 0 collisions" in printed
    content = json.loads((out / "report.json").read_text())
    assert content["plans"] > 5 and content["world"]["seconds"] == 5.0
    assert (out / "overview.png").stat().st_size > 50_000


def test_bad_parameters_end_the_world_with_the_remedy(bench: Bench) -> None:
    """Exit code 1 and the choices."""
    for parameters, words in (
        ({"scenario": "moon"}, "no scenario 'moon'; there are straight"),
        ({"seconds": 0}, "parameter seconds is 0, wanted 1 to 600"),
        ({"image_transport": "theora"}, "wanted compressed or raw"),
    ):
        world = bench.start("world_node", **parameters)
        bench.wait(lambda: not world.alive, DRIVE_S, "its end")  # noqa: B023 (waited for here)
        assert world.process.returncode == 1
        assert words in world.output
