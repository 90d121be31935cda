"""The shapes of what moves or changes: brake lights, people, cones, traffic lights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from alpamayo_ros.world.mesh import Mesh, box, merge, quads, triangles
from alpamayo_ros.world.scene import Actor, Colour
from alpamayo_ros.world.shapes import car

_SKIN: Colour = (0.80, 0.62, 0.50)
_TROUSERS: Colour = (0.20, 0.22, 0.30)
_GLOW: Colour = (1.0, 0.16, 0.10)
_HOUSING: Colour = (0.07, 0.07, 0.08)
_LAMPS: dict[str, Colour] = {
    "red": (1.0, 0.10, 0.08),
    "yellow": (1.0, 0.78, 0.10),
    "green": (0.10, 0.95, 0.35),
}
_UNLIT = 0.12  # of a lamp's colour


def actor_mesh(actor: Actor) -> tuple[Mesh, Mesh]:
    """(what the sun shades, what glows by itself), in the actor's own frame."""
    if actor.kind == "pedestrian":
        return _person(actor.colour, actor.state == "walking"), merge([])
    if actor.kind == "cone":
        return _cone(actor.colour), merge([])
    if actor.kind == "light":
        return _mast(actor.size_m[2]), _lamps(actor.size_m[2], actor.state)
    glow = _brake_lights(actor.size_m) if actor.state == "braking" else merge([])
    return car(actor.size_m, actor.colour), glow


@lru_cache(maxsize=16)
def _person(coat: Colour, walking: bool) -> Mesh:
    """Legs, coat, head; 1.75 m. A stride where it walks."""
    apart = 0.26 if walking else 0.05
    return merge([
        box((apart, 0.10, 0.42), (0.16, 0.16, 0.84), _TROUSERS),
        box((-apart, -0.10, 0.42), (0.16, 0.16, 0.84), _TROUSERS),
        box((0.0, 0.0, 1.14), (0.30, 0.50, 0.64), coat),
        box((0.0, 0.30, 1.10), (0.14, 0.12, 0.60), coat),
        box((0.0, -0.30, 1.10), (0.14, 0.12, 0.60), coat),
        box((0.0, 0.0, 1.61), (0.22, 0.20, 0.27), _SKIN),
    ])  # fmt: skip


@lru_cache(maxsize=4)
def _cone(colour: Colour) -> Mesh:
    """A cone of 0.75 m with a white band, on its foot."""
    rings = ((0.03, 0.16), (0.32, 0.115), (0.50, 0.08), (0.75, 0.03))
    parts = [box((0.0, 0.0, 0.02), (0.36, 0.36, 0.04), (0.15, 0.15, 0.15))]
    angles = np.arange(9) * 2.0 * np.pi / 8
    for k, ((low, wide), (high, narrow)) in enumerate(zip(rings, rings[1:])):
        a = np.column_stack((wide * np.cos(angles), wide * np.sin(angles), np.full(9, low)))
        b = np.column_stack((narrow * np.cos(angles), narrow * np.sin(angles), np.full(9, high)))
        sides = np.stack((a[:-1], a[1:], b[1:], b[:-1]), axis=1)
        parts.append(quads(sides, (0.95, 0.95, 0.95) if k == 1 else colour))
    return merge(parts)


@lru_cache(maxsize=32)
def _brake_lights(size_m: tuple[float, float, float]) -> Mesh:
    """Three lamps a little behind the tail lights of shapes.car."""
    length, width, height = size_m
    out, z = -0.5 * length - 0.06, 0.36 * height
    lamps = [(0.36 * width, z, 0.42, 0.24), (-0.36 * width, z, 0.42, 0.24)]
    lamps.append((0.0, 0.80 * height, 0.60, 0.10))
    faces = []
    for y, middle, wide, tall in lamps:
        w, h = 0.5 * wide, 0.5 * tall
        x = out if middle == z else out + 0.10 * length
        faces.append([(x, y + w, middle - h), (x, y - w, middle - h),
                      (x, y - w, middle + h), (x, y + w, middle + h)])  # fmt: skip
    return quads(np.array(faces), _GLOW)


@lru_cache(maxsize=4)
def _mast(height_m: float) -> Mesh:
    """A post and the housing of three lamps, which face back along -x."""
    return merge([
        box((0.0, 0.0, 0.5 * height_m), (0.12, 0.12, height_m), (0.45, 0.46, 0.48)),
        box((-0.05, 0.0, height_m - 0.5), (0.30, 0.46, 1.25), _HOUSING),
    ])  # fmt: skip


@lru_cache(maxsize=8)
def _lamps(height_m: float, lit: str) -> Mesh:
    """Red over yellow over green; one of them lit."""
    angles = np.arange(13) * 2.0 * np.pi / 12
    faces, colours = [], []
    for k, (name, colour) in enumerate(_LAMPS.items()):
        z = height_m - 0.12 - 0.38 * k
        rim = np.column_stack((np.full(13, -0.22), 0.165 * np.cos(angles),
                               z + 0.165 * np.sin(angles)))  # fmt: skip
        share = 1.0 if name == lit else _UNLIT
        for i in range(12):
            faces.append([rim[i + 1], rim[i], (-0.22, 0.0, z)])
            colours.append([share * channel for channel in colour])
    return triangles(faces, np.array(colours))
