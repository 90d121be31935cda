"""World, planner and controller as processes: the vehicle drives, and stops without a planner."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import views
from alpamayo_ros.msg import VehicleCommand
from harness import START_S, Bench
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros import cli
from alpamayo_ros.ros.markers import LEVELS, NAMESPACES
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
    """The chain of `make demo` on a straight road, images reprojected; then the planner goes."""
    odometry = listen(bench, Odometry, "/odom")
    commands = listen(bench, VehicleCommand, "/controller/command")
    markers = listen(bench, MarkerArray, "/planner/markers")
    report = bench.folder / "report.json"
    planner = bench.start_planner(autostart=True, use_sim_time=True, rig_views="world")
    bench.start("controller_node", use_sim_time=True)
    world = bench.start(
        "world_node", scenario="straight", seed=2, seconds=600, report=str(report),
        wait_for_subscribers_s=START_S, **SMALL,
    )  # fmt: skip
    bench.wait(lambda: commands, DRIVE_S, "a command")
    assert commands[0].header.frame_id == "base_link"
    # Reprojected by CameraInfo and /tf_static: of its own views the world's rig sees everything.

    def coverage() -> dict[str, float]:
        sources = bench.statuses[-1].sources if bench.statuses else []
        return {source.name: source.view_coverage for source in sources}

    def unknown() -> set[str]:
        return {name for name, share in coverage().items() if math.isnan(share)}

    bench.wait(lambda: unknown() == {"odometry"}, DRIVE_S, "every camera's share of its view")
    assert min(share for name, share in coverage().items() if name != "odometry") > 0.95
    assert_views_show_the_graph(bench, markers, odometry[-1])
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


def assert_views_show_the_graph(bench: Bench, markers: list[MarkerArray], odometry: Any) -> None:
    """RViz's and Foxglove's configurations against the running nodes: topics, types, frames."""
    assert views.foxglove().types["/diagnostics"] == views.FOXGLOVE_TYPES["DiagnosticSummary"]
    graph = dict(bench.node.get_topic_names_and_types())
    drawn = bench.wait(
        lambda: next((m for m in markers if any(x.ns == "path" for x in m.markers)), None),
        DRIVE_S, "markers of a plan",
    )  # fmt: skip
    # frame -> who has it: the plan's, odometry's, and the rig's.
    frames = {bench.paths[-1].header.frame_id, odometry.header.frame_id, odometry.child_frame_id}
    for shown in (views.rviz(), views.foxglove()):
        for topic, understood in shown.types.items():
            assert topic in graph, f"{topic} is shown, and nobody publishes it"
            assert not understood or set(graph[topic]) <= understood, topic
            assert bench.node.get_publishers_info_by_topic(topic), topic
        for topic, best_effort in shown.best_effort.items():
            offered = {i.qos_profile.reliability for i in
                       bench.node.get_publishers_info_by_topic(topic)}  # fmt: skip
            # A reliable subscription hears nothing from a best-effort publisher.
            assert best_effort or offered == {ReliabilityPolicy.RELIABLE}, topic
        assert shown.frames <= frames, shown.frames
        messages = {"/odom": odometry, "/planner/trajectory": bench.trajectories[-1],
                    "/planner/status": bench.statuses[-1]}  # fmt: skip
        for topic, path in shown.fields:
            assert isinstance(views.value_at(messages[topic], path), float), (topic, path)
    assert views.rviz().namespaces == set(NAMESPACES) >= {m.ns for m in drawn.markers}
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in drawn.markers}
    assert stamps <= {(p.header.stamp.sec, p.header.stamp.nanosec) for p in bench.paths}
    assert len(stamps) == 1  # t0
    assert {m.header.frame_id for m in drawn.markers} <= frames
    refused = next(m for m in markers if any(x.text for x in m.markers if x.ns == "status"))
    reasons = {status.reason for status in bench.statuses if status.reason}
    assert any(f"no plan: {reason}" in refused.markers[0].text for reason in reasons)
    assert_health_is_shown(bench, markers, odometry.child_frame_id)


def assert_health_is_shown(bench: Bench, markers: list[MarkerArray], rig_frame_id: str) -> None:
    """The newest says the worst that /diagnostics does, with its stamp."""

    def is_told() -> bool:
        health = [m for array in markers for m in array.markers if m.ns == "diagnostics"]
        assert {(m.header.frame_id, m.type) for m in health} <= {
            (rig_frame_id, Marker.TEXT_VIEW_FACING)
        }
        # More than one has stamp 0, until /clock is heard.
        told = {
            (array.header.stamp.sec, array.header.stamp.nanosec,
             f"{LEVELS[status.level[0]][0]} {status.name}")
            for array in bench.diagnostics
            for status in array.status
            if status.level == max(other.level for other in array.status)
        }  # fmt: skip
        newest = [(m.header.stamp.sec, m.header.stamp.nanosec, m.text.split("\n")[0])
                  for m in health[-1:]]  # fmt: skip
        return bool(newest) and newest[0] in told

    bench.wait(is_told, DRIVE_S, "the worst of /diagnostics in ~/markers")


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
    """`alpamayo demo`: plans, the drive's figures, and a picture with camera images; one of a kind
    that cannot be written is refused before anything is driven."""
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)  # a domain of its own
    out = tmp_path / "demo"
    drive = ["demo", "--seconds", "5", "--out", str(out), "--picture"]
    assert cli.main([*drive, str(tmp_path / "plans.gif")]) == 2 and not out.exists()
    assert "ends in .png or .jpg" in capsys.readouterr().err
    picture = tmp_path / "plans.jpg"
    assert cli.main([*drive, str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "0 lane departures, 0 collisions" in printed
    content = json.loads((out / "report.json").read_text())
    assert content["plans"] > 5 and content["world"]["seconds"] == 5.0
    assert picture.stat().st_size > 50_000


def test_the_demo_waits_for_no_model_that_cannot_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights and a GPU that are not there are named before a process is started."""
    out = tmp_path / "demo"
    checkpoint = f"checkpoint={tmp_path / 'none'}"
    words = ["demo", "--out", str(out), "--model", "alpamayo_1_5", "--option", checkpoint]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "none") in said and not list(out.glob("*.log"))


def test_bad_parameters_end_the_world_with_the_remedy(bench: Bench) -> None:
    """Exit code 1 and the choices."""
    said = (
        ({"scenario": "moon"}, "no scenario 'moon'; there are straight"),
        ({"seconds": 0}, "parameter seconds is 0, wanted 1 to 600"),
        ({"image_transport": "theora"}, "wanted compressed or raw"),
    )
    worlds = [bench.start("world_node", **parameters) for parameters, _ in said]
    for world, (_, words) in zip(worlds, said):
        bench.wait(lambda: not world.alive, DRIVE_S, "its end")  # noqa: B023 (waited for here)
        assert world.process.returncode == 1
        assert words in world.output
