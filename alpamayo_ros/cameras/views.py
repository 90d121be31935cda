"""The views that a model was trained on: lens and direction of each of its cameras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros import geometry, resources
from alpamayo_ros.cameras.projection import F_THETA, CameraModel, optical_rotation_from_rig
from alpamayo_ros.errors import UserError
from alpamayo_ros.types import CAMERA_NAMES, Pose3
from alpamayo_ros.yaml_text import YamlError, read_yaml

Array = NDArray[np.float64]

LENSES = ("pinhole", F_THETA)
_ANGLES = ("yaw_deg", "pitch_deg", "roll_deg")
_KEYS = ("lens", "horizontal_fov_deg", "intrinsics", "d", *_ANGLES)


class ViewsError(UserError):
    """A file of views that cannot be used; the message names the file and the entry."""


def load_views(name: str) -> dict[str, CameraModel]:
    """Camera -> its view, of config/views/<name>.yaml or of a path. Raises ViewsError.

    Only directions count: each view is where its camera is, so that `optical_from_rig` turns and
    does not shift.
    """
    shipped = resources.resource("config", "views")
    path = Path(name) if resources.is_path(name) else shipped / f"{name}.yaml"
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        names = sorted(p.stem for p in shipped.glob("*.yaml"))
        raise ViewsError(
            f"rig_views {name!r}: {path} does not exist. Shipped: {', '.join(names)}; or give "
            "the path of a file of views"
        ) from error
    except (OSError, YamlError) as error:
        raise ViewsError(f"{path} cannot be read: {error}") from error
    try:
        width, height = (int(length) for length in content["image"])
        cameras: Mapping[str, Any] = content["cameras"]
        views = {camera: _view(entry, width, height) for camera, entry in cameras.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ViewsError(
            f"{path}: wanted `image: [width, height]` and `cameras` with `lens` "
            f"({' or '.join(LENSES)}), `horizontal_fov_deg` or `intrinsics`, and angles: {error}"
        ) from error
    unknown = [camera for camera in views if camera not in CAMERA_NAMES]
    if unknown or not views:
        raise ViewsError(f"{path}: unknown camera {', '.join(map(str, unknown)) or '(none given)'}")
    return views


def _view(entry: Mapping[str, Any], width: int, height: int) -> CameraModel:
    unknown = [key for key in entry if key not in _KEYS]
    if unknown or entry["lens"] not in LENSES:
        raise ValueError(f"{', '.join(map(str, unknown)) or entry['lens']} is not known")
    f_theta = entry["lens"] == F_THETA
    if "intrinsics" in entry:
        fx, fy, cx, cy = (float(value) for value in entry["intrinsics"])
    else:
        half = np.deg2rad(float(entry["horizontal_fov_deg"])) / 2
        if not 0 < half < np.pi / 2:
            raise ValueError(f"horizontal_fov_deg is {entry['horizontal_fov_deg']}")
        fx = fy = 0.5 * width / (half if f_theta else float(np.tan(half)))
        cx, cy = 0.5 * (width - 1), 0.5 * (height - 1)
    k = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    d = [float(value) for value in entry.get("d", [0.0, 1.0] if f_theta else [])]
    if d and not f_theta:
        raise ValueError("a pinhole view has no d")
    rotation = (
        optical_rotation_from_rig()
        @ rig_rotation(*(float(entry.get(name, 0.0)) for name in _ANGLES)).T
    )
    return CameraModel(k, Pose3(np.zeros(3), rotation), width, height, np.array(d),
                       F_THETA if f_theta else "plumb_bob")  # fmt: skip


def rig_rotation(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Array:
    """(3, 3) of a camera's body in the rig: yaw to the left, pitch up, roll to the right."""
    yaw, pitch, roll = np.deg2rad([yaw_deg, pitch_deg, roll_deg]).tolist()
    return geometry.euler_to_rotation(roll, -pitch, yaw)


def rays_in_rig(view: CameraModel, rows: ArrayLike, columns: ArrayLike) -> Array:
    """(n * m, 3) unit directions of a view's pixels in (n,) rows and (m,) columns, row by row."""
    rows, columns = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    x = (columns - view.k[0, 2]) / view.k[0, 0]
    y = (rows - view.k[1, 2]) / view.k[1, 1]
    if view.distortion_model == F_THETA:
        # The polynomial has no closed inverse; between 1e-4 rad it is straight to 1e-8.
        angles = np.linspace(0.0, 0.5 * np.pi, 15_709)
        radii = np.stack([angles**p for p in range(len(view.d))], axis=1) @ view.d
        falls = np.flatnonzero(np.diff(radii) <= 0)
        end = int(falls[0]) + 1 if len(falls) else len(radii)
        radius = np.hypot(x, y)
        angle = np.interp(radius, radii[:end], angles[:end], right=np.nan)
        sideways = np.sin(angle) / np.maximum(radius, 1e-12)
        optical = np.stack([x * sideways, y * sideways, np.cos(angle)], axis=1)
    else:
        optical = np.stack([x, y, np.ones_like(x)], axis=1)
        optical /= np.linalg.norm(optical, axis=1, keepdims=True)
    return np.asarray(optical @ view.optical_from_rig.rotation)
