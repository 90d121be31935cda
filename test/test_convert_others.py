"""comma2k19, KITTI and plain videos to bags: layouts made here, motions known in closed form."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from alpamayo_ros import cli, geometry
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.clips.comma import HEIGHT, WIDTH, comma_clip
from alpamayo_ros.odometry import stamp_ns

av = pytest.importorskip("av", reason="needs PyAV: make test installs it")
pytest.importorskip("pyarrow", reason="needs pyarrow: make test installs it")

SPEED, YAW_RATE = 12.0, 0.1
COMMA_POSES = Path(__file__).resolve().parents[2] / "shared" / "data" / "comma2k19_poses"


def arc(times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) positions and (n,) yaw of a rig on an arc from the origin along x."""
    yaw, radius = YAW_RATE * times_s, SPEED / YAW_RATE
    return np.stack([radius * np.sin(yaw), radius * (1 - np.cos(yaw)), 0 * yaw], axis=1), yaw


def write_video(path: Path, count: int, size: tuple[int, int], rate: int, bare: bool) -> None:
    """Frames whose grey level tells their number; `bare`: a stream without stamps."""
    with av.open(str(path), "w", format="h264" if bare else None) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for k in range(count):
            grey = np.full((size[1], size[0], 3), 20 + 8 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())


def read(path: Path) -> dict[str, list[Any]]:
    with BagReader(path) as bag:
        found: dict[str, list[Any]] = {topic: [] for topic in bag.topics}
        for topic, _, message in bag.messages():
            found[topic].append(message)
    return found


def assert_arc(odometry: list[Any], times_s: np.ndarray, atol: float = 1e-6) -> None:
    """The rig's poses are the arc's relative to the first, its twist is the speed ahead."""
    assert len(odometry) == len(times_s)
    xyz, yaw = arc(times_s)
    first, poses = None, []
    for message in odometry:
        position, turn = message.pose.pose.position, message.pose.pose.orientation
        pose = geometry.pose_from_quaternion(
            [position.x, position.y, position.z], [turn.x, turn.y, turn.z, turn.w]
        )
        first = first or pose
        poses.append(geometry.compose(geometry.invert(first), pose))
    assert odometry[0].child_frame_id == "base_link"
    np.testing.assert_allclose([p.translation_m for p in poses], xyz, atol=atol)
    wanted = geometry.yaw_to_rotation(yaw)
    np.testing.assert_allclose([p.rotation for p in poses], wanted, atol=atol)
    # Velocities are differences over two steps: on an arc, off by (omega dt)^2 / 6 of the speed.
    inner = odometry[1:-1]
    assert [m.twist.twist.linear.x for m in inner] == pytest.approx([SPEED] * len(inner), rel=1e-3)
    assert [m.twist.twist.angular.z for m in inner] == pytest.approx(
        [YAW_RATE] * len(inner), abs=1e-3
    )


# ---- comma2k19 ----

MOUNT = (1.7, 0.0, 1.22)
PITCH, YAW = np.deg2rad(4.0), np.deg2rad(-2.0)  # how the device is turned on the vehicle


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segment at 37 north, 122 west: an arc that starts towards north-east."""
    folder = tmp_path_factory.mktemp("comma") / "b0c9|2018" / "3"
    (folder / "global_pose").mkdir(parents=True)
    times = 46_408.5 + 0.05 * np.arange(14)
    xyz, yaw = arc(times - times[0])
    latitude, longitude = np.deg2rad([37.0, -122.0])
    normal = 6378137.0 / np.sqrt(1 - 6.69437999014e-3 * np.sin(latitude) ** 2)
    across = (normal + 30.0) * np.cos(latitude)
    origin = np.array([across * np.cos(longitude), across * np.sin(longitude),
                       (normal * (1 - 6.69437999014e-3) + 30.0) * np.sin(latitude)])  # fmt: skip
    up = np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude),
                   np.sin(latitude)])  # fmt: skip
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    earth_from_local = np.stack([east, np.cross(up, east), up], axis=1)
    rig = geometry.yaw_to_rotation(yaw + np.pi / 4)
    c, s = np.cos(PITCH), np.sin(PITCH)
    pitched = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])  # looks up
    rig_from_device = geometry.yaw_to_rotation(YAW) @ pitched @ np.diag([1.0, -1.0, -1.0])
    local = xyz @ geometry.yaw_to_rotation(np.pi / 4).T + rig @ np.array(MOUNT)
    # The device's velocity has the turning in it: at its lever, omega x lever.
    velocity = rig @ (np.array([SPEED, 0.0, 0.0]) + np.cross([0, 0, YAW_RATE], MOUNT))
    quaternions = geometry.rotation_to_quaternion(earth_from_local @ rig @ rig_from_device)
    for name, array in (
        ("frame_times", times),
        ("frame_positions", origin + local @ earth_from_local.T),
        ("frame_velocities", velocity @ earth_from_local.T),
        ("frame_orientations", quaternions[:, [3, 0, 1, 2]]),
    ):
        with (folder / "global_pose" / name).open("wb") as file:
            np.save(file, array)
    write_video(folder / "video.hevc", len(times), (WIDTH, HEIGHT), 20, bare=True)
    return folder


def test_comma(segment: Path, tmp_path: Path) -> None:
    """The rig's arc comes back although the device is turned; frames have the segment's stamps."""
    out = tmp_path / "drive"
    assert cli.main(["convert", "comma", str(segment), "--out", str(out), "--width", "388"]) == 0
    found = read(out)
    frames = found["/camera/front_wide/image/compressed"]
    assert [stamp_ns(m.header.stamp) for m in frames] == [
        46_408_500_000_000 + 50_000_000 * k for k in range(14)
    ]
    # The direction of travel at the camera is that of the arc there: 0.8 degrees off the rig's x.
    times = 0.05 * np.arange(14)
    odometry = found["/odom"]
    speeds = [m.twist.twist.linear.x for m in odometry[1:-1]]
    assert speeds == pytest.approx([SPEED] * len(speeds), rel=2e-3)
    x, y = (np.array([getattr(m.pose.pose.position, a) for m in odometry]) for a in "xy")
    xyz, _ = arc(times)
    np.testing.assert_allclose(np.hypot(x - x[0], y - y[0]), np.linalg.norm(xyz, axis=1), atol=0.02)
    # The camera looks up by 4 degrees and to the right by 2, but for those 0.8.
    (mounted,) = found["/tf_static"][0].transforms
    q = mounted.transform.rotation
    ahead = geometry.quaternion_to_rotation([q.x, q.y, q.z, q.w])[:, 2]
    assert np.rad2deg(np.arcsin(ahead[2])) == pytest.approx(4.0, abs=0.05)
    slip = np.rad2deg(np.arctan2(YAW_RATE * MOUNT[0], SPEED))
    assert np.rad2deg(np.arctan2(ahead[1], ahead[0])) == pytest.approx(-2.0 - slip, abs=0.05)
    info = found["/camera/front_wide/camera_info"][0]
    assert (info.width, info.height) == (388, 291)
    assert info.k[0] == pytest.approx(910.0 / 3, rel=1e-3)


def test_comma_several_resumed_and_damaged(
    segment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cut video is named and left out, a bag that is there is kept, nothing half is left."""
    broken = tmp_path / "b0c9|2018" / "4"
    shutil.copytree(segment, broken)
    data = (broken / "video.hevc").read_bytes()
    (broken / "video.hevc").write_bytes(data[: len(data) // 2])
    out = tmp_path / "drives"
    words = ["convert", "comma", str(segment), str(broken), "--out", str(out), "--width", "194"]
    assert cli.main(words) == 1
    assert "frames, but 14 stamps" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["b0c9_2018_3"]
    before = (out / "b0c9_2018_3" / "metadata.yaml").stat().st_mtime_ns
    assert cli.main(words) == 1
    assert "is there and kept" in capsys.readouterr().out
    assert (out / "b0c9_2018_3" / "metadata.yaml").stat().st_mtime_ns == before
    alike = tmp_path / "other" / "b0c9|2018" / "3"
    assert cli.main([*words[:3], str(alike), *words[4:]]) == 2
    assert f"{segment} and {alike} would both become" in capsys.readouterr().err
    (broken / "global_pose" / "frame_times").unlink()
    assert cli.main([*words[:2], str(broken), "--out", str(tmp_path / "x")]) == 1
    assert "is missing: is" in capsys.readouterr().err


@pytest.mark.skipif(not COMMA_POSES.exists(), reason="needs ../shared/data/comma2k19_poses")
def test_comma_real_poses(tmp_path: Path) -> None:
    """A real minute: along its own x axis within a degree, level, as fast as its wheels say."""
    segment = tmp_path / "segment"
    shutil.copytree(COMMA_POSES, segment / "global_pose")
    (segment / "video.hevc").write_bytes(b"")
    motion = comma_clip(segment).motion
    speed = motion.velocities_mps
    fast = speed[:, 0] > 10.0
    assert fast.sum() > 500
    across = np.rad2deg(np.arctan2(speed[fast, 1:], speed[fast, :1]))
    assert np.abs(np.median(across, axis=0)).max() < 0.5
    wheels = np.interp(
        motion.stamps_us * 1e-6,
        np.load(COMMA_POSES / "can_speed_t.npy"),
        np.load(COMMA_POSES / "can_speed_value.npy")[:, 0],
    )
    # Wheel speeds are rounded and their radius is nominal: 2 % is what the two differ by.
    assert np.median(np.abs(speed[fast, 0] / wheels[fast] - 1)) < 0.02
    up = geometry.quaternion_to_rotation(motion.quaternions_xyzw)[:, 2, 2]
    assert up.min() > np.cos(np.deg2rad(8.0))


# ---- KITTI ----


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        cv2.imwrite(str(folder / f"{k:06d}.png"), np.full((37, 124, 3), 20 + 8 * k, np.uint8))


TURN = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # rig from optical, looking ahead


def test_kitti_odometry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Camera 0's poses in its own axes become the rig's; camera 2 stands beside it."""
    root, times = tmp_path / "kitti", 0.1037 * np.arange(12)
    pictures(root / "sequences" / "06" / "image_2", len(times))
    (root / "poses").mkdir()
    xyz, yaw = arc(times)
    rig = geometry.yaw_to_rotation(yaw)
    mount = np.array([1.03, 0.0, 1.65])
    cameras = xyz + rig @ mount - mount  # odometry starts where camera 0 does
    rows = np.concatenate([TURN.T @ rig @ TURN, (cameras @ TURN)[..., None]], axis=2).reshape(
        -1, 12
    )
    np.savetxt(root / "poses" / "06.txt", rows)
    np.savetxt(root / "sequences" / "06" / "times.txt", times)
    lines = [f"P{k}: 70 0 61.5 {-70 * x} 0 70 18 0 0 0 1 0" for k, x in enumerate((0, 0.54, -0.06))]
    (root / "sequences" / "06" / "calib.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path / "drive"
    words = ["convert", "kitti", "06", "--root", str(root), "--out", str(out)]
    assert cli.main(words) == 0
    found = read(out)
    assert_arc(found["/odom"], np.round(times, 6), atol=1e-5)
    stamps = [stamp_ns(m.header.stamp) for m in found["/camera/front_wide/image/compressed"]]
    assert stamps == [round(t * 1e6) * 1000 for t in times]
    (placed,) = found["/tf_static"][0].transforms
    at = placed.transform.translation
    # P2 says where camera 0 lies for camera 2: 6 cm to its right, so camera 2 is 6 cm to its left.
    assert (at.x, at.y, at.z) == pytest.approx((1.03, 0.06, 1.65), abs=1e-9)
    assert found["/camera/front_wide/camera_info"][0].k[0] == 70
    # The Velodyne, which calib.txt places 0.27 m behind camera 0 and 8 cm above it.
    lidar = [*words, "--overwrite", "--lidar"]
    assert cli.main(lidar) == 1
    assert "velodyne is missing: download data_odometry_velodyne" in capsys.readouterr().err
    with (root / "sequences" / "06" / "calib.txt").open("a") as file:
        file.write("Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n")
    cloud = np.random.default_rng(1).normal(size=(50, 4)).astype("<f4")
    (root / "sequences" / "06" / "velodyne").mkdir()
    for k in range(len(times)):
        cloud.tofile(root / "sequences" / "06" / "velodyne" / f"{k:06d}.bin")
    assert cli.main(lidar) == 0
    found = read(out)
    clouds = found["/lidar/velodyne/points"]
    assert [stamp_ns(m.header.stamp) for m in clouds] == stamps
    np.testing.assert_array_equal(clouds[0].data.view("<f4").reshape(-1, 4), cloud)
    placed = {t.child_frame_id: t.transform for t in found["/tf_static"][0].transforms}
    at, turn = placed["velodyne"].translation, placed["velodyne"].rotation
    assert (at.x, at.y, at.z) == pytest.approx((0.76, 0.0, 1.73), abs=1e-9)
    assert abs(turn.w) == pytest.approx(1.0)
    (root / "sequences" / "06" / "image_2" / "000005.png").write_bytes(b"nothing")
    assert cli.main([*words, "--overwrite"]) == 1
    assert "000005.png is no image" in capsys.readouterr().err


def test_kitti_raw(tmp_path: Path) -> None:
    """OXTS, calibration by three files, Velodyne; stamps to the microsecond."""
    drive = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    pictures(drive / "image_02" / "data", 8)
    times = 0.1 * np.arange(8)
    stamps = [f"2011-09-26 13:02:25.{round(t * 1e9) + 964_389:09d}" for t in times]
    xyz, yaw = arc(times)
    imu = xyz + geometry.yaw_to_rotation(yaw) @ np.array([-0.05, 0.32, 0.93])
    scale = np.cos(np.deg2rad(49.0)) * 6378137.0
    (drive / "oxts" / "data").mkdir(parents=True)
    for k in range(8):
        north = np.log(np.tan(np.deg2rad(90 + 49.0) / 2)) + imu[k, 1] / scale
        latitude = np.rad2deg(2 * np.arctan(np.exp(north))) - 90
        row = [latitude, 8.4 + np.rad2deg(imu[k, 0] / scale), 110 + imu[k, 2], 0, 0, yaw[k]]
        np.savetxt(drive / "oxts" / "data" / f"{k:010d}.txt", [row + [0.0] * 24], fmt="%.14g")
    (drive / "velodyne_points" / "data").mkdir(parents=True)
    cloud = np.random.default_rng(1).normal(size=(50, 4)).astype("<f4")
    for k in range(8):
        cloud.tofile(drive / "velodyne_points" / "data" / f"{k:010d}.bin")
    for folder in ("image_02", "oxts", "velodyne_points"):
        (drive / folder / "timestamps.txt").write_text("\n".join(stamps) + "\n")

    def rigid(turn: np.ndarray, shift: tuple[float, float, float]) -> str:
        numbers = (" ".join(map(str, np.ravel(part))) for part in (turn, shift))
        return "R: {}\nT: {}\n".format(*numbers)

    day = drive.parent
    (day / "calib_imu_to_velo.txt").write_text(rigid(np.eye(3), (-0.81, 0.32, -0.8)))
    (day / "calib_velo_to_cam.txt").write_text(rigid(TURN.T, (0.0, -0.08, -0.27)))
    (day / "calib_cam_to_cam.txt").write_text(
        "R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 70 0 61.5 4.2 0 70 18 0 0 0 1 0\n"
    )
    out = tmp_path / "drive"
    words = ["convert", "kitti", drive.name, "--root", str(tmp_path), "--out", str(out), "--lidar"]
    assert cli.main(words) == 0
    found = read(out)
    assert_arc(found["/odom"], times, atol=1e-4)  # 14 digits of degrees are 1e-7 m; Mercator's rest
    assert stamp_ns(found["/odom"][3].header.stamp) == 1_317_042_145_300_964_000
    placed = {t.child_frame_id: t.transform.translation for t in found["/tf_static"][0].transforms}
    velo, camera = placed["velodyne"], placed["front_wide_optical"]
    assert (velo.x, velo.y, velo.z) == pytest.approx((0.76, 0.0, 1.73), abs=1e-9)
    assert (camera.x, camera.y, camera.z) == pytest.approx((1.03, 0.06, 1.65), abs=1e-9)
    (message, *_) = found["/lidar/velodyne/points"]
    np.testing.assert_array_equal(message.data.view("<f4").reshape(-1, 4), cloud)


# ---- a video and a table ----


@pytest.mark.parametrize("camera", [False, True], ids=["rig csv", "camera parquet"])
def test_video(camera: bool, tmp_path: Path) -> None:
    """Frames by the video's own clock, poses of the rig or of the camera, either kind of table."""
    import pyarrow
    import pyarrow.parquet

    video, out = tmp_path / "drive.mp4", tmp_path / "drive"
    write_video(video, 20, (160, 90), 25, bare=False)
    times = 0.02 * np.arange(40)
    xyz, yaw = arc(times)
    mount, turn = [2.0, 0.5, 1.5], 10.0
    words = ["convert", "video", str(video), "--out", str(out), "--mount", "2,0.5,1.5"]
    if camera:
        body = geometry.yaw_to_rotation(yaw + np.deg2rad(turn))
        q = geometry.rotation_to_quaternion(body)
        at = xyz + geometry.yaw_to_rotation(yaw) @ np.array(mount)
        columns = {"timestamp": np.round(times * 1e6).astype(np.int64),
                   **{a: at[:, k] for k, a in enumerate("xyz")},
                   **{f"q{a}": q[:, k] for k, a in enumerate("xyzw")}}  # fmt: skip
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "poses.parquet")
        calibration = {
            "image_width": 160, "image_height": 90, "distortion_model": "equidistant",
            "camera_matrix": {"data": [80, 0, 79.5, 0, 81, 44.5, 0, 0, 1]},
            "distortion_coefficients": {"data": [0.1, 0.0, 0.01, 0.0]},
        }  # fmt: skip
        (tmp_path / "camera.yaml").write_text(yaml.safe_dump(calibration))
        words += ["--poses", str(tmp_path / "poses.parquet"), "--poses-of", "camera",
                  "--turn", f"{turn},0,0",
                  "--calibration", str(tmp_path / "camera.yaml")]  # fmt: skip
    else:
        rows = ["t_s,x,y,yaw_rad"]
        rows += [f"{t:.3f},{p[0]:.9f},{p[1]:.9f},{a:.12f}" for t, p, a in zip(times, xyz, yaw)]
        (tmp_path / "poses.csv").write_text("\n".join(rows) + "\n")
        words += ["--poses", str(tmp_path / "poses.csv"), "--fov", "90"]
    assert cli.main(words) == 0
    found = read(out)
    assert_arc(found["/odom"], times)
    frames = found["/camera/front_wide/image/compressed"]
    assert [stamp_ns(m.header.stamp) for m in frames] == [40_000_000 * k for k in range(20)]
    info = found["/camera/front_wide/camera_info"][0]
    assert info.distortion_model == ("equidistant" if camera else "plumb_bob")
    assert info.k[0] == pytest.approx(80.0)


def small_video(folder: Path, frames: int, poses: str) -> list[str]:
    """What converts a video of 25 Hz with this table of poses."""
    video, table = folder / "drive.mp4", folder / "poses.csv"
    write_video(video, frames, (32, 32), 25, bare=False)
    table.write_text(poses)
    return ["convert", "video", str(video), "--poses", str(table), "--out", str(folder / "d")]


def test_video_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = small_video(tmp_path, 2, "t_s,x,y\n0,0,0\n1,1,0\n")
    assert cli.main([*words, "--fov", "90"]) == 1
    assert "no column 'yaw_rad'" in capsys.readouterr().err
    assert cli.main([*words, "--fov", "200"]) == 2
    assert cli.main([*words, "--fov", "90", "--mount", "1,2"]) == 2
    assert "--mount '1,2': wanted three numbers" in capsys.readouterr().err


def test_video_of_another_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Poses that do not overlap the video are refused with both spans; no bag is left."""
    poses = "t_s,x,y,yaw_rad\n1700000000,0,0,0\n1700000001,1,0,0\n"
    words = small_video(tmp_path, 10, poses)
    assert cli.main([*words, "--fov", "90"]) == 2
    said = capsys.readouterr().err
    assert "from 1700000000.000 to 1700000001.000 s" in said and "from 0.000 to 0.400 s" in said
    assert "another clock or unit" in said and not (tmp_path / "d").exists()


def test_pose_table_of_a_spreadsheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte order mark and a column of text do no harm; a bad cell is named."""
    video, poses = tmp_path / "drive.mp4", tmp_path / "poses.csv"
    write_video(video, 3, (32, 32), 25, bare=False)
    text = "t_s,x,y,yaw_rad,driver\n0,0,0,0,Ann\n1,1,0,{},Bob\n"
    poses.write_text(text.format("0"), encoding="utf-8-sig")
    words = ["convert", "video", str(video), "--poses", str(poses), "--fov", "90", "--out"]
    assert cli.main([*words, str(tmp_path / "d")]) == 0
    poses.write_text(text.format("left"))
    assert cli.main([*words, str(tmp_path / "e")]) == 1
    assert "column yaw_rad: could not convert string to float: 'left'" in capsys.readouterr().err
    poses.write_text("t_s,x,y,yaw_rad\n0,0,0,0\n1,1,0\n")
    assert cli.main([*words, str(tmp_path / "e")]) == 1
    assert "column yaw_rad has no finite number in row 2" in capsys.readouterr().err
    poses.write_text("t_s,x,y,yaw_rad\n")
    assert cli.main([*words, str(tmp_path / "e")]) == 1
    assert "fewer than two poses" in capsys.readouterr().err


@pytest.mark.parametrize(
    "matrix, bright",
    [((0, 1, -1, 0), "right"), ((0, -1, 1, 0), "left"), ((-1, 0, 0, -1), "bottom"),
     ((-1, 0, 0, 1), "")],
    ids=["to the right", "to the left", "upside down", "mirrored"],
)  # fmt: skip
def test_a_phones_video(
    matrix: tuple[int, ...], bright: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures and size as a player shows them; the top of the recorded picture is bright."""
    video, poses, out = tmp_path / "drive.mp4", tmp_path / "poses.csv", tmp_path / "d"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:16] = 200
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(video.read_bytes())
    a, b, c, d = (entry << 16 for entry in matrix)  # ISO 14496-12: x -> (a, b), y -> (c, d)
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, a, b, 0, c, d)
    video.write_bytes(data)
    poses.write_text("t_s,x,y,yaw_rad\n0,0,0,0\n1,1,0,0\n")
    words = ["convert", "video", str(video), "--poses", str(poses), "--fov", "90", "--out"]
    assert cli.main([*words, str(out), "--images", "raw"]) == (0 if bright else 1)
    if not bright:
        assert "mirrored" in (said := capsys.readouterr().err) and "ffmpeg -i" in said
        return
    found = read(out)
    image, info = (found[f"/camera/front_wide/{n}"][0] for n in ("image", "camera_info"))
    upright = bright in ("left", "right")
    assert (image.width, image.height) == (info.width, info.height)
    assert (image.width, image.height) == ((32, 64) if upright else (64, 32))
    shown = image.data.reshape(image.height, image.width, 3).astype(float)
    first, last = shown[:, :8] if upright else shown[:8], shown[:, -8:] if upright else shown[-8:]
    assert (first.mean() > 150, last.mean() > 150) == (bright == "left", bright != "left")
