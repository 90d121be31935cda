"""Projection against OpenCV and by hand; the picture of a drive holds what it should."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpamayo_ros.cameras.projection import (
    CameraModel,
    optical_rotation_from_rig,
    project,
    project_polygon,
    project_polyline,
)
from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation.baselines import constant_turn_rate, stand_still
from alpamayo_ros.types import Pose3
from alpamayo_ros.viz import canvas
from alpamayo_ros.viz.on_camera import draw_path
from alpamayo_ros.viz.overview import DriveOverview, OverviewInstant, draw_overview

HEIGHT_M = 1.5


def camera(d: list[float] | None = None, model: str = "plumb_bob") -> CameraModel:
    """640×360, 90 degrees across, 1.5 m above the rig's origin, looking along x."""
    k = np.array([[320.0, 0, 320], [0, 320, 180], [0, 0, 1]])
    # A point of the rig's origin lies 1.5 m below the lens: y down in the optical frame.
    pose = Pose3(np.array([0.0, HEIGHT_M, 0.0]), optical_rotation_from_rig())
    return CameraModel(k, pose, 640, 360, np.array(d or []), model)


def test_projection_by_hand() -> None:
    """10 m ahead at lens height is the centre; left is left, the ground is below."""
    points = [[10, 0, HEIGHT_M], [10, 2, HEIGHT_M], [10, 0, 0], [-5, 0, 0], [0, 1, 0]]
    pixels = project(camera(), points)
    np.testing.assert_allclose(pixels[:3], [[320, 180], [256, 180], [320, 228]])
    assert np.isnan(pixels[3:]).all()  # behind, and beside the lens


def test_another_size_of_the_same_image() -> None:
    """Twice as large: a pixel's centre lies where cv2.resize puts it, half a pixel off twice."""
    pixels = project(camera().resized(1280, 720), [[10, 2, 0]])
    np.testing.assert_allclose(pixels, 2 * project(camera(), [[10, 2, 0]]) + 0.5)


@pytest.mark.parametrize(
    "model, d",
    [
        ("plumb_bob", [-0.3, 0.1, 0.001, -0.002, 0.0]),
        ("rational_polynomial", [0.5, 0.1, 0, 0, 0.01, 0.8, 0.2, 0.02]),
        ("equidistant", [0.05, -0.01, 0.002, 0.0]),
    ],
)
def test_distortion_is_opencv_s(model: str, d: list[float]) -> None:
    lens = camera(d, model)
    points = np.array([[10.0, 1.0, 0.5], [20.0, -6.0, 0.0], [8.0, 2.0, 2.5]])
    optical = lens.to_optical(points).reshape(-1, 1, 3)
    function = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    expected = function(optical, np.zeros(3), np.zeros(3), lens.k, np.array(d))[0].reshape(-1, 2)
    np.testing.assert_allclose(project(lens, points), expected, atol=1e-6)


def test_a_folding_distortion_shows_nothing_wrong() -> None:
    """Barrel distortion turns back at some angle: beyond it points would fold into the image."""
    lens = camera([-0.3, 0.0, 0.0, 0.0, 0.0])
    assert np.isfinite(project(lens, [[10, 5, 1.5]])).all()
    assert np.isnan(project(lens, [[10, 20, 1.5]])).all()
    with pytest.raises(ValueError, match="mei"):
        camera([0.1], "mei")


def test_cut_at_the_lens() -> None:
    """A strip from behind the camera to ahead of it is cut, not mirrored."""
    strip = np.array([[-5, 1, 0], [20, 1, 0], [20, -1, 0], [-5, -1, 0]], dtype=float)
    pixels = project_polygon(camera(), strip)
    assert len(pixels) == 4 and (pixels[:, 1] > 180).all()
    assert len(project_polygon(camera(), strip - [30, 0, 0])) == 0
    (piece,) = project_polyline(camera(), np.array([[-5, 0, 0], [5, 0, 0], [20, 0, 0]]))
    np.testing.assert_allclose(piece[:, 0], 320)
    assert (np.diff(piece[:, 1]) < 0).all()  # climbs towards the horizon


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(before.astype(int) - after).max(axis=2) > 8


def test_ribbon() -> None:
    """Below the horizon, in the middle, as wide as the vehicle, and to the left in a left turn."""
    picture = np.full((360, 640, 3), 90, np.uint8)
    straight = picture.copy()
    draw_path(straight, camera(), constant_turn_rate(10.0, 0.0))
    touched = changed(picture, straight)
    assert not touched[:180].any() and touched[300, 320]
    # At row 300 the ground is 4 m ahead: 1.8 m are 1.8 * 320 / 4 = 144 pixels.
    assert np.count_nonzero(touched[300]) == pytest.approx(144, abs=3)
    left = picture.copy()
    draw_path(left, camera(), constant_turn_rate(10.0, 0.2))
    columns = np.flatnonzero(changed(picture, left)[210])
    assert columns.mean() < 300


def test_future_is_orange_and_standing_is_a_bar() -> None:
    picture = np.full((360, 640, 3), 90, np.uint8)
    driven = picture.copy()
    draw_path(driven, camera(), stand_still(), constant_turn_rate(10.0, 0.0))
    assert np.abs(driven[250, 320].astype(int) - canvas.ORANGE).max() < 12
    bar = picture.copy()
    draw_path(bar, camera(), stand_still())
    rows = np.flatnonzero(changed(picture, bar).any(axis=1))
    assert len(rows) and rows.min() > 270 and rows.max() < 310


def drive(plans: int = 30) -> DriveOverview:
    times = np.arange(0, 20, 0.02)
    positions = np.stack([10 * times, 8 * np.sin(times / 3), 0 * times], axis=1)
    stamps = 2 + 0.1 * np.arange(plans)
    paths = np.array([constant_turn_rate(10.0, 0.05) + [10 * t, 0, 0] for t in stamps])
    return DriveOverview(times, positions, 10 + 0 * times, stamps, paths, np.arange(0, 1.5, 0.1))


def instant(lens: CameraModel | None, time_s: float = 3.0) -> OverviewInstant:
    image = np.full((360, 640, 3), (60, 90, 120), np.uint8)
    path = constant_turn_rate(10.0, 0.0)
    return OverviewInstant(image, path, "t0 = 3.0 s", time_s, lens, path)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_any_number_of_instants(count: int) -> None:
    picture = draw_overview([instant(camera())] * count, drive(), title="A drive", width=1200)
    assert picture.shape[1:] == (1200, 3) and picture.dtype == np.uint8
    assert picture.shape[0] > 400


def test_without_calibration_the_panel_says_so() -> None:
    """Nothing of the path is drawn, and the note covers part of the image."""
    plain = draw_overview([instant(None)], drive(), title="A drive")
    drawn = draw_overview([instant(camera())], drive(), title="A drive")
    assert plain.shape == drawn.shape
    panel = plain[120:500]  # above the note
    assert (np.abs(panel.astype(int) - canvas.SKY).max(axis=2) > 20).all()
    note = changed(np.full_like(plain, (60, 90, 120)), plain)[880:960, 1250:1560]
    assert note.mean() > 0.2


def test_colours_of_the_drive_and_the_ticks() -> None:
    picture = draw_overview([], drive(), title="A drive").reshape(-1, 3)
    for colour in (canvas.ORANGE, canvas.VERMILION):
        assert (np.abs(picture.astype(int) - colour).max(axis=1) < 6).sum() > 50


def test_degenerate_drives() -> None:
    """No odometry, one pose, a vehicle that stands, no plan at all."""
    none = np.zeros(0)
    empty = np.zeros((0, 64, 3))
    draw_overview([], DriveOverview(none, np.zeros((0, 3)), none, none, empty, none), title="x")
    for count in (1, 100):
        times, positions = 0.02 * np.arange(count), np.zeros((count, 3))
        still = DriveOverview(times, positions, 0 * times, none, np.array([]), none)
        draw_overview([instant(camera(), 0.0)], still, title="x")


def test_text_outside_and_not_ascii() -> None:
    picture = canvas.blank(20, 40)
    canvas.text(picture, (-30, 10), "far left – and long", 12)
    canvas.text(picture, (200, 10), "outside", 12)
    assert canvas.text_width("wide wide", 12) > canvas.text_width("wide", 12)


def test_saved_as_rgb(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[..., 0] = 200
    canvas.save_picture(tmp_path / "new" / "red.png", picture)
    bgr = cv2.imread(str(tmp_path / "new" / "red.png"))
    assert bgr is not None and bgr[0, 0].tolist() == [0, 0, 200]
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(UserError, match="taken.png"):
        canvas.save_picture(tmp_path / "taken.png", picture)
