"""Where the trees, houses, parked cars and lamps stand: seeded, never on the road."""

from __future__ import annotations

import numpy as np

from alpamayo_ros.world.road import ASPHALT_HALF_WIDTH_M, Road
from alpamayo_ros.world.scene import CHUNK_M, Colour, Item

KERB_HEIGHT_M = 0.12
PAVEMENT_OUTER_M = 6.6  # lateral offset of the pavement's far edge
_PARKED_OFFSET_M = 5.45
_STREAM = 4

_CAR_COLOURS: tuple[Colour, ...] = (
    (0.75, 0.76, 0.78), (0.12, 0.13, 0.15), (0.62, 0.10, 0.10), (0.13, 0.25, 0.50),
    (0.90, 0.90, 0.88), (0.35, 0.38, 0.40), (0.20, 0.36, 0.28), (0.80, 0.60, 0.15),
)  # fmt: skip
_WALL_COLOURS: tuple[Colour, ...] = (
    (0.88, 0.84, 0.74), (0.80, 0.66, 0.54), (0.90, 0.90, 0.88), (0.66, 0.40, 0.32),
    (0.78, 0.80, 0.72), (0.86, 0.76, 0.56),
)  # fmt: skip


class _Placer:
    """Places items of one chunk after another and refuses what would overlap."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._taken: list[tuple[float, float, float]] = []  # x, y, radius

    def place(
        self, s_m: float, d_m: float, radius_m: float, clear_of_road_m: float
    ) -> tuple[float, float] | None:
        """The position at (s, d) if free and `clear_of_road_m` away from the road's middle."""
        x_m, y_m = (float(v) for v in self._road.points(s_m, d_m))
        if abs(self._road.nearest((x_m, y_m))[1]) < clear_of_road_m:
            return None
        recent = self._taken[-400:]
        if any(np.hypot(x_m - x, y_m - y) < radius_m + r for x, y, r in recent):
            return None
        self._taken.append((x_m, y_m, radius_m))
        return x_m, y_m


def place_items(seed: int, road: Road, town: tuple[bool, ...]) -> tuple[tuple[Item, ...], ...]:
    """Items per chunk, largest first so that small things fill what houses leave."""
    placer = _Placer(road)
    chunks = []
    for chunk, in_town in enumerate(town):
        rng = np.random.default_rng([seed, _STREAM, chunk])
        start_m = chunk * CHUNK_M
        items: list[Item] = []
        for side in (-1.0, 1.0):
            if in_town:
                items += _houses(rng, placer, road, start_m, side)
                items += _parked(rng, placer, road, start_m, side)
                items += _plants(rng, placer, start_m, side, count=9, nearest_m=8.5)
            else:
                items += _posts(road, start_m, side)
                items += _plants(rng, placer, start_m, side, count=16, nearest_m=8.0)
        if in_town:
            items += _lamp(rng, placer, road, start_m, 1.0 if chunk % 2 else -1.0)
        chunks.append(tuple(items))
    return tuple(chunks)


def car_look(rng: np.random.Generator) -> tuple[tuple[float, float, float], Colour]:
    """Size and colour of some car; one in six is a van."""
    scale = rng.uniform(0.92, 1.08)
    height = 2.1 if rng.random() < 1 / 6 else 1.46
    colour = _CAR_COLOURS[int(rng.integers(len(_CAR_COLOURS)))]
    return (4.4 * scale, 1.8 * min(scale, 1.03), height * scale), colour


def _wall_colour(rng: np.random.Generator) -> Colour:
    """Paint or brick of some house."""
    return _WALL_COLOURS[int(rng.integers(len(_WALL_COLOURS)))]


def _houses(
    rng: np.random.Generator, placer: _Placer, road: Road, start_m: float, side: float
) -> list[Item]:
    houses = []
    for slot in (0.25, 0.75):
        if rng.random() < 0.15:
            continue
        length, depth = rng.uniform(9.0, 13.0), rng.uniform(7.5, 9.5)
        s_m = start_m + slot * CHUNK_M + rng.uniform(-1.5, 1.5)
        front_m = PAVEMENT_OUTER_M + rng.uniform(2.5, 6.0)
        colour, variant = _wall_colour(rng), int(rng.integers(1 << 16))
        height = rng.choice((3.2, 5.8)) + rng.uniform(-0.2, 0.2)
        d_m = side * (front_m + 0.5 * depth)
        at = placer.place(s_m, d_m, 0.55 * float(np.hypot(length, depth)), front_m + 0.3 * depth)
        if at is None:
            continue
        yaw = float(road.heading(s_m)) + (np.pi if side > 0 else 0.0)  # its left faces the road
        houses.append(Item("house", *at, 0.0, yaw, (length, depth, float(height)), colour, variant))
    return houses


def _parked(
    rng: np.random.Generator, placer: _Placer, road: Road, start_m: float, side: float
) -> list[Item]:
    cars = []
    for slot in np.arange(4) / 4.0:
        s_m = start_m + slot * CHUNK_M + 4.0 + rng.uniform(-0.8, 0.8)
        present, reversed_ = rng.random() < 0.3, rng.random() < 0.15
        size, colour = car_look(rng)
        if not present:
            continue
        at = placer.place(s_m, side * _PARKED_OFFSET_M, 2.0, ASPHALT_HALF_WIDTH_M + 0.5)
        if at is None:
            continue
        yaw = float(road.heading(s_m)) + (np.pi if (side > 0) != reversed_ else 0.0)
        cars.append(Item("car", *at, KERB_HEIGHT_M, yaw, size, colour))
    return cars


def _plants(
    rng: np.random.Generator, placer: _Placer, start_m: float, side: float, count: int,
    nearest_m: float,
) -> list[Item]:  # fmt: skip
    plants = []
    for _ in range(count):
        s_m = start_m + rng.uniform(0.0, CHUNK_M)
        offset = nearest_m + 55.0 * rng.random() ** 2.0
        kind = ("broadleaf", "conifer", "bush")[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
        tall = {"broadleaf": (5.0, 10.0), "conifer": (6.0, 13.0), "bush": (0.9, 1.9)}[kind]
        height = float(rng.uniform(*tall))
        wide = height * float(rng.uniform(0.55, 0.8) if kind != "conifer" else 0.42)
        if kind == "bush":
            wide = height * 1.5
        green = float(rng.uniform(-0.05, 0.07))
        colour = (0.24 + green + float(rng.uniform(0.0, 0.08)), 0.40 + green, 0.16 + 0.5 * green)
        yaw, variant = float(rng.uniform(0.0, 6.28)), int(rng.integers(4))
        at = placer.place(s_m, side * offset, 0.45 * wide, nearest_m + 0.3 * wide)
        if at is not None:
            plants.append(Item(kind, *at, 0.0, yaw, (wide, wide, height), colour, variant))
    return plants


def _posts(road: Road, start_m: float, side: float) -> list[Item]:
    """White delineator posts on both sides of a country road."""
    posts = []
    for s_m in (start_m + 0.25 * CHUNK_M, start_m + 0.75 * CHUNK_M):
        x_m, y_m = (float(v) for v in road.points(s_m, side * (ASPHALT_HALF_WIDTH_M + 0.9)))
        yaw = float(road.heading(s_m))
        posts.append(Item("post", x_m, y_m, 0.0, yaw, (0.14, 0.14, 1.0), (0.92, 0.92, 0.90)))
    return posts


def _lamp(
    rng: np.random.Generator, placer: _Placer, road: Road, start_m: float, side: float
) -> list[Item]:
    s_m = start_m + CHUNK_M * rng.uniform(0.4, 0.6)
    at = placer.place(s_m, side * (PAVEMENT_OUTER_M - 0.3), 0.15, ASPHALT_HALF_WIDTH_M + 1.0)
    if at is None:
        return []
    yaw = float(road.heading(s_m)) + (-np.pi / 2 if side > 0 else np.pi / 2)  # arm over the road
    return [Item("lamp", *at, KERB_HEIGHT_M, yaw, (2.2, 0.14, 6.5), (0.42, 0.44, 0.46))]
