"""`alpamayo doctor --live` beside a real planner: a sound graph, and one with faults in it."""

from __future__ import annotations

import json
import sys
from typing import Any

from drive import Drive
from harness import START_S, Bench
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from alpamayo_ros.ros.probe import read_header

DOCTOR_S = 60.0  # it listens for seconds, and a busy machine takes some to start it


def examined(bench: Bench) -> tuple[int, list[dict[str, Any]]]:
    """The doctor's exit code and findings, while the bench goes on."""
    path = bench.folder / "findings.json"
    doctor = bench.start_command([
        sys.executable, "-m", "alpamayo_ros.cli", "doctor", "--live", "--for", "2",
        "--json", str(path),
    ])  # fmt: skip
    bench.wait(lambda: not doctor.alive, DOCTOR_S, "findings")
    assert "Traceback" not in doctor.output
    return doctor.process.returncode, json.loads(path.read_text())["findings"]


def test_a_sound_graph(bench: Bench) -> None:
    """Exit code 0; rates, ages and frames of every input are told."""
    bench.start_planner(autostart=True, use_sim_time=True)
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(1)
    code, found = examined(bench)
    assert [f for f in found if f["level"] == "error"] == []
    assert code == 0
    told = {f["area"]: f["what"] for f in found}
    assert " Hz, age " in told["camera front_wide"] and "frame odom" in told["odometry"]
    assert told["node"] == "/planner is active"


def test_a_graph_with_faults(bench: Bench) -> None:
    """A camera that is not there, one of another type, odometry and a listener whose QoS do not
    match: each by name, exit code 1."""
    bench.start_planner(
        autostart=True,
        use_sim_time=True,
        **{"qos_overrides./odom.subscription.reliability": "reliable"},
    )
    drive = Drive(bench.node, sim_time=True, cameras=["front_wide", "cross_left"])
    text = bench.node.create_publisher(String, "/camera/cross_right/image/compressed", 1)
    hasty = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    odometry = bench.node.create_publisher(Odometry, "/odom", hasty)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.node.create_subscription(PathMessage, "/planner/path", lambda message: None, latched)
    bench.wait(lambda: bench.state() == "active", START_S, "active planner")
    drive.start()
    code, found = examined(bench)
    assert code == 1 and text is not None and odometry is not None
    faults = {(f["area"], f["what"]) for f in found if f["level"] == "error"}

    def told(area: str, *words: str) -> bool:
        return any(a == area and all(word in what for word in words) for a, what in faults)

    assert told("camera front_tele", "nobody publishes /camera/front_tele/image/compressed")
    assert told("camera cross_right", "std_msgs/msg/String", "wanted sensor_msgs/msg/Image")
    assert told("odometry", "do not match on /odom", "Best effort publisher")
    assert told("outputs", "/bench hears nothing on /planner/path", "ransient local")
    assert told("plans", "no plan")
    assert not told("camera front_wide")


def test_headers_are_read_from_bytes() -> None:
    """As rclpy serialises them."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 123
    message.header.frame_id = "camera_front"
    read = read_header(serialize_message(message))
    assert read == (1_700_000_000_000_000_123, "camera_front")
