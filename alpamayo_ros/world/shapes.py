"""The shapes of things: unlit meshes in their own frame (x ahead, y left, z up, on the ground)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world.mesh import Mesh, box, merge, prism, quads, triangles
from alpamayo_ros.world.scene import Colour, Item

_TRUNK: Colour = (0.36, 0.27, 0.19)
_GLASS: Colour = (0.13, 0.17, 0.22)
_TYRE: Colour = (0.07, 0.07, 0.08)
_ROOFS: tuple[Colour, ...] = ((0.52, 0.24, 0.18), (0.34, 0.30, 0.30), (0.44, 0.30, 0.22))


def item_mesh(item: Item) -> Mesh:
    """An item's mesh in the odometry frame, unlit."""
    if item.kind == "house":
        mesh, scale = house(item.size_m, item.colour, item.variant), (1.0, 1.0, 1.0)
    elif item.kind == "car":
        mesh, scale = car(item.size_m, item.colour), (1.0, 1.0, 1.0)
    elif item.kind == "lamp":
        mesh, scale = lamp(item.colour), (1.0, 1.0, 1.0)
    elif item.kind == "post":
        mesh, scale = post(item.colour), (1.0, 1.0, 1.0)
    else:
        plain = _PLANTS[item.kind](item.variant)
        mesh, scale = _tinted(plain, item.colour), item.size_m
    return mesh.placed(item.x_m, item.y_m, item.z_m, item.yaw_rad, scale)


def _tinted(plant: Mesh, colour: Colour) -> Mesh:
    """Leaves (stored as grey brightness) in a colour; trunks keep theirs."""
    grey = np.ptp(plant.colours, axis=1, keepdims=True) < 1e-9
    return Mesh(
        plant.vertices_m, np.where(grey, plant.colours * colour, plant.colours), plant.texture
    )


def _trunk(height: float, radius: float) -> Mesh:
    angles = np.arange(5) * 2.0 * np.pi / 5
    outline = radius * np.column_stack((np.cos(angles), np.sin(angles)))
    return prism(outline, 0.0, height, _TRUNK)


@lru_cache(maxsize=8)
def _broadleaf(variant: int) -> Mesh:
    """Trunk and a lumpy crown; unit width and height."""
    return merge([_trunk(0.45, 0.045), _blob(variant, (0.0, 0.0, 0.64), (0.5, 0.5, 0.36))])


@lru_cache(maxsize=8)
def _bush(variant: int) -> Mesh:
    return _blob(variant + 100, (0.0, 0.0, 0.42), (0.5, 0.5, 0.58))


@lru_cache(maxsize=8)
def _conifer(variant: int) -> Mesh:
    """Trunk and three stacked cones; unit width and height."""
    rng = np.random.default_rng([variant, 11])
    faces, colours = [], []
    for low, high, radius in ((0.12, 0.52, 0.5), (0.34, 0.76, 0.39), (0.58, 1.0, 0.27)):
        angles = np.arange(8) * 2.0 * np.pi / 7 + rng.uniform(0.0, 1.0)
        angles[-1] = angles[0]
        ring = np.column_stack((radius * np.cos(angles), radius * np.sin(angles), np.full(8, low)))
        for i in range(7):
            faces.append([ring[i], ring[i + 1], (0.0, 0.0, high)])
            faces.append([ring[i + 1], ring[i], (0.0, 0.0, low)])
            brightness = rng.uniform(0.62, 0.85)
            colours += [[brightness] * 3, [0.35] * 3]
    return merge([_trunk(0.2, 0.05), triangles(faces, np.array(colours))])


_PLANTS = {"broadleaf": _broadleaf, "conifer": _conifer, "bush": _bush}


def _blob(variant: int, centre: tuple[float, float, float], radii: tuple[float, ...]) -> Mesh:
    """A lumpy ellipsoid of 8 x 5 patches in shades of grey."""
    rng = np.random.default_rng([variant, 12])
    around, rows = 8, 5
    lumps = rng.uniform(0.80, 1.08, (rows + 1, around))
    lumps[0], lumps[-1] = lumps[0, 0], lumps[-1, 0]
    polar = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    azimuth = np.arange(around)[None, :] * 2.0 * np.pi / around
    unit = np.stack(
        (np.cos(polar) * np.cos(azimuth), np.cos(polar) * np.sin(azimuth),
         np.sin(polar) * np.ones_like(azimuth)), axis=-1,
    )  # fmt: skip
    points = np.asarray(centre) + unit * lumps[..., None] * np.asarray(radii)
    right = np.roll(points, -1, axis=1)
    corners = np.stack((points[:-1], right[:-1], right[1:], points[1:]), axis=2)
    brightness = rng.uniform(0.85, 1.15, (rows, around)) * np.linspace(0.75, 1.1, rows)[:, None]
    grey = np.repeat(brightness.reshape(-1, 1), 3, axis=1)
    return quads(corners.reshape(-1, 4, 3), grey)


def house(size_m: tuple[float, float, float], wall: Colour, variant: int) -> Mesh:
    """Walls, windows on all sides, a door to the road (y) and a gabled roof."""
    length, depth, height = size_m
    rng = np.random.default_rng([variant, 13])
    roof: Colour = _ROOFS[int(rng.integers(len(_ROOFS)))]
    x, y, ridge = 0.5 * length, 0.5 * depth, height + 0.42 * depth
    gables = triangles(
        [[(x, -y, height), (x, y, height), (x, 0, ridge)],
         [(-x, y, height), (-x, -y, height), (-x, 0, ridge)]], wall,
    )  # fmt: skip
    return merge([
        box((0.0, 0.0, 0.5 * height), (length, depth, height), wall), gables,
        _roof(x + 0.35, y, height, ridge, roof),
        box((0.25 * length, 0.15 * depth, ridge), (0.6, 0.6, 1.5), (0.45, 0.30, 0.26)),
        _windows(length, depth, height, int(rng.integers(3, 5))),
    ])  # fmt: skip


def _roof(x: float, y: float, height: float, ridge: float, colour: Colour) -> Mesh:
    slope = (ridge - height) / y
    over = y + 0.45
    low = height - 0.45 * slope
    sides = np.array([
        [(x, over, low), (x, 0, ridge), (-x, 0, ridge), (-x, over, low)],
        [(-x, -over, low), (-x, 0, ridge), (x, 0, ridge), (x, -over, low)],
    ])  # fmt: skip
    # The eaves are seen from below as well.
    top = quads(sides[:, ::-1] + (0.0, 0.0, 0.12), colour)
    return merge([top, quads(sides, (0.5, 0.45, 0.4))])


def _windows(length: float, depth: float, height: float, columns: int) -> Mesh:
    """Panes in white frames, a hand's breadth before the walls so that they never flicker."""
    faces, colours = [], []
    for storey in range(int(height // 2.6)):
        middle = 1.55 + 2.6 * storey
        for sign, wide, half, turned in (
            (1, length, depth / 2, False), (-1, length, depth / 2, False),
            (1, depth, length / 2, True), (-1, depth, length / 2, True),
        ):  # fmt: skip
            for i in range(columns if not turned else 2):
                along = wide * ((i + 0.5) / (columns if not turned else 2) - 0.5)
                door = storey == 0 and not turned and sign > 0 and i == 1
                frame, pane = ((1.3, 2.3), (1.0, 2.1)) if door else ((1.4, 1.5), (1.15, 1.25))
                centre = 1.15 if door else middle
                fill = (0.33, 0.22, 0.16) if door else (0.26, 0.33, 0.40)
                faces += [_panel(along, centre, half + 0.06, frame, sign, turned),
                          _panel(along, centre, half + 0.12, pane, sign, turned)]  # fmt: skip
                colours += [(0.93, 0.93, 0.91), fill]
    return quads(np.array(faces), np.array(colours))


def _panel(
    along: float, z: float, out: float, size: tuple[float, float], sign: int, turned: bool
) -> NDArray[np.float64]:
    """(4, 3) an upright rectangle on the side y = ±out (or x = ±out, turned), facing outwards."""
    w, h = 0.5 * size[0], 0.5 * size[1]
    # Counter-clockwise from outside: from y > 0 one sees x fall to the right, from x > 0 y rise.
    first = w if (sign > 0) != turned else -w
    u = along + np.array([first, -first, -first, first])
    v = np.array([z - h, z - h, z + h, z + h])
    side = np.full(4, sign * out)
    return np.column_stack((side, u, v) if turned else (u, side, v))


def _extrude(profile: NDArray[np.float64], half_width: float, top_half: float) -> NDArray:
    """(n, 2, 3): right and left points of a profile (n, 2) of (x, z), narrowing with height."""
    z = profile[:, 1]
    share = (z - z.min()) / max(float(np.ptp(z)), 1e-9)
    y = half_width + (top_half - half_width) * share
    right = np.column_stack((profile[:, 0], -y, z))
    return np.stack((right, right * (1.0, -1.0, 1.0)), axis=1)


def _hull(profile: NDArray[np.float64], half_width: float, top_half: float, over: NDArray,
          sides: Colour) -> Mesh:  # fmt: skip
    """A body by its side profile (n, 2), from front bottom over the top to rear bottom.

    `over` (n - 1, 3) are the colours of the faces that run along the profile.
    """
    points = _extrude(profile, half_width, top_half)
    right, left = points[:, 0], points[:, 1]
    top = quads(np.stack((left[:-1], left[1:], right[1:], right[:-1]), axis=1), over)
    fan = range(1, len(profile) - 1)
    flanks = [[right[0], right[i], right[i + 1]] for i in fan]
    flanks += [[left[0], left[i + 1], left[i]] for i in fan]
    return merge([top, triangles(flanks, sides)])


@lru_cache(maxsize=64)
def car(size_m: tuple[float, float, float], colour: Colour) -> Mesh:
    """A saloon, or a van where the height says so; origin in the middle of the footprint."""
    length, width, height = size_m
    x, y = 0.5 * length, 0.5 * width
    van = height > 1.8
    belt = (0.56 if van else 0.60) * height
    body = np.array([(x, 0.28), (x, 0.72 * belt), (0.88 * x, 0.9 * belt), (0.40 * x, belt),
                     (-0.80 * x, belt), (-0.97 * x, 0.95 * belt), (-x, 0.30)])  # fmt: skip
    top = 0.98 * height
    cabin = np.array([(0.46 * x, belt - 0.02), (0.16 * x, top), (-0.50 * x, top),
                      (-0.84 * x, belt - 0.02)])  # fmt: skip
    if van:
        cabin = np.array([(0.78 * x, belt - 0.02), (0.56 * x, top), (-0.96 * x, top),
                          (-0.98 * x, belt - 0.02)])  # fmt: skip
    flank = _GLASS if not van else colour
    parts = [
        _hull(body, y, 0.97 * y, np.array([colour] * 6), colour),
        _hull(cabin, 0.93 * y, 0.78 * y, np.array([_GLASS, colour, _GLASS]), flank),
        _lights(x, y, belt),
    ]
    for wheel_x in (0.62 * x, -0.60 * x):
        for side in (-1.0, 1.0):
            parts.append(_wheel(wheel_x, side * (y + 0.01), side))
    return merge(parts)


def _lights(x: float, y: float, belt: float) -> Mesh:
    """Lamps and plates, a little before the body."""
    faces, colours = [], []
    z = 0.58 * belt
    for out, colour in ((x + 0.03, (1.0, 1.0, 0.92)), (-x - 0.03, (0.75, 0.07, 0.06))):
        end = 1 if out > 0 else -1
        for side in (-1.0, 1.0):
            faces.append(_panel(side * 0.72 * y, z, abs(out), (0.34 * y, 0.16), end, True))
            colours.append(colour)
        faces.append(_panel(0.0, 0.42, abs(out), (0.5, 0.12), end, True))
        colours.append((0.92, 0.92, 0.88))
    return quads(np.array(faces), np.array(colours))


def _wheel(x: float, y: float, side: float) -> Mesh:
    angles = np.arange(9) * 2.0 * np.pi / 8
    faces, colours = [], []
    for radius, out, colour in ((0.33, 0.02, _TYRE), (0.19, 0.05, (0.55, 0.56, 0.58))):
        rim = np.column_stack((x + radius * np.cos(angles), np.full(9, y + side * out),
                               0.33 + radius * np.sin(angles)))  # fmt: skip
        for i in range(8):
            a, b = (rim[i + 1], rim[i]) if side > 0 else (rim[i], rim[i + 1])
            faces.append([a, b, (x, y + side * out, 0.33)])
            colours.append(colour)
    return triangles(faces, np.array(colours))


@lru_cache(maxsize=4)
def lamp(colour: Colour) -> Mesh:
    """A street lamp whose arm points along x."""
    return merge([
        box((0.0, 0.0, 3.25), (0.13, 0.13, 6.5), colour),
        box((1.05, 0.0, 6.45), (2.1, 0.10, 0.10), colour),
        box((2.0, 0.0, 6.38), (0.7, 0.26, 0.14), (0.85, 0.85, 0.80)),
    ])  # fmt: skip


@lru_cache(maxsize=4)
def post(colour: Colour) -> Mesh:
    """A delineator post with its dark band."""
    return merge([
        box((0.0, 0.0, 0.38), (0.12, 0.12, 0.76), colour),
        box((0.0, 0.0, 0.83), (0.13, 0.13, 0.14), (0.12, 0.12, 0.12)),
        box((0.0, 0.0, 0.95), (0.12, 0.12, 0.10), colour),
    ])  # fmt: skip
