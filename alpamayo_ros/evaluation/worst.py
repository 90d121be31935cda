"""The instants at which a planner was farthest off, as pictures: front camera and from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.bags.context import read_mountings
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.report import images_at
from alpamayo_ros.cameras.calibration import camera_model
from alpamayo_ros.evaluation.figures import COLUMNS
from alpamayo_ros.evaluation.scores import Instant, Scores
from alpamayo_ros.evaluation.tables import Row
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import N_WAYPOINTS, NS_PER_S
from alpamayo_ros.viz import canvas as draw
from alpamayo_ros.viz.on_camera import draw_path

Rgb = NDArray[np.uint8]
Array = NDArray[np.float64]

COUNT = 10
APART_S = 2.0  # two instants of one bag that are nearer show the same failure
_HEIGHT, _ABOVE_WIDTH = 270, 270


@dataclass(frozen=True, slots=True)
class WorstPicture:
    """One instant's picture as a JPEG, and what to write below it."""

    jpeg: bytes
    caption: str


def worst_instants(scores: Scores, instants: Sequence[Instant]) -> list[Instant]:
    """Those of `instants` with the planner's largest ADE, worst first, no two of one event."""
    places = scores.of(set(instants))
    errors_m = scores.figures[places, COLUMNS.index("ade_m@6.4")].tolist()
    ranked = sorted((-error_m, *scores.instants[k]) for error_m, k in zip(errors_m, places))
    chosen: list[Instant] = []
    for _, bag, t0_ns in ranked:
        if not any(
            bag == other and abs(t0_ns - other_ns) < APART_S * NS_PER_S
            for other, other_ns in chosen
        ):
            chosen.append((bag, t0_ns))
        if len(chosen) == COUNT:
            break
    return chosen


def worst_pictures(
    rows: Sequence[Row], bags: Mapping[str, Path], settings: PlannerSettings
) -> list[WorstPicture]:
    """A picture a row, in the order of the rows; each bag is opened once. Raises BagError."""
    pictures: dict[int, WorstPicture] = {}
    by_name = {camera.name: camera for camera in settings.cameras}
    front = by_name.get("front_wide", settings.cameras[0])
    for label in dict.fromkeys(row["bag"] for row in rows):
        indices = [k for k, row in enumerate(rows) if row["bag"] == label]
        with BagReader(bags[label]) as bag:
            context = read_mountings(bag, settings)
            images = images_at(bag, front, [rows[k]["t0_ns"] for k in indices])
            lens = camera_model(context.calibrations.get(front.name), context.transforms)
            for k in indices:
                row = rows[k]
                path, future = _path(row["path_xy_m"]), _path(row["future_xy_m"])
                parts = [_from_above(path, future)]
                image = images.get(row["t0_ns"])
                if image is not None:
                    height, width = image.shape[:2]
                    size = round(width * _HEIGHT / height), _HEIGHT
                    view: Rgb = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
                    if lens is not None:
                        draw_path(view, lens.resized(*size), path, future)
                    parts.insert(0, view)
                since_s = (row["t0_ns"] - bag.start_ns) / NS_PER_S
                caption = (
                    f"{label} at {since_s:.1f} s: ADE {row['ade_m@6.4']:.2f} m, "
                    f"FDE {row['fde_m@6.4']:.2f} m; {row['group_manoeuvre']}, "
                    f"{row['group_speed']}. {row['reasoning']}"
                )
                pictures[k] = WorstPicture(_jpeg(np.hstack(parts)), caption)
    return [pictures[k] for k in sorted(pictures)]


def _path(flat: Sequence[float]) -> Array:
    """(64, 3) with z = 0."""
    return np.hstack([np.reshape(flat, (N_WAYPOINTS, 2)), np.zeros((N_WAYPOINTS, 1))])


def _from_above(path: Array, future: Array) -> Rgb:
    """Both paths with x upwards, to one scale on both axes."""
    picture = draw.blank(_HEIGHT, _ABOVE_WIDTH, draw.WHITE)
    points = np.vstack([np.zeros((1, 3)), path, future])[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min((_HEIGHT - 40) / max(high[0] - low[0], 5.0),
                (_ABOVE_WIDTH - 40) / max(high[1] - low[1], 5.0))  # fmt: skip
    centre = (low + high) / 2

    def pixels(line: Array) -> Array:
        from_centre = (np.vstack([np.zeros(3), line])[:, :2] - centre) * scale
        middle = np.array([_ABOVE_WIDTH / 2, _HEIGHT / 2])
        return middle - np.stack([from_centre[:, 1], from_centre[:, 0]], axis=1)

    draw.polyline(picture, pixels(future), draw.ORANGE, 3)
    draw.polyline(picture, pixels(path), draw.BLUE, 2)
    draw.text(picture, (8, _HEIGHT - 8), f"{10 * scale:.0f} px = 10 m", 8, draw.MUTED)
    return picture


def _jpeg(rgb: Rgb) -> bytes:
    good, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not good:
        raise RuntimeError(f"OpenCV could not encode a {rgb.shape} picture")
    return data.tobytes()
