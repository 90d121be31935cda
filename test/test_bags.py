"""Recordings: what is written is read back, what is damaged says so, nothing is lost."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from alpamayo_ros.bags.reader import BagReader, TopicInfo
from alpamayo_ros.bags.recovery import reordered
from alpamayo_ros.bags.typestore import package_typestore
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.errors import BagError, UserError

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
T0 = 1_700_000_000_000_000_000
MS = 1_000_000
ODOMETRY = "nav_msgs/msg/Odometry"


def write_drive(path: Path, seconds: float = 2.0, *, overwrite: bool = False) -> None:
    """50 Hz odometry, 10 Hz images of 40 kB, a latched transform."""
    rng = np.random.default_rng(7)
    with BagWriter(path, overwrite=overwrite) as bag:
        bag.add_topic("/odom", ODOMETRY)
        bag.add_topic("/image", "sensor_msgs/msg/CompressedImage")
        bag.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", latched=True)
        transform = bag.make("geometry_msgs/msg/TransformStamped", child_frame_id="camera")
        bag.write("/tf_static", T0, bag.make("tf2_msgs/msg/TFMessage", transforms=[transform]))
        for k in range(int(seconds * 50)):
            message = bag.make(ODOMETRY, child_frame_id="base_link")
            message.pose.pose.position.x = 0.2 * k
            bag.write("/odom", T0 + k * 20 * MS, message)
            if k % 5 == 0:
                data = rng.integers(0, 256, 40_000, np.uint8)
                image = bag.make("sensor_msgs/msg/CompressedImage", format="jpeg", data=data)
                bag.write("/image", T0 + k * 20 * MS + 1, image)


def the_mcap(folder: Path) -> Path:
    return next(folder.glob("*.mcap"))


@pytest.mark.parametrize("name", ["drive", "drive.mcap"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    """A folder and a bare file give back the same messages, in log-time order."""
    write_drive(tmp_path / name)
    with BagReader(tmp_path / name) as bag:
        assert bag.topics == {
            "/odom": TopicInfo(ODOMETRY, 100, False),
            "/image": TopicInfo("sensor_msgs/msg/CompressedImage", 20, False),
            "/tf_static": TopicInfo("tf2_msgs/msg/TFMessage", 1, True),
        }
        assert (bag.start_ns, bag.end_ns) == (T0, T0 + 99 * 20 * MS)
        assert bag.warnings == []
        read = list(bag.messages())
        assert [ns for _, ns, _ in read] == sorted(ns for _, ns, _ in read)
        x = [m.pose.pose.position.x for topic, _, m in read if topic == "/odom"]
        np.testing.assert_allclose(x, 0.2 * np.arange(100))
        assert len(list(bag.messages(["/image"]))) == 20
        assert list(bag.messages([])) == []
        window = bag.messages(["/odom"], start_ns=T0 + 20 * MS, stop_ns=T0 + 60 * MS)
        assert [ns - T0 for _, ns, _ in window] == [20 * MS, 40 * MS]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_metadata_is_readable_by_humble(tmp_path: Path) -> None:
    """Version 8, the QoS a string of numbers; Humble stops at a sequence."""
    from ruamel.yaml import YAML

    write_drive(tmp_path / "drive")
    text = (tmp_path / "drive" / "metadata.yaml").read_text()
    info = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]
    assert info["version"] == 8
    assert info["relative_file_paths"] == ["drive.mcap"]
    profiles = {
        t["topic_metadata"]["name"]: t["topic_metadata"]["offered_qos_profiles"]
        for t in info["topics_with_message_count"]
    }
    assert all(isinstance(profile, str) for profile in profiles.values())
    assert YAML(typ="safe").load(profiles["/tf_static"])[0]["durability"] == 1


def test_own_types_and_raw_copy(tmp_path: Path) -> None:
    """The package's messages serialise, and a raw copy is byte for byte the same."""
    with BagWriter(tmp_path / "a") as bag:
        bag.add_topic("/t", "alpamayo_ros/msg/PlannedTrajectory")
        point = bag.make("alpamayo_ros/msg/PlannedTrajectoryPoint", velocity_mps=3.5)
        bag.write("/t", 5, bag.make("alpamayo_ros/msg/PlannedTrajectory", points=[point] * 65))
    with BagReader(tmp_path / "a") as source, BagWriter(tmp_path / "b") as target:
        for topic, msgtype, log_ns, data in source.raw_messages():
            target.add_topic(topic, msgtype)
            target.write_raw(topic, log_ns, data)
    with BagReader(tmp_path / "a") as a, BagReader(tmp_path / "b") as b:
        assert list(a.raw_messages()) == list(b.raw_messages())
        assert [p.velocity_mps for _, _, m in b.messages() for p in m.points] == [3.5] * 65


def test_the_bag_s_own_definition_wins(tmp_path: Path) -> None:
    """A type unknown here, as another package's, is read by what the bag says about it."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("float64 speed\nstring unit", "other_msgs/msg/Speed"))
    with BagWriter(tmp_path / "bag", typestore=store) as bag:
        bag.add_topic("/speed", "other_msgs/msg/Speed")
        bag.write("/speed", 1, bag.make("other_msgs/msg/Speed", speed=4.0, unit="m/s"))
    assert "other_msgs/msg/Speed" not in package_typestore().fielddefs
    with BagReader(tmp_path / "bag") as reader:
        assert [m.unit for _, _, m in reader.messages()] == ["m/s"]


def test_make_brings_numbers_to_the_field_s_type() -> None:
    """rosbags writes an array's memory as it is: int64 in a float64 field would be garbage."""
    bag = BagWriter(Path("unused"))
    info = bag.make("sensor_msgs/msg/CameraInfo", k=[1, 0, 2, 0, 1, 2, 0, 0, 1], d=range(5))
    assert info.k.dtype == np.float64 and info.d.dtype == np.float64
    with pytest.raises(BagError, match="k has 3 values, wanted 9"):
        bag.make("sensor_msgs/msg/CameraInfo", k=[1, 2, 3])
    with pytest.raises(BagError, match="has no field speed"):
        bag.make("nav_msgs/msg/Odometry", speed=1)


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    """A run that fails half way leaves neither a half bag nor a temporary one."""
    with pytest.raises(RuntimeError, match="half way"), BagWriter(tmp_path / "drive") as bag:
        bag.add_topic("/odom", ODOMETRY)
        bag.write("/odom", 1, bag.make(ODOMETRY))
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_bag(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive")
    before = the_mcap(tmp_path / "drive").read_bytes()
    with pytest.raises(BagError), BagWriter(tmp_path / "drive", overwrite=True) as bag:
        bag.write("/never_added", 1, None)
    assert the_mcap(tmp_path / "drive").read_bytes() == before
    write_drive(tmp_path / "drive", seconds=1.0, overwrite=True)
    assert len(the_mcap(tmp_path / "drive").read_bytes()) < len(before)
    assert [p.name for p in tmp_path.iterdir()] == ["drive"]


def test_what_is_not_a_bag_is_never_replaced(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive")
    with pytest.raises(UserError, match="exists"):
        BagWriter(tmp_path / "drive")
    (tmp_path / "drive" / "notes.txt").write_text("keep me")
    with pytest.raises(UserError, match="notes.txt"):
        BagWriter(tmp_path / "drive", overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("keep me")
    with pytest.raises(UserError, match="without a recording"):
        BagWriter(tmp_path / "home", overwrite=True)


def test_a_full_disk_names_the_path(tmp_path: Path) -> None:
    """A limit on the file size stands in for a full disk: the same write fails the same way."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(UserError, match="cannot write .*drive: File too large"):
            write_drive(tmp_path / "drive", seconds=10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same while the index is written at the end."""
    from rosbags.rosbag2 import Writer

    def no_space(self: Writer) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Writer, "close", no_space)
    with pytest.raises(UserError, match="cannot write .*drive: No space left"):
        write_drive(tmp_path / "drive")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99999])
def test_a_cut_off_bag_gives_what_it_holds(tmp_path: Path, share: float) -> None:
    """A killed recorder leaves no metadata.yaml and an .mcap without its end."""
    write_drive(tmp_path / "drive", seconds=12.0)
    mcap = the_mcap(tmp_path / "drive")
    data = mcap.read_bytes()
    mcap.write_bytes(data[: int(len(data) * share)])
    for folder_has_metadata in (True, False):
        if not folder_has_metadata:
            (tmp_path / "drive" / "metadata.yaml").unlink()
        with BagReader(tmp_path / "drive") as bag:
            stamps = [ns for _, ns, _ in bag.messages(["/odom"])]
            assert any("is cut off" in warning for warning in bag.warnings)
        assert stamps == [T0 + k * 20 * MS for k in range(len(stamps))]
        assert len(stamps) > 600 * share - 150  # at most a chunk of 1 MiB is lost


def test_zeros_after_a_power_loss(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive.mcap", seconds=12.0)
    data = (tmp_path / "drive.mcap").read_bytes()
    (tmp_path / "drive.mcap").write_bytes(data[: len(data) // 2] + bytes(100_000))
    with BagReader(tmp_path / "drive.mcap") as bag:
        assert len(list(bag.messages())) > 100


def test_damage_inside_is_an_error_with_the_path(tmp_path: Path) -> None:
    """Bytes flipped in the middle, index intact."""
    write_drive(tmp_path / "drive", seconds=12.0)
    mcap = the_mcap(tmp_path / "drive")
    data = bytearray(mcap.read_bytes())
    third = len(data) // 3
    data[third : third + 300_000] = b"\xa5" * 300_000
    mcap.write_bytes(data)
    with pytest.raises(BagError, match="drive"), BagReader(tmp_path / "drive") as bag:
        list(bag.messages())


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"), BagReader(tmp_path / "none"):
        pass
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="rosbags-convert --src .*old.bag"):
        BagReader(tmp_path / "old.bag").__enter__()
    for name, content in (
        ("x.mcap", b"no mcap at all"),
        ("x.db3", b"no database"),
        ("y.mcap", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BagError, match=f"{name} is not readable"):
            BagReader(tmp_path / name).__enter__()
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(BagError, match="not a recording"):
        BagReader(tmp_path / "x.txt").__enter__()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no metadata.yaml"):
        BagReader(tmp_path / "empty").__enter__()
    write_drive(tmp_path / "drive")
    (tmp_path / "drive" / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    with pytest.raises(BagError, match="not readable"):
        BagReader(tmp_path / "drive").__enter__()


def test_missing_topics_are_listed_with_guesses(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive")
    with BagReader(tmp_path / "drive") as bag:
        bag.require(["/odom"])
        bag.require({"/odom": [ODOMETRY]})
        with pytest.raises(BagError) as caught:
            bag.require({"/vehicle/pose": [ODOMETRY], "/imag": (), "/image": [ODOMETRY]})
    text = str(caught.value)
    assert "no topic /vehicle/pose (did you mean /odom?)" in text
    assert "no topic /imag (did you mean /image?)" in text
    assert "/image is sensor_msgs/msg/CompressedImage, wanted nav_msgs/msg/Odometry" in text
    assert "/tf_static  tf2_msgs/msg/TFMessage  1 messages" in text


def test_split_bag_is_merged_by_time(tmp_path: Path) -> None:
    """Two files that overlap in time come out in order."""
    write_drive(tmp_path / "drive")
    shutil.copy(the_mcap(tmp_path / "drive"), tmp_path / "drive" / "drive_2.mcap")
    (tmp_path / "drive" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "drive") as bag:
        stamps = [ns for _, ns, _ in bag.messages()]
        assert bag.topics["/odom"].count == 200
    assert len(stamps) == 242 and stamps == sorted(stamps)


def test_sqlite(tmp_path: Path) -> None:
    """A .db3 as Humble records it, whole and cut off."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = package_typestore()
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/odom", ODOMETRY, typestore=store)
        data = store.serialize_cdr(BagWriter(tmp_path / "unused").make(ODOMETRY), ODOMETRY)
        for k in range(500):
            writer.write(topic, T0 + k, data)
    database = next((tmp_path / "bag").glob("*.db3"))
    for path in (tmp_path / "bag", database):
        with BagReader(path) as bag:
            assert len(list(bag.messages())) == 500
    database.write_bytes(database.read_bytes()[:100_000])
    with pytest.raises(BagError, match="recover"), BagReader(database) as bag:
        list(bag.messages())


def test_reordered_sorts_within_its_window() -> None:
    stamps = [3, 1, 2, 2_000_000_000, 1_500_000_000, 4_000_000_000]
    assert [ns for _, ns, _ in reordered((0, ns, b"") for ns in stamps)] == sorted(stamps)


@pytest.mark.skipif(not (SHARED / "kitti06").is_dir(), reason=f"no {SHARED}/kitti06")
@pytest.mark.parametrize("name", ["kitti06", "kitti06/kitti06.mcap"])
def test_kitti06(name: str) -> None:
    with BagReader(SHARED / name) as bag:
        assert bag.topics["/odom"] == TopicInfo(ODOMETRY, 1000, False)
        stamps = [ns for _, ns, _ in bag.messages()]
        assert len(stamps) == 1204 and stamps == sorted(stamps)
        assert (bag.end_ns - bag.start_ns) / 1e9 == pytest.approx(19.98)
