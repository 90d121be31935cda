"""Faults that need real processes: a hung model, a killed planner, a full disk, a wrong camera."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from alpamayo_ros.msg import PlannedTrajectory, PlannerAvailability, VehicleCommand
from drive import Drive, camera_topics, nanoseconds
from harness import START_S, Bench, NodeProcess
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool, String

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.diagnosis import Level
from alpamayo_ros.messages import header
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import make
from alpamayo_ros.safety.faults import BEHAVIOUR, Fault
from alpamayo_ros.types import DEFAULT_CAMERAS
from alpamayo_ros.world.messages import WorldMessages
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M
from alpamayo_ros.world.vehicle import WIDTH_M

SCRIPT = "planner_with_test_backends.py"
LATE_MS = 1000  # of simulated time that a busy machine may take to hear of a tick's end
DRIVE_S = 90.0  # for what a busy machine may make of ten seconds of driving
A = PlannerAvailability


def listen(bench: Bench, kind: Any, topic: str) -> list[Any]:
    """What will be heard on a topic."""
    heard: list[Any] = []
    bench.node.create_subscription(kind, topic, heard.append, QoSProfile(depth=100))
    return heard


def planning(bench: Bench, script: str = "", **parameters: Any) -> Drive:
    """An active planner and a drive for it, in simulated time."""
    bench.start_planner(script, autostart=True, use_sim_time=True, **parameters)
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    return drive


def wait_says(bench: Bench, fault: Fault) -> None:
    """Until /diagnostics has what is declared of a fault."""
    declared = BEHAVIOUR[fault]

    def is_said() -> bool:
        status = bench.diagnostic(f": {declared.entry}")
        wanted = bytes([declared.level.value])
        return status is not None and status.level == wanted and declared.says in status.message

    bench.wait(is_said, 10.0, f"{declared.says} in /diagnostics")


def test_a_hung_model(bench: Bench, manifest: Callable[..., str]) -> None:
    """It never comes back from a plan: the vehicle is stopped, ~/availability says so; when it
    does come back, its old plan is not driven, and planning goes on."""
    hangs = bench.folder / "hangs"
    heard = listen(bench, A, "/planner/availability")
    planning(bench, SCRIPT, model=manifest(hangs_while_file=str(hangs)))
    bench.wait_plans(3)
    bench.wait(lambda: heard[-1].state == A.AVAILABLE, 10.0, "available")
    hangs.touch()
    wait_says(bench, Fault.MODEL_HUNG)
    bench.wait(lambda: heard[-1].state == A.STOPPING, 10.0, "stopping")
    assert "no plan for" in heard[-1].reason
    seen = len(bench.trajectories)
    bench.wait(lambda: len(bench.trajectories) >= seen + 10, 10.0, "stops")
    assert {t.source for t in bench.trajectories[seen:]} == {PlannedTrajectory.SOURCE_FALLBACK}
    hung_at = bench.trajectories[-1].header.stamp.sec
    hangs.unlink()
    bench.wait_plans(3)
    bench.wait(lambda: heard[-1].state == A.AVAILABLE, 10.0, "available")
    assert all(t.header.stamp.sec >= hung_at - 1 for t in bench.planned[-3:])
    sequences = [message.sequence for message in heard]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_the_vehicle_around_it(bench: Bench, manifest: Callable[..., str]) -> None:
    """Manual driving, a parameter set meanwhile, a route text that grows old: each is told, and
    plans go on; before and after, ~/availability beats with the reason."""
    heard = listen(bench, A, "/planner/availability")
    latched = topics.reliable_qos(latched=True)
    engaged = bench.node.create_publisher(Bool, "/planner/engaged", latched)
    route = bench.node.create_publisher(String, "/planner/navigation", topics.reliable_qos())
    engaged.publish(Bool(data=False))
    bench.start_planner(
        SCRIPT, use_sim_time=True, model=manifest(takes_navigation=True),
        navigation_timeout_s=1.0, configure_odometry_wait_s=0.0, hardware_id="car 7",
    )  # fmt: skip
    bench.wait(lambda: heard, 10.0, "a heartbeat")
    assert heard[-1].state == A.UNAVAILABLE and "unconfigured" in heard[-1].reason
    assert bench.change("configure") and bench.change("activate")
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected and route.get_subscription_count(), START_S, "subscriptions")
    drive.start()
    route.publish(String(data="Turn left in 40 m"))
    bench.wait_plans(3)
    bench.wait(lambda: heard[-1].state == A.AVAILABLE, 10.0, "available")
    assert not heard[-1].engaged
    engaged.publish(Bool(data=True))
    bench.wait(lambda: heard[-1].engaged, 5.0, "engaged")
    wait_says(bench, Fault.NAVIGATION_STALE)
    assert bench.set_parameter("tick_deadline_ms", 200.0).successful
    wait_says(bench, Fault.PARAMETERS_CHANGED)
    entry = bench.diagnostic(": planning")
    values = {value.key: value.value for value in entry.values}
    assert entry.hardware_id == "car 7" and float(values["latency_ms_p50"]) > 0.0
    assert 8.0 < float(values["plan_rate_hz"]) < 12.0
    seen = len(bench.statuses)
    bench.wait_plans(3)
    assert not [status.reason for status in bench.statuses[seen:] if status.reason]


def test_a_killed_camera(bench: Bench) -> None:
    """kill -9 of one of three cameras' processes, over DDS: named within the declared time, the
    vehicle is being stopped meanwhile, and plans come again with a new process."""
    declared = BEHAVIOUR[Fault.CAMERA_LOST]
    names = ("cross_left", "cross_right", "front_tele")
    topic_of = dict(zip(DEFAULT_CAMERAS, camera_topics(raw=False)))
    stamps: list[Any] = []
    bench.node.create_subscription(
        CompressedImage,
        topic_of["front_tele"],
        lambda image: stamps.append(image.header.stamp),
        QoSProfile(depth=100),
    )

    def start(name: str) -> NodeProcess:
        return bench.start("", name, script="camera_process.py", topic=topic_of[name])

    cameras = {name: start(name) for name in names}
    bench.start_planner(autostart=True, use_sim_time=True)
    drive = Drive(bench.node, sim_time=True, cameras=["front_wide"])

    def is_connected() -> bool:
        heard = all(bench.node.count_publishers(topic_of[name]) for name in names)
        return heard and drive.connected and bench.node.count_subscribers("/clock") > len(names)

    bench.wait(is_connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(3)
    assert cameras["front_tele"].stop(signal.SIGKILL) == -signal.SIGKILL
    wait_says(bench, Fault.CAMERA_LOST)
    last_ns = nanoseconds(stamps[-1])
    refused = [s for s in bench.statuses if s.reason == declared.says and s.source == "front_tele"]
    # A busy machine may have held up its frames before: these are of ticks that it never served.
    first = next(s for s in refused if nanoseconds(s.due) > last_ns)
    assert nanoseconds(first.header.stamp) - last_ns <= (declared.within_ms + LATE_MS) * 10**6
    seen = len(bench.trajectories)
    bench.wait(lambda: len(bench.trajectories) >= seen + 10, 10.0, "stops")
    assert {t.source for t in bench.trajectories[seen:]} == {PlannedTrajectory.SOURCE_FALLBACK}
    start("front_tele")
    bench.wait_plans(3)


def test_a_killed_planner(bench: Bench) -> None:
    """kill -9 while it drives: heartbeats end, the controller stops the vehicle in its lane."""
    heard = listen(bench, A, "/planner/availability")
    odometry = listen(bench, Odometry, "/odom")
    commands = listen(bench, VehicleCommand, "/controller/command")
    planner = bench.start_planner(autostart=True, use_sim_time=True)
    bench.start("controller_node", use_sim_time=True)
    bench.start(
        "world_node", scenario="straight", seed=2, seconds=600, wait_for_subscribers_s=START_S,
        width_px=160, height_px=96,
    )  # fmt: skip
    bench.wait(lambda: commands, DRIVE_S, "a command")
    tracking = VehicleCommand.STATE_TRACKING
    bench.wait(lambda: commands[-1].state == tracking, DRIVE_S, "a tracking command")
    bench.wait(lambda: heard[-1].state == A.AVAILABLE, DRIVE_S, "available")
    planner.stop(signal.SIGKILL)
    last = bench.trajectories[-1]
    bench.wait(
        lambda: commands[-1].state == VehicleCommand.STATE_STOPPING, DRIVE_S, "a stopping command"
    )
    beats = len(heard)
    bench.wait(lambda: odometry[-1].twist.twist.linear.x == 0.0, DRIVE_S, "standstill")
    assert len(heard) == beats
    assert commands[-1].plan_sequence <= last.sequence + 1
    assert all(m.twist.twist.linear.x >= 0.0 for m in odometry)
    free_m = 0.5 * (LANE_WIDTH_M - WIDTH_M)
    assert all(abs(m.pose.pose.position.y - EGO_LANE_OFFSET_M) < free_m for m in odometry)


def test_cameras_that_are_not_the_models(bench: Bench, tmp_path: Path) -> None:
    """Left and right swapped by their mountings: configure is refused and says so; `flag` lets it
    pass, with an error in /diagnostics."""
    rig = default_rig()
    names = {"cross_left": "cross_right", "cross_right": "cross_left"}
    messages = WorldMessages(make, rig, 0)
    static = bench.node.create_publisher(
        type(messages.mountings()), "/tf_static", topics.reliable_qos(latched=True)
    )
    static.publish(messages.mountings())
    infos = {}
    for camera in rig:
        said = make_info(messages, camera.name, names.get(camera.name, camera.name))
        infos[camera.name] = (
            said,
            bench.node.create_publisher(
                type(said), f"/camera/{camera.name}/camera_info", topics.reliable_qos()
            ),
        )
    timer = bench.node.create_timer(
        0.05, lambda: [publisher.publish(said) for said, publisher in infos.values()]
    )
    model = tmp_path / "model.yaml"
    rig_of = {"horizontal_fov_deg": 120, "yaw_deg": 57}
    content = {
        "name": "with_a_rig", "backend": "kinematic", "licence": "Apache-2.0",
        "cameras": {"minimum": 1, "maximum": 7}, "rig": {"cross_left": rig_of},
    }  # fmt: skip
    model.write_text(yaml.safe_dump(content))
    bench.start_planner(model=str(model), configure_odometry_wait_s=5.0)
    assert not bench.change("configure", 30.0)
    wait_says(bench, Fault.CAMERA_CALIBRATION)
    assert "is it swapped" in bench.diagnostic("lifecycle").message
    assert bench.set_parameter("configure_odometry_wait_s", 1.0).successful
    assert bench.set_parameter("camera_info", "flag").successful
    assert bench.change("configure", 30.0)
    error = bytes([Level.ERROR.value])
    bench.wait(
        lambda: (
            (s := bench.diagnostic("camera_info")) and s.level == error and "swapped" in s.message
        ),
        10.0,
        "the flag in /diagnostics",
    )
    # The refusal of before is kept, with its time.
    values = {value.key: value.value for value in bench.diagnostic("lifecycle").values}
    assert "is it swapped" in values["last_error"] and float(values["last_error_stamp"]) > 0.0
    bench.node.destroy_timer(timer)


def make_info(messages: WorldMessages, camera: str, mounted_as: str) -> Any:
    """A CameraInfo whose frame is that of another camera."""
    frame = messages.camera_header(mounted_as, 0).frame_id
    return messages.camera_info(camera, header(make, 0, frame))


def test_a_disk_that_is_full(bench: Bench) -> None:
    """The recorder ends with the reason and exit code 1; what it had recorded can be read."""
    said = bench.node.create_publisher(String, "/said", topics.reliable_qos())
    out = bench.folder / "recording"
    # A file may not grow beyond 40 MB: more than DDS maps, less than is said.
    words = bench.arguments("", {"bag": str(out), "topics": ["/said"]})
    limited = 'ulimit -f 40000; exec "$@"'
    command = ["bash", "-c", limited, "-", sys.executable, "-m", "alpamayo_ros.ros.recorder_node"]
    recorder = bench.start_command([*command, *words])
    bench.wait(said.get_subscription_count, START_S, "the recorder")
    text = String(data="x" * 2_000_000)
    bench.node.create_timer(0.02, lambda: said.publish(text))
    bench.wait(lambda: not recorder.alive, 30.0, "its end")
    assert recorder.process.returncode == 1
    assert "Free the disk" in recorder.output
    with BagReader(out) as bag:
        assert any("is cut off" in warning for warning in bag.warnings)
        lengths = [len(message.data) for _, _, message in bag.messages(["/said"])]
    assert len(lengths) >= 5 and set(np.diff(lengths)) == {0}
