"""Videos and pictures of a drive: paths lie where they are, plans move with the vehicle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from alpamayo_ros import action_space, cli, messages
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.moments import Moments
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import PLANNER_TOPICS
from alpamayo_ros.bags.shown import ShownPlans, read_shown_plans
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.cameras.projection import F_THETA, CameraModel
from alpamayo_ros.geometry import identity_pose, yaw_to_rotation
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.types import DEFAULT_CAMERAS, Decisions, Plan, Pose3, ReasoningSource
from alpamayo_ros.viz import canvas
from alpamayo_ros.viz.dashboard import Dashboard
from alpamayo_ros.viz.moment import Moment
from alpamayo_ros.world.messages import DriveMessages
from alpamayo_ros.world.record import encode_jpeg
from alpamayo_ros.world.render import Renderer
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.scenes import scene_of
from alpamayo_ros.world.vehicle import EgoState

av = pytest.importorskip("av", reason="needs PyAV: make test installs it")

SPEED, START_M, FRAMES = 10.0, 40.0, 28
EPOCH_NS = 1_700_000_000 * 1_000_000_000
HOLE = ("cross_left", 26)  # a frame that was lost


def state_at(time_s: float) -> EgoState:
    """On the middle of the lane of a straight road along x, at 10 m/s."""
    return EgoState(START_M + SPEED * time_s, EGO_LANE_OFFSET_M, 0.0, SPEED)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.8 s of a straight road in the generated world."""
    path = tmp_path_factory.mktemp("render") / "straight"
    rig = default_rig()
    scene = scene_of(make_scenario("straight", 1))
    with Renderer(scene, rig) as renderer, BagWriter(path) as writer:
        world = DriveMessages(writer, rig, EPOCH_NS)
        for k in range(5 * FRAMES):
            stamp = k * 20_000_000
            world.write_odometry(EPOCH_NS + stamp, stamp, state_at(stamp * 1e-9))
            if k % 5:
                continue
            for name, image in renderer.render(state_at(stamp * 1e-9), [], 0.0).items():
                if (name, k // 5) != HOLE:
                    log_ns = EPOCH_NS + stamp + 15_000_000
                    world.write_camera(name, log_ns, stamp, encode_jpeg(image))
    return path


@pytest.fixture(scope="module")
def plans(bag: Path) -> Path:
    """What `alpamayo replay` writes."""
    out = bag.parent / "plans"
    assert cli.main(["replay", str(bag), "--out", str(out)]) == 0
    return out / "plans.mcap"


def moments_of(bag: Path, plans: ShownPlans) -> tuple[list[Moment], Dashboard]:
    settings = settings_from({})
    with BagReader(bag) as reader:
        moments = Moments(reader, settings, read_context(reader, settings), plans)
        dashboard = Dashboard([c.name for c in moments.cameras], moments.track.limits, "test")
        return list(moments.all(dashboard.panel_size)), dashboard


def test_path_lies_on_the_lane_centre(bag: Path, plans: Path) -> None:
    """The ribbon's middle at 20 m is the lane's, as the world's own cameras see it, to 2 px."""
    planned, dashboard = moments_of(bag, read_shown_plans(plans))
    bare, _ = moments_of(bag, ShownPlans([], []))
    index = 22
    drawn, plain = dashboard.draw(planned[index]), dashboard.draw(bare[index])
    assert planned[index].plan is not None and bare[index].plan is None
    middle = np.array([[20.0, 0.0, 0.0]])  # the rig drives on the lane's middle
    width, height = dashboard.panel_size(0)
    rig = {camera.name: camera for camera in default_rig(width, height)}
    column, row = rig["front_wide"].project(middle)[0]
    touched = np.abs(drawn.astype(int) - plain).max(axis=2)[:height, :width] > 12
    columns = np.flatnonzero(touched[round(row)])
    # 1.8 m at 20 m less 1.7 m to the lens: the ribbon, not a stray line.
    across = 1.8 * rig["front_wide"].intrinsics[0, 0] / (20.0 - 1.7)
    assert columns[-1] - columns[0] == pytest.approx(across, abs=4)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(column, abs=2)
    # The painted lines left and right of it, found in the picture, have the same middle.
    grey = plain[round(row), :width].mean(axis=1)
    beside = round(1.75 * rig["front_wide"].intrinsics[0, 0] / (20.0 - 1.7))
    paint = [
        at - 8 + int(np.argmax(grey[at - 8 : at + 9]))
        for at in (round(column) - beside, round(column) + beside)
    ]
    assert min(grey[paint]) > grey[round(column)] + 25
    assert sum(paint) / 2 == pytest.approx(column, abs=3)  # lines are 3 px wide there


def test_a_lost_frame_and_a_lost_plan(bag: Path, plans: Path) -> None:
    """The camera without a frame says so; before the first plan the refusal is there."""
    planned, dashboard = moments_of(bag, read_shown_plans(plans))
    assert len(planned) == FRAMES
    lost = [
        (view.name, k)
        for k, moment in enumerate(planned)
        for view in moment.views
        if view.image is None
    ]
    assert lost == [HOLE]
    assert planned[2].plan is None and "warming_up" in planned[2].refusal
    assert dashboard.draw(planned[20]).shape == (720, 1280, 3)
    assert [view.name for view in planned[0].views] == list(DEFAULT_CAMERAS)


def test_an_older_plan_moves_with_the_vehicle(bag: Path, plans: Path) -> None:
    """100 ms behind t0 its points lie 1 m nearer, and its times 0.1 s earlier; 0.5 s: none."""
    shown = read_shown_plans(plans)
    (moments, _) = moments_of(bag, shown)
    stamp = EPOCH_NS + 22 * 100_000_000
    plan = shown.in_force(stamp)
    assert plan is not None and plan.t0_ns == stamp
    assert shown.in_force(EPOCH_NS + FRAMES * 100_000_000 + 500_000_000) is None
    moved = plan.at(stamp + 100_000_000, Pose3(np.array([-1.0, 0.0, 0.0]), np.eye(3)))
    here = moments[22].plan
    assert here is not None
    np.testing.assert_allclose(here.xyz_m - moved.xyz_m, [[1.0, 0.0, 0.0]] * 65, atol=1e-5)
    np.testing.assert_allclose(here.times_s - moved.times_s, 0.1, atol=1e-9)
    recorded = moments[22].recorded
    np.testing.assert_allclose(recorded.xyz_m[:, 0], SPEED * recorded.times_s, atol=1e-6)
    np.testing.assert_allclose(recorded.curvatures_1pm, 0.0, atol=1e-9)


@pytest.mark.parametrize("frame_id", ["odom", "base_link"])
def test_candidates_come_back(frame_id: str, bag: Path, tmp_path: Path) -> None:
    """All but the chosen one, in the rig frame at t0 whatever frame they were published in."""
    paths = [action_space.integrate([(0.0, c)] * 64, SPEED) for c in (0.0, 0.02, -0.02)]
    (xyz, rot), action = paths[0], np.tile((0.0, 0.0), (64, 1))
    stamp = EPOCH_NS + 22 * 100_000_000
    plan = Plan(
        stamp, xyz, rot, action, SPEED, np.array([p[0] for p in paths]),
        np.array([p[1] for p in paths]), "Follow the lane.", ReasoningSource.MODEL,
        Decisions("keep speed", "keep lane"), "test",
    )  # fmt: skip
    pose = Pose3(np.array([50.0, 20.0, 1.0]), yaw_to_rotation(0.5))
    frame = PathFrame(frame_id, "base_link", pose if frame_id == "odom" else identity_pose())
    with BagWriter(tmp_path / "plans") as writer:
        for name, message in (
            ("trajectory", messages.trajectory(writer.make, plan, frame, 1)),
            ("candidates", messages.candidates(writer.make, plan, frame)),
            ("reasoning_trace", messages.reasoning_trace(writer.make, plan, frame)),
        ):
            writer.add_topic(f"/planner/{name}", PLANNER_TOPICS[name])
            writer.write(f"/planner/{name}", stamp, message)
    plans = read_shown_plans(tmp_path / "plans")
    shown = plans.in_force(stamp)
    assert shown is not None
    # float32 holds 64 m to 4 micrometres.
    np.testing.assert_allclose(shown.xyz_in_rig_t0[1:], xyz, atol=2e-5)
    np.testing.assert_allclose(shown.candidates_in_rig_t0, [p[0] for p in paths[1:]], atol=2e-5)
    assert (shown.reasoning, shown.decisions) == ("Follow the lane.", "keep speed, keep lane")
    drawn, dashboard = moments_of(bag, plans)
    above = dashboard.draw(drawn[22])[40:440, 810:1180]  # without the legend
    assert (np.abs(above.astype(int) - canvas.GREEN).max(axis=2) < 30).sum() > 50


def test_video(bag: Path, plans: Path, tmp_path: Path) -> None:
    """A picture a front frame at the frame's own time; planned and driven are in it."""
    out, report = tmp_path / "drive.mp4", tmp_path / "report.json"
    words = ["render", str(bag), str(plans), "--out", str(out), "--json", str(report)]
    assert cli.main(words) == 0
    content = json.loads(report.read_text())
    assert content["pictures"] == FRAMES and content["with_plan"] == FRAMES - 15
    assert content["drive_s"] == pytest.approx(0.1 * FRAMES, abs=1e-3)
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    assert [round(float(frame.time), 3) for frame in frames] == [
        round(0.1 * k, 3) for k in range(FRAMES)
    ]
    above = frames[22].to_ndarray(format="rgb24")[:440, 810:]
    for colour in (canvas.BLUE, canvas.ORANGE):  # H.264 bends colours by a few levels
        assert (np.abs(above.astype(int) - colour).max(axis=2) < 40).sum() > 30


def test_picture_with_plans_of_a_model(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / "instant.png"
    words = ["render", str(bag), "--model", "kinematic", "--at", "2.15", "--out", str(out)]
    assert cli.main([*words, "--json", str(tmp_path / "at.json")]) == 0
    assert cv2.imread(str(out)).shape == (720, 1280, 3)
    assert json.loads((tmp_path / "at.json").read_text()) == {"time_s": 2.2, "planned": True}


def test_one_camera_and_plans_in_the_same_bag(bag: Path, plans: Path, tmp_path: Path) -> None:
    """What `make demo` records: the front camera, and the planner's topics beside it."""
    out = tmp_path / "both"
    left_out = ("/camera/front_tele", "/camera/cross")
    with BagWriter(out) as writer:
        for path in (bag, plans):
            with BagReader(path) as reader:
                for topic, kind, log_ns, data in reader.raw_messages():
                    if not topic.startswith(left_out):
                        writer.add_topic(topic, kind)
                        writer.write_raw(topic, log_ns, data)
    picture = tmp_path / "at.jpg"
    words = ["render", str(out), "--at", "2", "--out", str(picture)]
    assert cli.main([*words, "--json", str(tmp_path / "at.json")]) == 0
    assert json.loads((tmp_path / "at.json").read_text())["planned"]
    assert cv2.imread(str(picture)).shape == (720, 1280, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "x.mp4"], "has no /planner/trajectory"),
        (["--out", "x.png"], "does not end in .mp4"),
        (["--model", "kinematic", "--at", "9", "--out", "x.png"], "no frame of front_wide"),
    ],
)
def test_wrong_use(
    bag: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["render", str(bag), *words]) == 2
    assert says in capsys.readouterr().err


def test_f_theta_by_an_independent_computation() -> None:
    """Pixels of rays from their angles, by spherical trigonometry and Horner's rule."""
    lens = FTheta(1920, 1080, 958.3, 545.1, (0.0, 931.0, -6.1, -21.4, 2.5), (0.0, 1e-3))
    k, d = lens.intrinsics()
    pose = Pose3(np.array([0.2, 1.4, -1.7]), np.eye(3))
    camera = CameraModel(k, pose, lens.width, lens.height, d, F_THETA)
    half = camera.resized(960, 540)
    rng = np.random.default_rng(4)
    for _ in range(200):
        angle, azimuth = rng.uniform(0.0, 1.2), rng.uniform(-math.pi, math.pi)
        distance = rng.uniform(1.0, 80.0)
        radius = 0.0
        for coefficient in reversed(lens.radius_of_angle):
            radius = radius * angle + coefficient
        wanted = (
            lens.cx + radius * math.cos(azimuth),
            lens.cy + radius * math.sin(azimuth),
        )
        sideways = distance * math.sin(angle)
        point = np.array([[sideways * math.cos(azimuth), sideways * math.sin(azimuth),
                           distance * math.cos(angle)]])  # fmt: skip
        if point[0, 2] < 0.3:
            continue
        # Rounding of float64 over 1e3 pixels is below 1e-9.
        np.testing.assert_allclose(camera.to_pixels(point)[0], wanted, atol=1e-9)
        np.testing.assert_allclose(
            half.to_pixels(point)[0], (np.array(wanted) + 0.5) / 2 - 0.5, atol=1e-9
        )
    np.testing.assert_allclose(camera.to_pixels([[0, 0, 5]])[0], (lens.cx, lens.cy), atol=1e-9)


def test_bench(tmp_path: Path) -> None:
    """`alpamayo bench render` counts what it drew; how fast is the machine's affair."""
    path = tmp_path / "bench.json"
    words = ["bench", "render", "--seconds", "2", "--size", "192x108", "--json", str(path)]
    assert cli.main(words) == 0
    result = json.loads(path.read_text())
    assert (result["pictures"], result["with_plan"]) == (20, 4)
    assert result["bars"][0]["value"] == pytest.approx(result["times_real_time"])
    assert result["drive_s"] == pytest.approx(2.0)
