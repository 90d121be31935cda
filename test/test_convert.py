"""Clips in the PhysicalAI-AV dataset's layout, made here, to bags; and bags to a model's arrays."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from alpamayo_ros import cli
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.clips.motion import motion_of
from alpamayo_ros.odometry import stamp_ns

av = pytest.importorskip("av", reason="needs PyAV: make test installs it")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow: make test installs it")
pq = pytest.importorskip("pyarrow.parquet")
draco = pytest.importorskip("DracoPy", reason="needs DracoPy: make test installs it")

CLIP, BROKEN = "0b1d-clip", "dead-clip"
FEATURES = {
    "front_wide": "camera_front_wide_120fov",
    "cross_left": "camera_cross_left_120fov",
}
WIDTH, HEIGHT, SECONDS = 192, 108, 9.5
YAW_RATE, SPEED = 0.1, 8.0
FIRST_FRAME_US = -14_217  # as in the dataset: the first frame lies before the clip's time zero
# A lens of the dataset's kind, at a tenth of its size: pixels of an angle, and back.
LENS = {"fw_poly_0": 0.0, "fw_poly_1": 93.1, "fw_poly_2": -0.6, "fw_poly_3": -2.1,
        "fw_poly_4": 0.25, "bw_poly_0": 0.0, "bw_poly_1": 0.01074, "bw_poly_2": 7e-7,
        "bw_poly_3": 2.6e-8, "bw_poly_4": 0.0}  # fmt: skip


def frame_stamps() -> list[int]:
    """30 Hz with the jitter of a real camera: no constant rate reproduces them."""
    jitter = np.random.default_rng(1).integers(-400, 400, round(SECONDS * 30))
    return [FIRST_FRAME_US + round(k * 1e6 / 30) + int(j) for k, j in enumerate(jitter)]


def poses() -> dict[str, list[float]]:
    """100 Hz on an arc at 8 m/s, far from the origin; velocities in the frame of the poses."""
    stamps = np.arange(-100_000, round(SECONDS * 1e6), 10_003)
    yaw = YAW_RATE * stamps * 1e-6
    radius, zero = SPEED / YAW_RATE, 0 * yaw
    columns = {
        "timestamp": stamps, "x": 1000.5 + radius * np.sin(yaw), "y": -radius * np.cos(yaw),
        "z": zero, "qx": zero, "qy": zero, "qz": np.sin(yaw / 2), "qw": np.cos(yaw / 2),
        "vx": SPEED * np.cos(yaw), "vy": SPEED * np.sin(yaw), "vz": zero,
        "ax": zero, "ay": zero, "az": zero, "curvature": zero + YAW_RATE / SPEED,
    }  # fmt: skip
    return {name: column.tolist() for name, column in columns.items()}


def cloud(k: int) -> np.ndarray:
    """(200, 4) points of the k-th spin; intensities are whole 255ths."""
    rng = np.random.default_rng(k)
    points = rng.uniform(-50, 50, (200, 3))
    return np.column_stack([points, rng.integers(0, 256, 200) / 255.0]).astype(np.float32)


def spins() -> dict[str, list[Any]]:
    """Five spins of a lidar, compressed as the dataset has them; the first before time zero."""
    blobs = [
        draco.encode(
            cloud(k)[:, :3], quantization_bits=20, preserve_order=True,
            generic_attributes={"intensity": np.round(cloud(k)[:, 3:] * 255).astype(np.uint8)},
        )
        for k in range(5)
    ]  # fmt: skip
    stamps = [-50_000 + 100_000 * k for k in range(5)]
    return {"spin_index": list(range(5)), "reference_timestamp": stamps,
            "draco_encoded_pointcloud": blobs}  # fmt: skip


def parquet(table: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def mp4(frames: int, brightness: int) -> bytes:
    """H.264 with B frames; frame k has a grey level that tells k."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(frames):
            grey = np.full((HEIGHT, WIDTH, 3), (brightness + k // 2) % 256, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download of one chunk: one good clip, and one whose videos are cut off."""
    root = tmp_path_factory.mktemp("pai")
    rows = ["feature,directory,chunk_path,clip_files_in_zip"]
    stamps = frame_stamps()
    for rank, feature in enumerate(FEATURES.values()):
        folder = root / "camera" / feature
        folder.mkdir(parents=True)
        video = mp4(len(stamps), 40 + 10 * rank)
        with zipfile.ZipFile(folder / f"{feature}.chunk_0007.zip", "w") as archive:
            for clip, data in ((CLIP, video), (BROKEN, video[: len(video) // 2])):
                archive.writestr(f"{clip}.{feature}.mp4", data)
                table = parquet({"timestamp": stamps})
                archive.writestr(f"{clip}.{feature}.timestamps.parquet", table)
        members = json.dumps({
            "video": f"{{clip_id}}.{feature}.mp4",
            "frame_timestamps": f"{{clip_id}}.{feature}.timestamps.parquet",
        }).replace('"', '""')  # fmt: skip
        path = f"camera/{feature}/{feature}.chunk_{{chunk_id:04d}}.zip"
        rows.append(f'{feature},camera,{path},"{members}"')
    (root / "labels" / "egomotion").mkdir(parents=True)
    with zipfile.ZipFile(root / "labels/egomotion/egomotion.chunk_0007.zip", "w") as archive:
        for clip in (CLIP, BROKEN):
            archive.writestr(f"{clip}.egomotion.parquet", parquet(poses()))
    rows.append('egomotion,labels,labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip,'
                '"{""egomotion"": ""{clip_id}.egomotion.parquet""}"')  # fmt: skip
    (root / "lidar").mkdir()
    with zipfile.ZipFile(root / "lidar/lidar_top_360fov.chunk_0007.zip", "w") as archive:
        archive.writestr(f"{CLIP}.lidar_top_360fov.parquet", parquet(spins()))
    rows.append('lidar_top_360fov,lidar,lidar/lidar_top_360fov.chunk_{chunk_id:04d}.zip,'
                '"{""lidar"": ""{clip_id}.lidar_top_360fov.parquet""}"')  # fmt: skip
    sensors = [(clip, feature) for clip in (CLIP, BROKEN) for feature in FEATURES.values()]
    lens = {"width": WIDTH, "height": HEIGHT, "cx": 95.3, "cy": 54.2, **LENS}
    # Looks along the rig's x axis: optical x is right, y down, z forward.
    mount = {"qx": -0.5, "qy": 0.5, "qz": -0.5, "qw": 0.5, "x": 1.7, "y": 0.1, "z": 1.4}
    for name, level, values in (
        ("camera_intrinsics", "camera_name", lens), ("sensor_extrinsics", "sensor_name", mount),
    ):  # fmt: skip
        (root / "calibration" / name).mkdir(parents=True)
        if name == "sensor_extrinsics":
            sensors.append((CLIP, "lidar_top_360fov"))
        table = {"clip_id": [c for c, _ in sensors], level: [f for _, f in sensors]}
        table.update({column: [value] * len(sensors) for column, value in values.items()})
        (root / f"calibration/{name}/{name}.chunk_0007.parquet").write_bytes(parquet(table))
        rows.append(f"{name},calibration,calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet,")
    (root / "features.csv").write_text("\n".join(rows) + "\n")
    index = parquet({"clip_id": [CLIP, BROKEN], "chunk": [7, 7], "split": ["train", "train"]})
    (root / "clip_index.parquet").write_bytes(index)
    return root


@pytest.fixture(scope="module")
def bag(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive"
    assert cli.main(["convert", "pai", CLIP, "--root", str(dataset), "--out", str(path)]) == 0
    return path


def test_stamps_and_poses(bag: Path) -> None:
    """Each frame has its own stamp to the microsecond, each pose its own to 1e-6 m."""
    wide = "/camera/front_wide/image/compressed"
    stamps, greys, odometry = [], [], []
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages([wide, "/odom"]):
            if topic == wide:
                stamps.append(stamp_ns(message.header.stamp))
                picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
                greys.append(float(picture.mean()))
            else:
                odometry.append(message)
    wanted = [stamp for stamp in frame_stamps() if stamp >= 0]
    assert stamps == [1000 * stamp for stamp in wanted]
    first = len(frame_stamps()) - len(wanted)
    np.testing.assert_allclose(greys, [40 + (first + k) // 2 for k in range(len(greys))], atol=3)
    table = poses()
    kept = [k for k, stamp in enumerate(table["timestamp"]) if stamp >= 0]
    assert [stamp_ns(m.header.stamp) for m in odometry] == [
        1000 * table["timestamp"][k] for k in kept
    ]
    for k, message in zip(kept, odometry):
        p = message.pose.pose.position
        assert abs(p.x - table["x"][k]) < 1e-6 and abs(p.y - table["y"][k]) < 1e-6
        twist = message.twist.twist
        assert twist.linear.x == pytest.approx(SPEED) and abs(twist.linear.y) < 1e-9
        assert twist.angular.z == pytest.approx(YAW_RATE, rel=1e-6)


def test_transforms_say_what_odometry_says(bag: Path) -> None:
    """RViz with the fixed frame odom follows /tf: the frames, stamps and poses of /odom."""
    with BagReader(bag) as reader:
        assert not reader.topics["/tf"].latched
        odometry = [m for _, _, m in reader.messages(["/odom"])]
        moved = [m.transforms for _, _, m in reader.messages(["/tf"])]
    assert len(moved) == len(odometry) > 900
    for pose, (transform,) in zip(odometry, moved):
        assert stamp_ns(transform.header.stamp) == stamp_ns(pose.header.stamp)
        assert transform.header.frame_id == pose.header.frame_id == "odom"
        assert transform.child_frame_id == pose.child_frame_id == "base_link"
        at, wanted = transform.transform.translation, pose.pose.pose.position
        assert (at.x, at.y, at.z) == (wanted.x, wanted.y, wanted.z)
        turn, wanted = transform.transform.rotation, pose.pose.pose.orientation
        assert (turn.x, turn.y, turn.z, turn.w) == (wanted.x, wanted.y, wanted.z, wanted.w)


def test_calibration(bag: Path) -> None:
    """The lens is carried whole; CameraInfo's model lies within a fifth of a pixel of it."""
    with BagReader(bag) as reader:
        topics = [f"/camera/front_wide/{name}" for name in ("camera_info", "f_theta")]
        found = {topic: message for topic, _, message in reader.messages([*topics, "/tf_static"])}
        assert reader.topics["/tf_static"].latched
    info, lens = found[topics[0]], json.loads(found[topics[1]].data)
    assert lens["radius_px_of_angle_rad"] == [LENS[f"fw_poly_{k}"] for k in range(5)]
    assert info.distortion_model == "equidistant" and (info.width, info.height) == (WIDTH, HEIGHT)
    exact = FTheta(WIDTH, HEIGHT, 95.3, 54.2, tuple(lens["radius_px_of_angle_rad"]), ())
    rays = np.array([[0.0, 0, 5], [1, 0, 5], [-2, 1, 3], [3, -1, 3]])
    near = cv2.fisheye.projectPoints(
        rays[:, None], np.zeros(3), np.zeros(3), info.k.reshape(3, 3), info.d
    )[0][:, 0]
    np.testing.assert_allclose(near, exact.project(rays), atol=0.2)
    placed = {entry.child_frame_id for entry in found["/tf_static"].transforms}
    assert placed == {f"{name}_optical" for name in FEATURES}


def test_replays_evaluates_and_gives_a_sample(bag: Path, tmp_path: Path) -> None:
    """The bag is one like any other: scored by `evaluate`, and a source of a model's arrays."""
    inputs = [
        option
        for name in FEATURES
        for option in ("--camera", f"{name}=/camera/{name}/image/compressed")
    ]
    out = tmp_path / "scores"
    assert (
        cli.main(["evaluate", "--bags", str(bag), "--out", str(out), "--jobs", "1", *inputs]) == 0
    )
    found = json.loads((out / "summary.json").read_text())
    assert found["constant_turn_rate"]["ade_m"]["6.4"]["value"] < 0.01  # it drives an arc
    sample = tmp_path / "sample.npz"
    asked = ["convert", "sample", str(bag), "--at", "3", "--out", str(sample), *inputs]
    assert cli.main(asked) == 0
    arrays = np.load(sample)
    assert arrays["images"].shape == (2, 4, 320, 576, 3)
    assert arrays["history_xyz_in_rig_t0"].shape == (16, 3) and arrays["t0_ns"] >= 3_000_000_000
    assert float(arrays["speed_mps"]) == pytest.approx(SPEED)


def test_a_damaged_clip_is_left_out_and_a_finished_one_kept(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the clip's name; nothing half written; the second run converts nothing."""
    command = ["convert", "pai", BROKEN, CLIP, "--root", str(dataset), "--out", str(tmp_path),
               "--cameras", "front_wide", "--width", "96"]  # fmt: skip
    assert cli.main(command) == 1
    assert f"left out: {BROKEN}: {FEATURES['front_wide']}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [CLIP]
    assert cli.main(command) == 1
    assert "is there and kept" in capsys.readouterr().out


def test_what_is_missing_is_named(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No dataset, no such clip, no such camera: what and where."""
    out = ["--out", str(tmp_path / "bag")]
    assert cli.main(["convert", "pai", CLIP, "--root", str(tmp_path), *out]) == 2
    assert "no clip_index.parquet" in capsys.readouterr().err
    assert cli.main(["convert", "pai", "nobody", "--root", str(dataset), *out]) == 1
    assert "nobody is not in" in capsys.readouterr().err
    rear = ["convert", "pai", CLIP, "--root", str(dataset), "--cameras", "rear_tele", *out]
    assert cli.main(rear) == 1
    assert "no video of rear_tele" in capsys.readouterr().err


def test_velocity_without_a_record() -> None:
    """Positions alone give the speed along the rig's x axis."""
    table = poses()
    motion = motion_of(
        table["timestamp"],
        np.stack([table["x"], table["y"], table["z"]], axis=1),
        np.stack([table[name] for name in ("qx", "qy", "qz", "qw")], axis=1),
    )
    np.testing.assert_allclose(motion.velocities_mps[5:-5, 0], SPEED, atol=1e-3)


def test_lidar(dataset: Path, tmp_path: Path) -> None:
    """Spins as PointCloud2 with their own stamps, four float32 fields without gaps."""
    path = tmp_path / "drive"
    words = ["convert", "pai", CLIP, "--root", str(dataset), "--out", str(path), "--lidar"]
    assert cli.main([*words, "--cameras", "front_wide", "--width", "96"]) == 0
    with BagReader(path) as reader:
        clouds = [m for _, _, m in reader.messages(["/lidar/lidar_top_360fov/points"])]
        (tf,) = (m for _, _, m in reader.messages(["/tf_static"]))
    assert [stamp_ns(m.header.stamp) for m in clouds] == [50_000_000 + 10**8 * k for k in range(4)]
    for k, message in enumerate(clouds, 1):
        assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
            (name, 4 * index, f.FLOAT32, 1)
            for index, (name, f) in enumerate(zip(("x", "y", "z", "intensity"), message.fields))
        ]
        assert (message.point_step, message.row_step, message.height) == (16, 3200, 1)
        assert not message.is_bigendian and message.is_dense
        points = message.data.view("<f4").reshape(-1, 4)
        # 20 bits over 100 m are 0.1 mm.
        np.testing.assert_allclose(points, cloud(k), atol=2e-4)
    assert {t.child_frame_id for t in tf.transforms} == {"lidar_top_360fov", "front_wide_optical"}
    assert (
        cli.main([*words[:2], BROKEN, *words[3:-3], "--out", str(tmp_path / "b"), "--lidar"]) == 1
    )


def test_only_a_finished_bag_is_kept(
    dataset: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty folder is written into; what is no bag, or a cut one, is named with the remedy."""
    out = tmp_path / "drive"
    words = ["convert", "pai", CLIP, "--root", str(dataset), "--cameras", "front_wide",
             "--width", "96", "--out"]  # fmt: skip
    out.mkdir()
    assert cli.main([*words, str(out)]) == 0
    with BagReader(out) as reader:
        assert reader.topics["/odom"].count > 900 and not reader.warnings
    assert cli.main([*words, str(out)]) == 0
    assert "is there and kept" in capsys.readouterr().out
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("keep me")
    cut = tmp_path / "cut"
    shutil.copytree(bag, cut)
    (cut / "metadata.yaml").unlink()
    for path in (home, cut):
        assert cli.main([*words, str(path)]) == 2
        said = capsys.readouterr().err
        assert f"{path} is there and is no finished bag" in said and "remove it, or name" in said
    assert (home / "thesis.tex").read_text() == "keep me"


KILLED = """
import os, sys
from pathlib import Path
from alpamayo_ros.bags.writer import BagWriter
with BagWriter(Path(sys.argv[1]), remove_stale=sys.argv[2] == "again"):
    os._exit(9)
"""


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path) -> None:
    """Of the same bag, and no more: not of a writer that lives, nor of one that recorded."""
    path = tmp_path / "drive"

    def killed(name: str, kind: str) -> set[Path]:
        before = set(tmp_path.iterdir())
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name), kind], check=False)
        return set(tmp_path.iterdir()) - before

    (stale,) = killed("drive", "again")
    (other,) = killed("drives", "again")
    (recorded,) = killed("drive", "once")
    with BagWriter(path, remove_stale=True) as lives:
        assert not stale.exists() and other.exists() and recorded.exists()
        second = BagWriter(path, remove_stale=True)
        second.__enter__()
        second.__exit__(RuntimeError, None, None)
        lives.add_topic("/odom", "nav_msgs/msg/Odometry")
    assert set(tmp_path.iterdir()) == {path, other, recorded}


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    """The dataset, to change."""
    return Path(shutil.copytree(dataset, tmp_path / "copied"))


def rewritten(path: Path, clip: str, compression: int) -> None:
    """An archive without the members of one clip."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            if not name.startswith(clip):
                archive.writestr(name, data)


def test_a_damaged_deflated_member(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The clip is left out like any other that is damaged."""
    path = copied / "labels/egomotion/egomotion.chunk_0007.zip"
    rewritten(path, BROKEN, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        name = archive.infolist()[0].filename
    data = bytearray(path.read_bytes())
    start = data.index(name.encode()) + len(name)
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    words = ["convert", "pai", CLIP, "--root", str(copied), "--out", str(copied / "bag")]
    assert cli.main(words) == 1
    assert f"left out: {CLIP}: {name}" in capsys.readouterr().err


def test_stamps_that_do_not_rise_name_the_clip(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied / "lidar"
    table = {**spins(), "reference_timestamp": [3, 3, 4, 5, 6]}
    (folder / f"{CLIP}.lidar_top_360fov.parquet").write_bytes(parquet(table))
    words = ["convert", "pai", CLIP, "--root", str(copied), "--out", str(copied / "bag")]
    assert cli.main([*words, "--lidar", "--cameras", "front_wide"]) == 1
    assert f"left out: {CLIP}: stamps do not rise: 3 us" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["feature_presence", "sensor_presence"])
def test_sensors_that_a_clip_never_had(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the dataset's table: left out and said; without it, or without poses, the clip is."""
    wide, left = FEATURES.values()
    rewritten(copied / f"camera/{left}/{left}.chunk_0007.zip", CLIP, zipfile.ZIP_STORED)
    rewritten(copied / "lidar/lidar_top_360fov.chunk_0007.zip", CLIP, zipfile.ZIP_STORED)
    out = copied / "bag"
    words = ["convert", "pai", CLIP, "--root", str(copied), "--out", str(out), "--width", "96"]
    assert cli.main(words) == 1
    assert "There is no item named" in capsys.readouterr().err
    (copied / "metadata").mkdir()

    def present(**changed: bool) -> None:
        row = {wide: True, left: False, "lidar_top_360fov": False, "egomotion": True, **changed}
        columns: dict[str, list[Any]] = {feature: [True, there] for feature, there in row.items()}
        table = {**columns, "radar_config": ["low", "low"], "__index_level_0__": [BROKEN, CLIP]}
        (copied / f"metadata/{name}.parquet").write_bytes(parquet(table))

    present()
    assert cli.main([*words, "--lidar"]) == 0
    said = capsys.readouterr().err
    assert f"{CLIP} has no cross_left, says {copied}" in said
    assert f"{CLIP} has no lidar_top_360fov, says {copied}" in said
    with BagReader(out) as reader:
        assert "/camera/front_wide/camera_info" in reader.topics
        assert not [t for t in reader.topics if "cross_left" in t or "lidar" in t]
    other = [*words, "--overwrite", "--cameras"]
    assert cli.main([*other, "cross_left"]) == 1
    assert f"left out: {CLIP} has no cross_left" in capsys.readouterr().err
    present(**{wide: False})
    assert cli.main([*words, "--overwrite"]) == 1
    assert f"left out: {CLIP} has no cross_left or front_wide" in capsys.readouterr().err
    present(egomotion=False)
    assert cli.main([*words, "--overwrite"]) == 1
    assert f"left out: {CLIP} has no egomotion" in capsys.readouterr().err
