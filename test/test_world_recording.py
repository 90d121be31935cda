"""The recording of the generated world: topics, stamps, calibration; and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from alpamayo_ros import cli
from alpamayo_ros.errors import UserError
from alpamayo_ros.types import DEFAULT_CAMERAS
from alpamayo_ros.world import panda, record
from alpamayo_ros.world.generate import generate_scene
from alpamayo_ros.world.record import EPOCH_NS, RecordOptions
from alpamayo_ros.world.rig import default_rig

SMALL = RecordOptions(seconds=2.0, seed=3, width_px=160, height_px=96)


def messages(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """topic -> (log time, CDR bytes) in the bag's order."""
    result: dict[str, list[tuple[int, bytes]]] = {}
    with Reader(path) as reader:
        for connection, log_ns, data in reader.messages():
            result.setdefault(connection.topic, []).append((log_ns, bytes(data)))
    return result


def stamp_ns(message: object) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "drive"
    record.record(path, SMALL)
    return path


def test_same_seed_same_bytes_other_seed_another_drive(bag: Path, tmp_path: Path) -> None:
    generate_scene.cache_clear()
    record.record(tmp_path / "again", SMALL)
    assert messages(bag) == messages(tmp_path / "again")
    other = RecordOptions(seconds=2.0, seed=4, width_px=160, height_px=96)
    record.record(tmp_path / "other", other)
    image = "/camera/front_wide/image/compressed"
    assert messages(bag)[image] != messages(tmp_path / "other")[image]


def test_topics_counts_types_and_qos(bag: Path) -> None:
    with Reader(bag) as reader:
        found = {c.topic: c for c in reader.connections}
        counts = {c.topic: c.msgcount for c in reader.connections}
    expected = {"/odom": 100, "/tf": 100, "/tf_static": 1}
    for camera in DEFAULT_CAMERAS:
        expected[f"/camera/{camera}/image/compressed"] = 20
        expected[f"/camera/{camera}/camera_info"] = 20
    assert counts == expected
    assert found["/odom"].msgtype == "nav_msgs/msg/Odometry"
    assert found["/tf"].msgtype == "tf2_msgs/msg/TFMessage"
    qos = found["/tf_static"].ext.offered_qos_profiles
    assert [profile.durability for profile in qos] == [QosDurability.TRANSIENT_LOCAL]


def test_stamps_grids_and_arrivals(bag: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    logs = []
    with Reader(bag) as reader:
        stamps: dict[str, list[int]] = {}
        for connection, log_ns, data in reader.messages():
            logs.append(log_ns)
            if connection.topic.startswith("/tf"):
                continue
            message = store.deserialize_cdr(data, connection.msgtype)
            stamps.setdefault(connection.topic, []).append(stamp_ns(message))
            delay_ms = (log_ns - stamp_ns(message)) / 1e6
            low, high = (1.0, 3.0) if connection.topic == "/odom" else (15.0, 25.0)
            assert low <= delay_ms <= high
            if connection.topic.endswith("compressed"):
                assert message.format == "jpeg"
                assert message.header.frame_id == connection.topic.split("/")[2] + "_optical"
                image = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
                assert image.shape == (96, 160, 3)
                assert image[:10, :, 0].mean() > image[:10, :, 2].mean() + 15  # sky: BGR is right
    assert logs == sorted(logs)
    grid = [EPOCH_NS + k * 100_000_000 for k in range(20)]
    assert stamps["/camera/cross_left/image/compressed"] == grid
    assert stamps["/camera/front_tele/camera_info"] == grid
    assert stamps["/odom"] == [EPOCH_NS + 7_000_000 + k * 20_000_000 for k in range(100)]


def test_odometry_agrees_with_its_twist_and_with_tf(bag: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    by_topic = messages(bag)
    odometry = [store.deserialize_cdr(d, "nav_msgs/msg/Odometry") for _, d in by_topic["/odom"]]
    transforms = [store.deserialize_cdr(d, "tf2_msgs/msg/TFMessage") for _, d in by_topic["/tf"]]
    assert (odometry[0].header.frame_id, odometry[0].child_frame_id) == ("odom", "base_link")
    xy = np.array([(m.pose.pose.position.x, m.pose.pose.position.y) for m in odometry])
    yaw = np.array([2 * np.arctan2(m.pose.pose.orientation.z, m.pose.pose.orientation.w)
                    for m in odometry])  # fmt: skip
    speed = np.array([m.twist.twist.linear.x for m in odometry])
    yaw_rate = np.array([m.twist.twist.angular.z for m in odometry])
    velocity = (xy[2:] - xy[:-2]) / 0.04
    along = velocity[:, 0] * np.cos(yaw[1:-1]) + velocity[:, 1] * np.sin(yaw[1:-1])
    across = velocity[:, 1] * np.cos(yaw[1:-1]) - velocity[:, 0] * np.sin(yaw[1:-1])
    np.testing.assert_allclose(along, speed[1:-1], atol=0.01)
    np.testing.assert_allclose(across, 0.0, atol=0.01)
    np.testing.assert_allclose((yaw[2:] - yaw[:-2]) / 0.04, yaw_rate[1:-1], atol=0.01)
    for pose, transform in zip(odometry, (t.transforms[0] for t in transforms), strict=True):
        assert stamp_ns(pose) == stamp_ns(transform)
        assert pose.pose.pose.position.x == transform.transform.translation.x
        assert transform.child_frame_id == "base_link"


def test_camera_info_and_static_transforms_are_the_rigs(bag: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    by_topic = messages(bag)
    rig = default_rig(160, 96)
    _, data = by_topic["/tf_static"][0]
    static = store.deserialize_cdr(data, "tf2_msgs/msg/TFMessage").transforms
    assert [t.child_frame_id for t in static] == [c.optical_frame for c in rig]
    for camera, transform in zip(rig, static, strict=True):
        assert transform.header.frame_id == "base_link"
        t, q = transform.transform.translation, transform.transform.rotation
        assert (t.x, t.y, t.z) == camera.position_in_rig_m
        np.testing.assert_allclose((q.x, q.y, q.z, q.w), camera.rig_from_optical_xyzw)
        _, data = by_topic[f"/camera/{camera.name}/camera_info"][0]
        info = store.deserialize_cdr(data, "sensor_msgs/msg/CameraInfo")
        assert (info.width, info.height) == (160, 96)
        np.testing.assert_allclose(info.k.reshape(3, 3), camera.intrinsics)
        np.testing.assert_allclose(info.p.reshape(3, 4)[:, :3], camera.intrinsics)


@pytest.mark.parametrize("rate_hz", [15, 30, 36])
def test_camera_rates_that_do_not_divide_a_second_evenly(rate_hz: int) -> None:
    options = RecordOptions(seconds=3.0, camera_rate_hz=rate_hz)
    events = [e for e in record.schedule(options, default_rig()) if e.camera == "front_wide"]
    stamps = [e.since_start_ns for e in events]
    assert len(stamps) == 3 * rate_hz
    assert stamps == [round(k * 1e9 / rate_hz) for k in range(len(stamps))]


@pytest.mark.parametrize(
    "values, named",
    [
        ({"seconds": 0.0}, "0 s"),
        ({"seconds": float("nan")}, "nan s"),
        ({"camera_rate_hz": 0}, "0 Hz"),
        ({"camera_rate_hz": 61}, "61 Hz"),
        ({"width_px": 578}, "578x320"),
        ({"cruise_mps": 40.0}, "40 m/s"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_options_out_of_range_are_refused_by_name(values: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        RecordOptions(**values)


def test_an_existing_bag_is_kept_unless_overwrite(bag: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(bag, path)
    with pytest.raises(UserError, match="--overwrite"):
        record.record(path, SMALL)
    record.record(path, RecordOptions(1.0, 0, 10, 64, 48), overwrite=True)
    assert len(messages(path)["/odom"]) == 50


def test_a_failed_recording_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: np.ndarray) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(record, "encode_jpeg", fail)
    with pytest.raises(RuntimeError, match="broken"):
        record.record(tmp_path / "drive", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(record.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="MB free"):
        record.record(tmp_path / "drive", SMALL)


def test_missing_panda3d_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "panda3d.core", None)
    with pytest.raises(UserError, match="pip install panda3d"):
        panda.OffscreenCameras(default_rig(64, 48))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, result = tmp_path / "drive", tmp_path / "result.json"
    arguments = ["world", "record", "--seconds", "1", "--size", "64x48", "--out", str(out)]
    assert cli.main([*arguments, "--json", str(result)]) == 0
    assert str(out) in capsys.readouterr().out
    written = json.loads(result.read_text())
    assert written["topics"]["/odom"] == 50
    assert written["messages"] == sum(len(v) for v in messages(out).values())
    assert cli.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*arguments[:4], "--size", "big", "--out", str(out)]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
