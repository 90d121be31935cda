"""CameraInfo and mountings against a model's rig."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.rig_check import Lens, lens_of, problems
from alpamayo_ros.world.rig import default_rig

RIG = load_manifest("alpamayo_1_5").rig
CAMERAS = {camera.name: camera for camera in default_rig()}


def info(camera: str, **changes: Any) -> SimpleNamespace:
    """A CameraInfo as the generated world has it."""
    described = CAMERAS[camera]
    values = {
        "width": described.width_px,
        "height": described.height_px,
        "k": described.intrinsics.ravel(),
        "distortion_model": "plumb_bob",
    }
    return SimpleNamespace(**{**values, **changes})


def found(camera: str, looks_as: str = "", turn: np.ndarray | None = None, **lens: Any) -> str:
    """The problems of a camera with the mounting of another, turned, or with another lens."""
    rotation = CAMERAS[looks_as or camera].rig_from_optical
    rotation = rotation if turn is None else rotation @ turn
    return "; ".join(problems(camera, lens_of(info(camera, **lens)), rotation, RIG, True))


def rolled(degrees: float) -> np.ndarray:
    """About the optical axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_worlds_rig_is_as_the_models(camera: str) -> None:
    """Whatever is not known is no problem either."""
    assert found(camera) == ""
    assert problems(camera, None, None, RIG, True) == []
    assert problems(camera, lens_of(info(camera)), None, {}, True) == []


def test_left_and_right_swapped() -> None:
    """By where they are mounted."""
    assert found("cross_left", "cross_right") == (
        "cross_left looks 57 degrees to the right, the model was trained with 57 degrees to the "
        "left: is it swapped with the other side's?"
    )
    assert "swapped" in found("cross_right", "cross_left")


def test_turned_and_rolled() -> None:
    """A camera on its head, on its side, or that looks elsewhere; 5 degrees are a mounting's."""
    assert "rolled by 180 degrees" in found("front_wide", turn=rolled(180.0)).replace("-", "")
    assert "rolled by" in found("front_tele", turn=rolled(90.0))
    assert found("front_wide", turn=rolled(5.0)) == ""
    assert "looks straight ahead" in found("cross_left", "front_wide")


@pytest.mark.parametrize(
    ("camera", "changes", "says"),
    [
        ("front_wide", {"k": CAMERAS["front_tele"].intrinsics.ravel()}, "sees 30 degrees across"),
        ("front_tele", {"k": CAMERAS["front_wide"].intrinsics.ravel()}, "sees 120 degrees across"),
        ("front_wide", {"width": 288}, "another camera"),  # of half the width
        ("front_wide", {"k": [166.0, 0, 288, 0, 332.0, 160, 0, 0, 1]}, "pixels are 0.50 times"),
    ],
)
def test_another_lens(camera: str, changes: dict[str, Any], says: str) -> None:
    """What the picture shows is not what the model knows."""
    assert says in found(camera, **changes)


def test_what_a_crop_leaves_is_what_counts() -> None:
    """4:3 pictures keep their width, 2:1 pictures lose some of it; a fisheye's angle is its own."""
    tall = Lens(640, 480, 184.75, 184.75, False)
    wide = Lens(1000, 320, 250.0, 250.0, False)
    assert tall.horizontal_fov_deg(True) == pytest.approx(120.0, abs=0.1)
    assert wide.horizontal_fov_deg(True) < wide.horizontal_fov_deg(False) - 15.0
    assert Lens(600, 320, 286.5, 286.5, True).horizontal_fov_deg(False) == pytest.approx(120, abs=1)


@pytest.mark.parametrize("k", ([0.0] * 9, [float("nan")] * 9))
def test_no_calibration_is_none(k: list[float]) -> None:
    """ROS: K[0] == 0 means uncalibrated."""
    assert lens_of(info("front_wide", k=k)) is None


@pytest.mark.parametrize(
    "rig", ("{front: {horizontal_fov_deg: 3, yaw_deg: 0}}", "{front_wide: {yaw_deg: 0}}", "[1]")
)
def test_a_rig_that_is_none(tmp_path: Any, rig: str) -> None:
    """Refused with the file and what is wanted."""
    path = tmp_path / "model.yaml"
    path.write_text(
        "name: m\nbackend: kinematic\nlicence: x\ncameras: {minimum: 1, maximum: 7}\n"
        f"rig: {rig}\n"
    )
    with pytest.raises(ModelError, match="horizontal_fov_deg"):
        load_manifest(str(path))
