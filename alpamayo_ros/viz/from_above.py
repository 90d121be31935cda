"""The surroundings of the rig from above, x upwards."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.viz import canvas as draw
from alpamayo_ros.viz.moment import Moment
from alpamayo_ros.viz.on_camera import VEHICLE_WIDTH_M, edges

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]

# The vehicle around the rear axle, m: a mid-size car. It is drawn, nothing is decided by it.
EGO_REAR_M, EGO_FRONT_M = -1.0, 3.8
_SPANS_M = (40.0, 80.0, 160.0, 320.0)  # few, so that the scale does not breathe
_BEHIND = 0.14  # of the span


def draw_from_above(panel: Rgb, moment: Moment) -> None:
    """Grid, recorded track, candidates, plan and vehicle, in place."""
    height, width = panel.shape[:2]
    recorded, plan = moment.recorded, moment.plan
    ahead = [recorded.xyz_m[recorded.times_s >= 0, :2]]
    if plan is not None:
        ahead.append(plan.xyz_m[:, :2])
    reach = max((float(np.abs(points).max()) for points in ahead if len(points)), default=0.0)
    span_m = next((span for span in _SPANS_M if reach <= (1 - _BEHIND) * span), _SPANS_M[-1])
    scale = height / span_m
    origin = np.array([width / 2, height * (1 - _BEHIND)])

    def pixels(xy_m: ArrayLike) -> Array:
        points = np.asarray(xy_m, dtype=np.float64)[..., :2]
        return np.asarray(origin - scale * points[..., ::-1])

    _grid(panel, pixels, span_m)
    if plan is not None:
        for candidate in plan.candidates_xyz_m:
            draw.polyline(panel, pixels(candidate), draw.GREEN, 1)
        left, right = edges(plan.xyz_m, VEHICLE_WIDTH_M / 2)
        left_px, right_px = pixels(left), pixels(right)
        quads = [
            np.stack([left_px[k], left_px[k + 1], right_px[k + 1], right_px[k]])
            for k in range(len(left) - 1)
        ]
        draw.polygons(panel, quads, draw.SKY, 0.5)
        draw.polyline(panel, pixels(plan.xyz_m), draw.BLUE, 2)
    draw.polyline(panel, pixels(recorded.xyz_m), draw.ORANGE, 2)
    half = VEHICLE_WIDTH_M / 2
    box = [(EGO_REAR_M, half), (EGO_FRONT_M, half), (EGO_FRONT_M, -half), (EGO_REAR_M, -half)]
    draw.polygons(panel, [pixels(box)], draw.INK, 0.85)
    _legend(panel, plan is not None and len(plan.candidates_xyz_m) > 0)


def _legend(panel: Rgb, candidates: bool) -> None:
    y = 16.0
    for words, colour in (
        ("planned", draw.BLUE), ("driven", draw.ORANGE),
        *([("candidates", draw.GREEN)] if candidates else []),
    ):  # fmt: skip
        x = panel.shape[1] - 84.0
        draw.polyline(panel, [(x - 26, y - 4), (x - 6, y - 4)], colour, 3)
        draw.text(panel, (x, y), words, 9, draw.MUTED)
        y += 18


def _grid(panel: Rgb, pixels: Callable[[ArrayLike], Array], span_m: float) -> None:
    height, width = panel.shape[:2]
    step = span_m / 8
    for k in range(-1, 8):
        y = float(pixels([k * step, 0.0])[1])
        cv2.line(panel, (0, round(y)), (width, round(y)), draw.FAINT, 1)
        if 0 < k < 7:
            draw.text(panel, (6, y - 4), f"{k * step:g} m", 8, draw.MUTED)
    for k in range(-5, 6):
        x = float(pixels([0.0, k * step])[0])
        cv2.line(panel, (round(x), 0), (round(x), height), draw.FAINT, 1)
