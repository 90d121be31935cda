"""Another rig's images as the model's views: exact to the pixel, masked where nothing is seen."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from alpamayo_ros import cli, images
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.cameras.adapt import RigAdapter, ViewMap
from alpamayo_ros.cameras.calibration import calibration_of, camera_model, why_unusable
from alpamayo_ros.cameras.projection import CameraModel, optical_rotation_from_rig, project
from alpamayo_ros.cameras.views import ViewsError, load_views, rays_in_rig, rig_rotation
from alpamayo_ros.geometry import rotation_to_quaternion, yaw_to_rotation
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import SettingsError, settings_from
from alpamayo_ros.sampling import Selection, materialise
from alpamayo_ros.types import DEFAULT_CAMERAS, ImageError, Pose3
from alpamayo_ros.world.messages import DriveMessages
from alpamayo_ros.world.record import encode_jpeg
from alpamayo_ros.world.render import Renderer
from alpamayo_ros.world.rig import PinholeCamera, default_rig
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.scenes import scene_of
from alpamayo_ros.world.vehicle import EgoState

WHERE = (1.7, 0.0, 1.45)
EPOCH_NS = 10_000_000_000
LENSES = {
    "pinhole": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [-0.05, 0.01, 1e-3, -5e-4, 0.0]),
    "equidistant": ("equidistant", [0.02, -0.004, 1e-3, 0.0]),
    "f_theta": ("f_theta", [0.0, 1.0, -0.01, -0.02]),
}


def camera(lens: str, yaw_deg: float = 5.0, pitch_deg: float = -2.0) -> CameraModel:
    """1280 x 800, 640 pixels of focal length, somewhere on the vehicle."""
    model, d = LENSES[lens]
    k = np.array([[640.0, 0.0, 633.0], [0.0, 640.0, 402.5], [0.0, 0.0, 1.0]])
    turn = optical_rotation_from_rig() @ rig_rotation(yaw_deg, pitch_deg, 1.0).T
    return CameraModel(k, Pose3(-turn @ np.array(WHERE), turn), 1280, 800, np.array(d), model)


def shrink(image: np.ndarray) -> np.ndarray:
    return images.to_model_size(image)


@pytest.mark.parametrize("lens", LENSES)
def test_every_lens_lands_where_it_should(lens: str) -> None:
    """A far blob of a direction, drawn by the source's lens, is where the view has that direction.

    The view's pixel is computed here, from the angle alone: radius = 960 px / 60 degrees * angle.
    """
    source = camera(lens)
    view = load_views("alpamayo")["front_wide"]
    adapted = ViewMap(view, source)
    for yaw_deg, pitch_deg in ((0.0, 0.0), (20.0, -8.0), (-25.0, 10.0), (8.0, 15.0)):
        direction = rig_rotation(yaw_deg, pitch_deg) @ np.array([1.0, 0.0, 0.0])
        (at,) = source.to_pixels(source.to_optical([1e6 * direction]))
        image = np.zeros((800, 1280, 3), np.uint8)
        cv2.circle(image, [int(v) for v in np.round(at * 16)], 12 * 16, (255, 255, 255), -1,
                   cv2.LINE_AA, 4)  # fmt: skip
        seen = adapted(image, shrink)[..., 0].astype(float)
        rows, columns = np.indices(seen.shape)
        middle = (columns * seen).sum() / seen.sum(), (rows * seen).sum() / seen.sum()
        angle = math.acos(direction[0])
        sideways = math.hypot(direction[1], direction[2]) or 1.0
        radius = 960.0 / math.radians(60.0) * angle
        wide = 959.5 - radius * direction[1] / sideways
        high = 539.5 - radius * direction[2] / sideways
        wanted = (wide + 0.5) * 576 / 1920 - 0.5, (high + 0.5) * 320 / 1080 - 0.5
        # A circle's middle moves a little under a lens that bends; 12 px are 2 degrees.
        np.testing.assert_allclose(middle, wanted, atol=0.3)


def test_the_rays_of_a_view() -> None:
    """The middle looks along the camera, the edge 60 degrees off it; left is left, up is up."""
    for name, yaw_deg in (("front_wide", 0.0), ("cross_left", 66.5)):
        view = load_views("alpamayo")[name]
        ahead = np.array([math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg)), 0.0])
        middle, left, top = (
            rays_in_rig(view, [row], [column])[0]
            for row, column in ((539.5, 959.5), (539.5, -0.5), (-0.5, 959.5))
        )
        np.testing.assert_allclose(middle, ahead, atol=1e-9)
        assert math.degrees(math.acos(left @ ahead)) == pytest.approx(60.0, abs=1e-5)
        assert math.degrees(math.asin(top[2])) == pytest.approx(60.0 * 540 / 960, abs=1e-5)
        assert np.cross(ahead, left)[2] > 0.5


def test_a_view_of_the_world_taken_with_another_camera() -> None:
    """100 degrees, turned by 5: brought to the training view it is that view, to a pixel.

    Features of the true view are followed into the reprojected one.
    """
    rig = (
        PinholeCamera("front_wide", WHERE, 0.0, 120.0, 1152, 640),
        PinholeCamera("other", WHERE, 5.0, 100.0, 1152, 640),
    )
    ego = EgoState(60.0, EGO_LANE_OFFSET_M, 0.0, 10.0)
    with Renderer(scene_of(make_scenario("straight", 1)), rig) as renderer:
        seen = renderer.render(ego, [], 0.0)
    other = rig[1]
    turn = other.rig_from_optical.T
    source = CameraModel(other.intrinsics, Pose3(-turn @ np.array(WHERE), turn), 1152, 640)
    adapted = ViewMap(load_views("world")["front_wide"], source)
    view, wanted = adapted(seen["other"], shrink), shrink(seen["front_wide"])
    covered = (view.max(axis=2) > 0).astype(np.uint8)
    assert adapted.coverage == pytest.approx(0.70 * 0.69, abs=0.02)  # by the edges' tangents
    # tan(55) - tan(45) over 2 tan(60): pixels at the right that the other camera cannot see.
    missing = (math.tan(math.radians(60)) - math.tan(math.radians(45))) / 2 / math.sqrt(3)
    assert np.flatnonzero(covered[160])[-1] == pytest.approx(576 * (1 - missing), abs=1.5)
    inner = cv2.erode(covered, np.ones((21, 21), np.uint8))
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (wanted, view)]
    points = cv2.goodFeaturesToTrack(grey[0], 400, 0.02, 5, mask=inner)
    there, good, _ = cv2.calcOpticalFlowPyrLK(*grey, points, None, winSize=(15, 15), maxLevel=2)
    back, also, _ = cv2.calcOpticalFlowPyrLK(grey[1], grey[0], there, None, winSize=(15, 15),
                                             maxLevel=2)  # fmt: skip
    # What does not come back to where it started was not followed, wherever it went.
    kept = (good & also).ravel().astype(bool) & (np.abs(back - points).max(axis=(1, 2)) < 0.2)
    off = np.linalg.norm((there - points)[kept].reshape(-1, 2), axis=1)
    assert len(off) > 60
    assert np.quantile(off, 0.99) <= 1.0 and np.median(off) <= 0.2


def test_cannot_be_seen_at_all() -> None:
    adapted = ViewMap(load_views("alpamayo")["rear_tele"], camera("pinhole"))
    assert adapted.coverage == 0.0
    assert not adapted(np.full((800, 1280, 3), 200, np.uint8), shrink).any()
    with pytest.raises(ImageError, match="640x400 pixels, its CameraInfo is of 1280x800"):
        adapted(np.zeros((400, 640, 3), np.uint8), shrink)


def info(model: str = "plumb_bob", focal: float = 640.0, frame: str = "cam") -> Any:
    """sensor_msgs/CameraInfo."""
    k = np.array([focal, 0, 639.5, 0, focal, 399.5, 0, 0, 1.0])
    header = SimpleNamespace(frame_id=frame)
    p = np.hstack((k.reshape(3, 3), np.zeros((3, 1)))).ravel()
    return SimpleNamespace(header=header, width=1280, height=800, distortion_model=model, k=k,
                           d=np.zeros(5), p=p, r=np.eye(3).ravel())  # fmt: skip


def mounted(frame: str = "cam") -> Any:
    """tf2_msgs/TFMessage: looks ahead."""
    x, y, z, w = rotation_to_quaternion(optical_rotation_from_rig().T).tolist()
    transform = SimpleNamespace(translation=SimpleNamespace(x=1.0, y=0.0, z=1.0),
                                rotation=SimpleNamespace(x=x, y=y, z=z, w=w))  # fmt: skip
    header = SimpleNamespace(frame_id="base_link")
    entry = SimpleNamespace(header=header, child_frame_id=frame, transform=transform)
    return SimpleNamespace(transforms=[entry])


def test_what_an_adapter_waits_for() -> None:
    """Each thing that is missing is named until it comes; a new calibration makes a new map."""
    adapter = RigAdapter(load_views("alpamayo"), "base_link")
    assert "no CameraInfo yet" in adapter.fault("front_wide")
    adapter.add_camera_info("front_wide", info("mei"))
    assert "distortion model 'mei'" in adapter.fault("front_wide")
    adapter.add_camera_info("front_wide", info(focal=0.0))
    assert "no focal lengths" in adapter.fault("front_wide")
    adapter.add_camera_info("front_wide", info())
    assert "/tf_static does not relate its frame 'cam'" in adapter.fault("front_wide")
    assert math.isnan(adapter.coverage("front_wide"))
    adapter.add_static_transforms(mounted())
    assert adapter.fault("front_wide") == ""
    narrow = adapter.coverage("front_wide")
    adapter.add_camera_info("front_wide", info(focal=320.0))
    assert adapter.coverage("front_wide") > narrow
    adapter.add_camera_info("rear_tele", info())
    assert "sees nothing of the model's view" in adapter.fault("rear_tele")


def test_rectified_images_have_no_distortion_left() -> None:
    """image_rect shares its camera's CameraInfo, and p and r are of it: its pixels are those of a
    pinhole that is turned, however the lens bends."""
    bent = info()
    bent.d = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
    bent.p[[0, 5]] = 500.0
    turn = yaw_to_rotation(0.1)
    optical = optical_rotation_from_rig()
    bent.r = (optical @ turn.T @ optical.T).ravel()  # the rectified view looks 0.1 rad to the left
    transforms = RigOffset("base_link")
    transforms.add_static_transforms(mounted())
    raw, flat = (
        camera_model(calibration_of(bent, f"/front/{name}/compressed"), transforms)
        for name in ("image_raw", "image_rect_color")
    )
    assert raw is not None and flat is not None
    ahead = turn @ np.array([[20.0, 0.0, 0.0], [20.0, -6.0, 1.0]]).T
    points = ahead.T + np.array([1.0, 0.0, 1.0])
    pixels = project(flat, points)
    expected = [[639.5, 399.5], [639.5 + 500 * 6 / 20, 399.5 - 500 * 1 / 20]]
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    assert np.abs(project(raw, points) - expected).max() > 20.0
    bent.p[:] = 0.0
    unknown = calibration_of(bent, "/front/image_rect")
    assert camera_model(unknown, transforms) is None
    assert "its p, which" in why_unusable(unknown.info)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"cameras": {}}, "image"),
        ({"image": [10, 10], "cameras": {"roof": {"lens": "pinhole", "horizontal_fov_deg": 9}}},
         "unknown camera roof"),
        ({"image": [10, 10], "cameras": {"front_wide": {"lens": "mei"}}}, "mei is not known"),
        ({"image": [10, 10], "cameras": {"front_wide": {"lens": "pinhole",
                                                        "horizontal_fov_deg": 180}}}, "is 180"),
    ],
)  # fmt: skip
def test_bad_views(content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "views.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ViewsError, match=says):
        load_views(str(path))
    with pytest.raises(ViewsError, match="Shipped: alpamayo, world"):
        load_views("nonsense")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of a rig whose front camera has 100 degrees and is turned by 5."""
    path = tmp_path_factory.mktemp("rig") / "drive"
    wide, *others = default_rig()
    rig = (PinholeCamera("front_wide", wide.position_in_rig_m, 5.0, 100.0, 576, 320), *others)
    # Another grey every time: a picture that does not change is a frozen camera's.
    greys = [encode_jpeg(np.full((320, 576, 3), 140 + k, np.uint8)) for k in range(20)]
    with BagWriter(path) as writer:
        messages = DriveMessages(writer, rig, EPOCH_NS)
        for stamp in range(0, 2_000_000_000, 20_000_000):
            state = EgoState(x_m=stamp * 1e-8, speed_mps=10.0)
            messages.write_odometry(EPOCH_NS + stamp, stamp, state)
            if stamp % 100_000_000 == 0:
                for name in DEFAULT_CAMERAS:
                    picture = greys[stamp // 100_000_000]
                    messages.write_camera(name, EPOCH_NS + stamp, stamp, picture)
    return path


def test_replay_reprojects_and_reports(bag: Path, tmp_path: Path) -> None:
    """Samples are the views, black where nothing is seen; the report says how much is seen."""
    settings = settings_from({"rig_views": "world"})
    with BagReader(bag) as reader:
        ticks = Ticks(reader, settings, read_context(reader, settings)).all()
        sample = materialise(next(tick for tick in ticks if isinstance(tick, Selection)))
    image = sample.images[list(sample.camera_indices).index(1), -1]  # front_wide
    black = (image.max(axis=2) == 0).mean()
    out = tmp_path / "plans"
    assert cli.main(["replay", str(bag), "--out", str(out), "--rig-views", "world"]) == 0
    report = yaml.safe_load((out / "report.json").read_text())
    coverage = report["view_coverage"]
    assert coverage["front_wide"] == pytest.approx(1 - black, abs=1e-6) and 0.45 < 1 - black < 0.5
    # The others are the world's own: only the outermost half pixels fall outside.
    assert min(coverage[name] for name in DEFAULT_CAMERAS if name != "front_wide") > 0.98
    # So does that of an evaluation, though the drive is too short to be scored.
    words = ["evaluate", "--bags", str(bag), "--out", str(out), "--rig-views", "world"]
    assert cli.main([*words, "--jobs", "1"]) == 1
    evaluated = yaml.safe_load((out / "report.json").read_text())
    assert evaluated["view_coverage"]["drive"] == coverage
    assert any("front_wide sees 4" in note for note in evaluated["notes"])


def test_replay_without_what_it_needs(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", str(bag), "--out", str(tmp_path), "--rig-views", "world"]
    assert cli.main([*words, "--camera", "rear_tele=/camera/front_tele/image/compressed"]) == 2
    assert "rear_tele: rig_views has no view of this camera" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="camera_info_topics has 1 entries, wanted none or 4"):
        settings_from({"camera_info_topics": ["/a"]})
