"""The generated world: road, drive, cameras."""

from __future__ import annotations

import numpy as np
import pytest

from alpamayo_ros.types import DEFAULT_CAMERAS
from alpamayo_ros.world import panda
from alpamayo_ros.world.drive import CONTROL_STEP_NS, start_world
from alpamayo_ros.world.generate import generate_scene
from alpamayo_ros.world.mesh import box
from alpamayo_ros.world.record import RecordOptions, prepare_drive
from alpamayo_ros.world.render import Renderer
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M, generate_road
from alpamayo_ros.world.vehicle import WIDTH_M, Command, EgoState, step

SEEDS = (0, 1, 2, 3, 4)
MAGENTA = (1.0, 0.0, 1.0)


# Road


@pytest.mark.parametrize("seed", SEEDS)
def test_road_bends_both_ways_and_never_too_tightly(seed: int) -> None:
    road = generate_road(seed, 1500.0)
    curvature = road.curvature_1pm
    assert curvature.max() > 1 / 140 and curvature.min() < -1 / 140
    lane = curvature / (1.0 - curvature * EGO_LANE_OFFSET_M)
    assert 1.0 / np.abs(lane).max() >= 40.0
    assert np.abs(np.diff(curvature)).max() < 0.001  # clothoids: no jump
    assert road.heading_rad.min() > -np.pi / 2 and road.heading_rad.max() < np.pi / 2


def test_road_of_a_seed_only_grows_with_its_length() -> None:
    short, long = generate_road(5, 400.0), generate_road(5, 900.0)
    n = len(short.s_m)
    np.testing.assert_array_equal(short.xy_m, long.xy_m[:n])
    assert not np.array_equal(short.xy_m, generate_road(6, 400.0).xy_m[:n])


def test_points_and_nearest_are_inverse_and_left_is_positive() -> None:
    road = generate_road(1, 600.0)
    rng = np.random.default_rng(0)
    for s_m, d_m in zip(rng.uniform(5.0, 595.0, 200), rng.uniform(-15.0, 15.0, 200), strict=True):
        assert road.nearest(road.points(s_m, d_m)) == pytest.approx((s_m, d_m), abs=0.01)
    assert road.points(10.0, 2.0)[1] > road.points(10.0, 0.0)[1]  # starts along x


def test_heading_and_curvature_are_derivatives_of_the_line() -> None:
    road = generate_road(2, 800.0)
    tangent = np.diff(road.xy_m, axis=0) / np.diff(road.s_m)[:, None]
    np.testing.assert_allclose(np.linalg.norm(tangent, axis=1), 1.0, atol=1e-6)
    angle = np.arctan2(tangent[:, 1], tangent[:, 0])
    middle = 0.5 * (road.heading_rad[1:] + road.heading_rad[:-1])
    np.testing.assert_allclose(angle, middle, atol=1e-4)


# Vehicle and drive


def test_a_step_is_an_exact_arc() -> None:
    start = EgoState(1.0, 2.0, 0.3, 8.0)
    command = Command(0.7, 0.02)
    whole = step(start, command, 1.0)
    parts = start
    for _ in range(10):
        parts = step(parts, command, 0.1)
    for name in ("x_m", "y_m", "yaw_rad", "speed_mps"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-9)
    assert whole.yaw_rad == pytest.approx(0.3 + 0.02 * (8.0 + 0.35))


def test_braking_ends_in_standstill() -> None:
    stopped = step(EgoState(speed_mps=2.0), Command(-4.0), 3.0)
    assert stopped.speed_mps == 0.0
    assert stopped.x_m == pytest.approx(0.5)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_the_ego_stays_in_its_lane_within_its_limits(seed: int) -> None:
    scene, drive = prepare_drive(RecordOptions(seconds=60.0, seed=seed))
    free_m = 0.5 * (LANE_WIDTH_M - WIDTH_M)
    offsets = [scene.road.nearest((s.x_m, s.y_m))[1] for s in drive.states[::20]]
    assert np.abs(np.array(offsets) - EGO_LANE_OFFSET_M).max() < 0.5 * free_m
    speed = np.array([s.speed_mps for s in drive.states])
    curvature = np.array([s.curvature_1pm for s in drive.states])
    assert np.abs(speed**2 * curvature).max() <= 2.0
    assert 10.0 < speed.max() <= 12.05
    acceleration = np.diff(speed) / (CONTROL_STEP_NS / 1e9)
    assert acceleration.min() > -3.2 and acceleration.max() < 1.4


def test_a_long_drive_stops_once_and_goes_on() -> None:
    _, drive = prepare_drive(RecordOptions(seconds=60.0))
    speed = np.array([s.speed_mps for s in drive.states])
    standing = np.flatnonzero(speed < 0.05)
    assert 1.5 < len(standing) * CONTROL_STEP_NS / 1e9 < 6.0
    assert np.ptp(standing) < 700 and speed[standing[-1] :].max() > 6.0


def test_the_world_steps_by_any_command_not_only_its_driver() -> None:
    world = start_world(generate_scene(0, 500.0, 10.0), 5.0)
    start = world.ego
    for _ in range(10):
        world.step(Command(1.0, 0.0), 100_000_000)
    assert world.time_s == pytest.approx(1.0)
    assert world.ego.speed_mps == pytest.approx(6.0)
    assert np.hypot(world.ego.x_m - start.x_m, world.ego.y_m - start.y_m) == pytest.approx(5.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_stands_on_the_road_and_traffic_keeps_to_its_lane(seed: int) -> None:
    scene = generate_scene(seed, 900.0, 20.0)
    kinds = set()
    for item in (item for chunk in scene.items for item in chunk):
        kinds.add(item.kind)
        corners = 0.5 * np.array([(a * item.size_m[0], b * item.size_m[1])
                                  for a in (-1, 0, 1) for b in (-1, 0, 1)])  # fmt: skip
        c, s = np.cos(item.yaw_rad), np.sin(item.yaw_rad)
        if item.kind in ("broadleaf", "conifer", "lamp"):
            corners = corners[4:5]  # the trunk: crowns and arms may reach over
        at = corners @ np.array([[c, s], [-s, c]]) + (item.x_m, item.y_m)
        assert min(abs(scene.road.nearest(p)[1]) for p in at) > 4.0, item
    assert {"broadleaf", "conifer", "bush", "house", "car", "lamp", "post"} <= kinds
    for actor in scene.actors(7.0):
        assert scene.road.nearest((actor.x_m, actor.y_m))[1] == pytest.approx(1.75, abs=0.01)


def test_scene_is_the_seeds() -> None:
    one, other = generate_scene(1, 500.0, 10.0), generate_scene(2, 500.0, 10.0)
    generate_scene.cache_clear()
    again = generate_scene(1, 500.0, 10.0)
    assert again.items == one.items and again.traffic == one.traffic and again.light == one.light
    assert other.items != one.items


# Cameras and pictures


def test_rig_is_named_and_placed_like_the_models() -> None:
    rig = default_rig()
    assert tuple(camera.name for camera in rig) == DEFAULT_CAMERAS
    fov = {c.name: 2 * np.degrees(np.arctan(0.5 * c.width_px / c.intrinsics[0, 0])) for c in rig}
    assert fov == pytest.approx(
        {"front_wide": 120.0, "front_tele": 30.0, "cross_left": 120.0, "cross_right": 120.0}
    )
    for camera in rig:
        x, y, z, w = camera.rig_from_optical_xyzw
        rotation = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        np.testing.assert_allclose(rotation, camera.rig_from_optical, atol=1e-12)
        ahead = camera.rig_from_optical[:, 2]
        expected = {"cross_left": 57.0, "cross_right": -57.0}.get(camera.name, 0.0)
        assert np.degrees(np.arctan2(ahead[1], ahead[0])) == pytest.approx(expected)
        np.testing.assert_allclose(camera.rig_from_optical[:, 1], (0, 0, -1), atol=1e-12)


@pytest.mark.parametrize(
    "marker_in_rig_m, seen_by",
    [
        ((21.7, 2.0, 1.45), {"front_wide", "front_tele", "cross_left"}),
        ((21.7, -2.0, 0.4), {"front_wide", "front_tele", "cross_right"}),
        ((9.0, 9.0, 2.5), {"front_wide", "cross_left"}),
        ((3.0, -9.0, 0.5), {"cross_right"}),
    ],
)
def test_a_marker_is_seen_where_intrinsics_and_mounting_say(
    marker_in_rig_m: tuple[float, float, float], seen_by: set[str]
) -> None:
    """Pixels within 2 px of the projection, in the right cameras, at any pose of the rig."""
    rig = default_rig()
    x_m, y_m, yaw = 120.0, -35.0, 0.7
    cameras = panda.OffscreenCameras(rig)
    marker = panda.node(box(marker_in_rig_m, (0.3, 0.3, 0.3), MAGENTA))
    marker.setPosHpr(x_m, y_m, 0.0, float(np.degrees(yaw)), 0.0, 0.0)
    marker.reparentTo(cameras.world)
    images = cameras.render(x_m, y_m, yaw, np.ones(3))
    cameras.close()
    for camera in rig:
        red, green, blue = np.moveaxis(images[camera.name].astype(int), -1, 0)
        rows, columns = np.nonzero((red > 150) & (blue > 150) & (green < 100))
        if camera.name not in seen_by:
            assert len(rows) == 0, camera.name
            continue
        seen = (0.5 * (columns.min() + columns.max()), 0.5 * (rows.min() + rows.max()))
        wanted = camera.project(np.array([marker_in_rig_m]))[0]
        np.testing.assert_allclose(seen, wanted, atol=2.0, err_msg=camera.name)
        if camera.name.startswith("front"):
            assert (seen[0] < 288) == (marker_in_rig_m[1] > 0), "left is left"


def test_the_edge_line_is_painted_where_the_road_has_it() -> None:
    """Bright at the solid line's projection, dark 0.5 m inside it, through a bend."""
    scene, drive = prepare_drive(RecordOptions(seconds=12.0, seed=0))
    rig = default_rig()
    wide = rig[0]
    with Renderer(scene, rig) as renderer:
        for time_s in (0.5, 6.0, 11.0):
            ego = drive.at(int(time_s * 1e9))
            image = renderer.render(ego, [], time_s)["front_wide"].astype(int).sum(axis=2)
            s_m, _ = scene.road.nearest((ego.x_m, ego.y_m))
            ahead = s_m + np.arange(7.0, 17.0)
            brightness = []
            for d_m in (-LANE_WIDTH_M + 0.05, -LANE_WIDTH_M + 0.55):
                delta = scene.road.points(ahead, d_m) - (ego.x_m, ego.y_m)
                c, s = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
                in_rig = np.column_stack((delta @ (c, s), delta @ (-s, c), 0.0 * ahead))
                columns, rows = np.round(wide.project(in_rig)).astype(int).T
                brightness.append(image[rows, columns])
            assert (brightness[0] > 1.4 * brightness[1]).mean() > 0.9, time_s


def test_light_changes_and_sky_is_above_the_ground() -> None:
    scene, drive = prepare_drive(RecordOptions(seconds=2.0, seed=1))
    with Renderer(scene, default_rig(160, 96)) as renderer:
        early = renderer.render(drive.at(0), [], 0.0)["front_wide"]
        late = renderer.render(drive.at(0), [], scene.light.cloud_period_s / 2)["front_wide"]
    assert early[:10, :, 2].mean() > early[:10, :, 0].mean() + 20  # blue above
    assert abs(early.mean() - late.mean()) > 2.0
