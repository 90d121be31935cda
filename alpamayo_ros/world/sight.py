"""What stands where in each camera's picture, by coarse cells: privileged maps for training.

A cell of a student's feature map that has to say "a pedestrian" or "red" learns it from that cell
alone; from a trajectory it takes long to find out which of thousands of pixels was to blame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import IMAGE_HEIGHT, Rows
from alpamayo_ros.world.boxes import Box
from alpamayo_ros.world.rig import PinholeCamera, Rig
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.scene import Actor
from alpamayo_ros.world.simulation import Simulation

CLASSES = (
    "car", "braking", "oncoming", "pedestrian", "walking", "cone", "red", "yellow", "green",
    "stop_line", "crossing", "way",
)  # fmt: skip
_REACH_M = 70.0
_NEAREST_M = 0.5  # before a camera: what is nearer is cut off
_HEAD_M, _HEAD_BELOW_TOP_M = (0.4, 0.6, 1.4), 0.5  # a light's housing: sizes, where its middle is
_ROAD_M = 3.5  # the ego's half of it, where lines are painted
Array = NDArray[np.float64]


def sight(
    simulation: Simulation,
    route: Route,
    rig: Rig,
    cameras: tuple[str, ...],
    crop_rows: tuple[Rows, ...],
    cells: tuple[int, int],
) -> NDArray[np.uint8]:
    """(C, len(CLASSES), rows, columns) of 0 and 1: whether something reaches into a cell.

    `crop_rows` of 320, one pair a camera, are what `cells` (rows, columns) divide. Nothing hides
    anything.
    """
    by_name = {camera.name: camera for camera in rig}
    maps = np.zeros((len(cameras), len(CLASSES), *cells), np.uint8)
    for names, points in _seen(simulation, route):
        for place, name in enumerate(cameras):
            area = _area(by_name[name], points, crop_rows[place], cells)
            if area is not None:
                for found in names:
                    maps[place, CLASSES.index(found), area[0], area[1]] = 1
    return maps


def _seen(simulation: Simulation, route: Route) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Classes, and the points (N, 3) in the rig frame that bound each thing near."""
    ego = simulation.ego
    cos, sin = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    world = np.array([[cos, -sin], [sin, cos]])

    def in_rig(xyz: Array) -> Array:
        flat = (xyz[:, :2] - (ego.x_m, ego.y_m)) @ world
        return np.column_stack((flat, xyz[:, 2]))

    for actor in simulation.actors():
        if math.hypot(actor.x_m - ego.x_m, actor.y_m - ego.y_m) < _REACH_M:
            yield _classes(actor, ego.yaw_rad), in_rig(_corners(actor))
    scenario, s_m = simulation.scenario, simulation.s_m
    flat: list[tuple[str, float, float, float, float]] = []
    flat += [("stop_line", light.s_m, light.s_m + 0.4, -_ROAD_M, 0.0) for light in scenario.lights]
    flat += [
        ("crossing", crossing.s_m - 1.5, crossing.s_m + 1.5, -_ROAD_M, _ROAD_M)
        for crossing in scenario.crossings
    ]
    for ahead in np.arange(4.0, 50.0, 2.0):
        offset = route.at(s_m + ahead).offset_m
        flat.append(("way", s_m + ahead, s_m + ahead + 2.0, offset - 0.9, offset + 0.9))
    for name, start, end, right, left in flat:
        if s_m - 5.0 < start < s_m + _REACH_M:
            s, d = np.array((start, start, end, end)), np.array((right, left, right, left))
            yield (name,), in_rig(np.column_stack((scenario.road.points(s, d), np.zeros(4))))


def _classes(actor: Actor, yaw_rad: float) -> tuple[str, ...]:
    if actor.kind == "light":
        return (actor.state,)
    if actor.kind == "pedestrian":
        return ("pedestrian", "walking") if actor.state == "walking" else ("pedestrian",)
    if actor.kind == "car":
        if math.cos(actor.yaw_rad - yaw_rad) < 0.0:
            return ("oncoming",)
        return ("car", "braking") if actor.state == "braking" else ("car",)
    return (actor.kind,)


def _corners(actor: Actor) -> Array:
    """(8, 3) of its box; of a light its housing's."""
    length, width, height = actor.size_m
    bottom = 0.0
    if actor.kind == "light":
        middle = height - _HEAD_BELOW_TOP_M
        length, width, tall = _HEAD_M
        bottom, height = middle - 0.5 * tall, middle + 0.5 * tall
    footprint = Box(actor.x_m, actor.y_m, actor.yaw_rad, length, width).corners()
    return np.array([(x, y, z) for z in (bottom, height) for x, y in footprint])


def _area(
    camera: PinholeCamera, points: Array, crop_rows: Rows, cells: tuple[int, int]
) -> tuple[slice, slice] | None:
    """The cells (rows, columns) that a thing's outline on the picture touches; None: none."""
    depth = ((points - np.array(camera.position_in_rig_m)) @ camera.rig_from_optical)[:, 2]
    near = depth > _NEAREST_M
    if not near.any():
        return None
    pixels = camera.project(points[near])
    first, last = crop_rows
    column = pixels[:, 0] / camera.width_px * cells[1]
    row = (pixels[:, 1] * IMAGE_HEIGHT / camera.height_px - first) / (last - first) * cells[0]
    left, right = max(float(column.min()), 0.0), min(float(column.max()), cells[1] - 1e-6)
    top, bottom = max(float(row.min()), 0.0), min(float(row.max()), cells[0] - 1e-6)
    if left > right or top > bottom:
        return None
    return slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1)
