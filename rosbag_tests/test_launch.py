"""The launch files under the real `ros2 launch`, where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from drive import Drive
from harness import PROFILES, START_S, Bench, NodeProcess
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters
from std_msgs.msg import String

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.resources import resource
from alpamayo_ros.ros import topics

LAUNCH = ("launch", "launch_ros", "ros2cli", "ros2launch")
MISSING = [name for name in LAUNCH if importlib.util.find_spec(name) is None]
needs_launch = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {', '.join(MISSING)}: run in a ROS workspace"
)
RESPAWN_S = 20.0  # a delay of 2 s, and a start


@needs_launch
def test_planner_launch_and_respawn(bench: Bench) -> None:
    """planner.launch.py comes up planning, with a DDS profile; kill -9 ends in plans again."""
    for name in PROFILES:
        del bench.environ[name]
    launch = _launch(bench, "planner.launch.py")
    drive = Drive(bench.node)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait(lambda: [t for t in bench.trajectories if t.sequence >= 3], START_S, "plans")
    pid = _planner_pid(launch)
    environ = Path(f"/proc/{pid}/environ").read_bytes().decode()
    for name in PROFILES:
        assert f"{name}={resource('config', 'fastdds_shm.xml')}" in environ
    os.kill(pid, signal.SIGKILL)
    bench.wait(lambda: "process has died" in launch.output, START_S, "news of its death")
    bench.wait(lambda: bench.trajectories[-1].sequence < 3, RESPAWN_S, "plans of a new process")
    bench.wait_plans(3)
    assert bench.state() == "active"
    assert launch.stop(signal.SIGINT) == 0


@needs_launch
def test_launch_arguments() -> None:
    """Arguments reach the node typed; an empty one leaves the parameter file's value."""
    with Bench("/car/planner") as bench:
        file = bench.folder / "mine.yaml"
        values = {"path_frame": "base", "rig_frame": "rear_axle", "autostart": False}
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        launch = _launch(
            bench,
            "planner.launch.py",
            f"params_file:={file}",
            "namespace:=car",
            "camera_names:=front_wide,cross_left",
            "camera_topics:=[/a/image, on]",
            "odometry_topic:=/ego",
            "navigation_topic:=/route/next",
            "use_sim_time:=true",
            "log_level:=warn",
        )
        wanted = {
            "camera_names": ["front_wide", "cross_left"],
            "camera_topics": ["/a/image", "on"],
            "odometry_topic": "/ego",
            "use_sim_time": True,
            "model": "kinematic",
            **values,
        }
        answer = bench.call("get_parameters", GetParameters, GetParameters.Request(names=[*wanted]))
        assert [_plain(value) for value in answer.values] == list(wanted.values())
        assert bench.state() == "unconfigured"
        assert bench.set_parameter("configure_odometry_wait_s", 0.0).successful
        assert bench.change("configure")
        publisher = bench.node.create_publisher(String, "/route/next", topics.reliable_qos())
        bench.wait(publisher.get_subscription_count, START_S, "navigation_topic")
        assert launch.stop(signal.SIGINT) == 0


@needs_launch
def test_what_rviz_is_given() -> None:
    """The fixed frame asked for, and a configuration with the cameras' own topics, raw or not; RViz
    itself is not started."""
    from launch import LaunchContext

    file = resource("launch", "planner.launch.py")
    spec = importlib.util.spec_from_file_location("planner_launch", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    context.launch_configurations.update({name: default for name, (default, _) in
                                          module.OTHERS.items()})  # fmt: skip
    context.launch_configurations.update(dict.fromkeys((*module.TEXTS, *module.LISTS), ""))
    context.launch_configurations.update(
        rviz="true", rviz_fixed_frame="map", camera_topics="/front/image_raw,/tele/image/compressed"
    )
    _, rviz = module._start(context)
    words = [
        "".join(part.perform(context) for part in word) if isinstance(word, list) else str(word)
        for word in rviz._Node__arguments
    ]
    assert words[words.index("-f") + 1] == "map"
    text = Path(words[words.index("-d") + 1]).read_text()
    shown = yaml.safe_load(text)["Visualization Manager"]["Displays"]
    topics_shown = [d["Topic"]["Value"] for d in shown if d["Class"].endswith("/Image")]
    assert topics_shown[:2] == ["/front/image_raw", "/tele/image/compressed"]
    assert topics_shown[2] == "/camera/cross_left/image/compressed"


@needs_launch
@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("camera_topics:=[/a", "camera_topics:=[/a is no list"),
        ("autostart:=perhaps", "autostart:=perhaps is neither true nor false"),
    ],
)
def test_bad_launch_argument(bench: Bench, argument: str, says: str) -> None:
    """An argument that cannot be read ends launch with exit code 1 and says which."""
    launch = _launch(bench, "planner.launch.py", argument)
    bench.wait(lambda: not launch.alive, START_S, "end of launch")
    assert launch.process.returncode == 1
    assert says in launch.output


@needs_launch
def test_replay_launch(bench: Bench, generated_bag: Path) -> None:
    """replay.launch.py plays, plans and records, and ends by itself with exit code 0."""
    out = bench.folder / "plans"
    launch = _launch(
        bench, "replay.launch.py", f"bag:={generated_bag}", f"out:={out}", "seconds:=4"
    )
    bench.wait(lambda: not launch.alive, 40.0, "end of the replay")
    assert launch.process.returncode == 0
    assert "process has died" not in launch.output
    with BagReader(out) as bag:
        assert bag.topics["/planner/path"].count >= 20


@needs_launch
def test_replay_launch_without_a_bag(bench: Bench) -> None:
    """A recording that is not there: the reason, exit code 1, and nothing left running."""
    launch = _launch(bench, "replay.launch.py", "bag:=/nowhere/drive")
    bench.wait(lambda: not launch.alive, 40.0, "end of launch")
    assert launch.process.returncode == 1
    assert "/nowhere/drive does not exist" in launch.output


@needs_launch
def test_demo_launch(bench: Bench) -> None:
    """demo.launch.py drives a scenario and ends with it, exit code 0 and figures in a file."""
    report = bench.folder / "drive.json"
    launch = _launch(
        bench, "demo.launch.py", "scenario:=straight", "seconds:=5", f"report:={report}"
    )
    bench.wait(lambda: not launch.alive, 90.0, "end of the scenario")
    assert launch.process.returncode == 0
    assert "process has died" not in launch.output
    assert bench.paths
    assert json.loads(report.read_text())["lane_departures"] == 0


def _launch(bench: Bench, file: str, *arguments: str) -> NodeProcess:
    """`ros2 launch alpamayo_ros FILE ARGUMENTS…`"""
    ros2 = "import sys; from ros2cli.cli import main; sys.exit(main())"
    bench.environ["ROS_LOG_DIR"] = str(bench.folder / "log")
    command = [sys.executable, "-c", ros2, "launch", "alpamayo_ros", file, *arguments]
    return bench.start_command(command, ends_by=signal.SIGINT)


def _planner_pid(launch: NodeProcess) -> int:
    """The process of planner_node among the descendants of launch."""
    for pid in _descendants(launch.process.pid):
        if b"planner_node" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"launch has no planner_node\n{launch.output}")


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _plain(value: ParameterValue) -> object:
    """The value of a parameter message, of the types that are asked for here."""
    by_type = {1: value.bool_value, 4: value.string_value, 9: list(value.string_array_value)}
    return by_type[value.type]
