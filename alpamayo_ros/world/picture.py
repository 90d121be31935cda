"""A failure from above: the road, what was on it, where the ego came from and meant to go."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.viz import canvas as draw
from alpamayo_ros.world.boxes import Box
from alpamayo_ros.world.closed_loop import Fault
from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M, LANE_WIDTH_M, Road
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.score import Score

_SIZE_PX, _SPAN_M = 720, 72.0
_SCALE = _SIZE_PX / _SPAN_M
_HEADER_PX = 92
_ASPHALT = (205, 209, 214)
_BY_KIND = {"car": draw.INK, "pedestrian": draw.VERMILION, "cone": draw.ORANGE}
_LIGHTS = {"red": (214, 40, 40), "yellow": (240, 190, 40), "green": (40, 160, 70)}

Rgb = NDArray[np.uint8]
ToPixels = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def failure_picture(scenario: Scenario, score: Score, fault: Fault, model: str) -> Rgb:
    """(H, W, 3): 72 m around the ego, north up, at the moment of the first fault."""
    centre = np.array((fault.ego.x_m, fault.ego.y_m))

    def pixels(points_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) metres to pixels of the map."""
        delta = (np.asarray(points_m, float).reshape(-1, 2) - centre) * _SCALE
        return np.column_stack((0.5 * _SIZE_PX + delta[:, 0], 0.5 * _SIZE_PX - delta[:, 1]))

    picture = draw.blank(_SIZE_PX, _SIZE_PX, draw.WHITE)
    near = np.arange(max(fault.s_m - 60.0, 0.0), min(fault.s_m + 60.0, scenario.road.length_m), 1.0)
    for junction in scenario.junctions:
        for arm in junction.arms:
            _asphalt(picture, arm, arm.s_m[::8], pixels)
    _asphalt(picture, scenario.road, near, pixels)
    for offset in (-LANE_WIDTH_M, 0.0, LANE_WIDTH_M):
        draw.polyline(picture, pixels(scenario.road.points(near, offset)), draw.WHITE, 2)
    for crossing in scenario.crossings:
        line = scenario.road.points(np.full(2, crossing.s_m), np.array([-4.0, 4.0]))
        start, end = pixels(line)
        draw.dashed(picture, start, end, draw.WHITE, 6.0)
    for light in scenario.lights:
        line = scenario.road.points(np.full(2, light.s_m), np.array([-LANE_WIDTH_M, 0.0]))
        draw.polyline(picture, pixels(line), _LIGHTS[light.colour(fault.time_s)], 4)
    for actor in fault.obstacles:
        if actor.kind in _BY_KIND:
            box = Box(actor.x_m, actor.y_m, actor.yaw_rad, *actor.size_m[:2])
            shape = pixels(np.array(box.corners()))
            draw.polygons(picture, [shape], _BY_KIND[actor.kind], 0.9)
    track = np.array(score.track)[:, :2] if score.track else np.zeros((0, 2))
    draw.polyline(picture, pixels(track), draw.ORANGE, 2)
    draw.polyline(picture, pixels(fault.path_in_odometry_m), draw.SKY, 3)
    draw.polygons(picture, [pixels(np.array(fault.ego.corners()))], draw.BLUE, 0.85)
    return _with_header(picture, scenario, score, fault, model)


def _asphalt(picture: Rgb, road: Road, s_m: NDArray[np.float64], pixels: ToPixels) -> None:
    half = ASPHALT_HALF_WIDTH_M
    left, right = pixels(road.points(s_m, half)), pixels(road.points(s_m, -half))
    shapes = [np.array((left[k], left[k + 1], right[k + 1], right[k])) for k in range(len(s_m) - 1)]
    draw.polygons(picture, shapes, _ASPHALT, 1.0)


def _with_header(picture: Rgb, scenario: Scenario, score: Score, fault: Fault, model: str) -> Rgb:
    header = draw.blank(_HEADER_PX, _SIZE_PX)
    draw.text(header, (16, 26), f"{scenario.name}: {model}", 13, weight=1.2)
    what = ["out of its lane" if score.departures else "", score.ended,
            *(f"{name} run on red" for name in score.red_lights_run)]  # fmt: skip
    words = f"{fault.time_s:.1f} s ({scenario.weather}): " + ", ".join(w for w in what if w)
    draw.text(header, (16, 52), words, 10, draw.MUTED)
    draw.text(header, (16, 76), f"plan: {fault.reasoning}"[:96], 9.5, draw.MUTED)
    rows = [header, picture]
    if fault.image is not None:
        height = round(fault.image.shape[0] * _SIZE_PX / fault.image.shape[1])
        rows.append(np.asarray(cv2.resize(fault.image, (_SIZE_PX, height)), np.uint8))
    return np.vstack(rows)
