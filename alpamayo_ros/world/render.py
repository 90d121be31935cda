"""Draws a scene as the rig's cameras see it. Keeps only what is near the ego in the scene graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.world import backdrop, panda
from alpamayo_ros.world.actorshapes import actor_mesh
from alpamayo_ros.world.mesh import Mesh, merge
from alpamayo_ros.world.rig import Rig
from alpamayo_ros.world.roadmesh import chunk_ground, footprint_shadow
from alpamayo_ros.world.scene import CHUNK_M, Actor, Item, Scene
from alpamayo_ros.world.shapes import item_mesh
from alpamayo_ros.world.vehicle import EgoState

_AHEAD_M, _BEHIND_M = 380.0, 75.0
_SHADOW_ALPHA = 0.42
# Painter's order of what is drawn before the solid things.
_SKY, _HILLS, _MEADOW, _VERGE, _ASPHALT, _PAINT, _SHADOWS = range(7)


class Renderer:
    """Cameras in one scene; `render` may be called for any pose on or near the road."""

    def __init__(self, scene: Scene, rig: Rig) -> None:
        self._scene = scene
        self._cameras = panda.OffscreenCameras(rig)
        self._world = self._cameras.world
        self._asphalt = panda.texture(backdrop.asphalt_texture())
        self._chunks: dict[int, Any] = {}
        self._actors: dict[str, Any] = {}
        self._distant = self._world.attachNewNode("distant")
        panda.painted(panda.node(backdrop.sky()), _SKY).reparentTo(self._distant)
        panda.painted(panda.node(backdrop.hills(scene.seed)), _HILLS).reparentTo(self._distant)
        grass = panda.texture(backdrop.grass_texture())
        for mesh in backdrop.meadow_tiles(scene):
            tile = panda.painted(panda.node(mesh), _MEADOW)
            tile.setTexture(grass)
            tile.reparentTo(self._world)

    def render(
        self, ego: EgoState, actors: Iterable[Actor], time_s: float
    ) -> dict[str, NDArray[np.uint8]]:
        """{camera: (H, W, 3) RGB} of the scene with its actors and its light at a time."""
        self._show_chunks(self._scene.road.nearest((ego.x_m, ego.y_m))[0])
        self._show_actors(actors, np.array((ego.x_m, ego.y_m)))
        self._distant.setPos(ego.x_m, ego.y_m, 0.0)
        gain = self._scene.light.gain(time_s)
        return self._cameras.render(ego.x_m, ego.y_m, ego.yaw_rad, gain)

    def close(self) -> None:
        """Free the buffer and the scene graph."""
        self._cameras.close()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show_chunks(self, s_m: float) -> None:
        first = max(int((s_m - _BEHIND_M) // CHUNK_M), 0)
        last = min(int((s_m + _AHEAD_M) // CHUNK_M), self._scene.chunks - 1)
        for chunk in [c for c in self._chunks if not first <= c <= last]:
            self._chunks.pop(chunk).removeNode()
        for chunk in range(first, last + 1):
            if chunk not in self._chunks:
                self._chunks[chunk] = self._chunk_node(chunk)

    def _chunk_node(self, chunk: int) -> Any:
        sun = self._scene.light.sun_direction
        ground = chunk_ground(self._scene, chunk)
        parent = self._world.attachNewNode(f"chunk{chunk}", chunk)
        asphalt = panda.painted(panda.node(ground.asphalt), _ASPHALT)
        asphalt.setTexture(self._asphalt)
        asphalt.reparentTo(parent)
        panda.painted(panda.node(ground.verge), _VERGE).reparentTo(parent)
        panda.painted(panda.node(ground.paint), _PAINT).reparentTo(parent)
        panda.painted(panda.node(ground.shadows), _SHADOWS, _SHADOW_ALPHA).reparentTo(parent)
        things = [item_mesh(item) for item in self._scene.items[chunk]]
        things += [_raised_shadow(item) for item in self._scene.items[chunk] if item.z_m > 0.0]
        panda.solid(panda.node(merge([ground.kerbs, *things]).lit(sun))).reparentTo(parent)
        return parent

    def _show_actors(self, actors: Iterable[Actor], ego_xy_m: NDArray[np.float64]) -> None:
        shown = set()
        for actor in actors:
            if np.hypot(actor.x_m - ego_xy_m[0], actor.y_m - ego_xy_m[1]) > _AHEAD_M:
                continue
            name = f"{actor.name} {actor.state}"
            shown.add(name)
            if name not in self._actors:
                self._actors[name] = self._actor_node(actor)
            self._actors[name].setPosHpr(
                actor.x_m, actor.y_m, 0.0, float(np.rad2deg(actor.yaw_rad)), 0.0, 0.0
            )
        for name in [n for n in self._actors if n not in shown]:
            self._actors.pop(name).removeNode()

    def _actor_node(self, actor: Actor) -> Any:
        """Shaded for the heading at which the actor comes into sight."""
        parent = self._world.attachNewNode(actor.name, self._scene.chunks)
        mesh, glow = actor_mesh(actor)
        lit = mesh.placed(0.0, 0.0, 0.0, actor.yaw_rad).lit(self._scene.light.sun_direction)
        lit = merge([lit.placed(0.0, 0.0, 0.0, -actor.yaw_rad), glow])
        panda.solid(panda.node(lit)).reparentTo(parent)
        shadow = footprint_shadow(0.0, 0.0, 0.0, 1.12 * actor.size_m[0], 1.12 * actor.size_m[1])
        panda.painted(panda.node(shadow), _SHADOWS, _SHADOW_ALPHA).reparentTo(parent)
        return parent


def _raised_shadow(item: Item) -> Mesh:
    """What darkens the pavement under a parked car; solid, as the pavement is."""
    if item.kind != "car":
        return merge([])
    shadow = footprint_shadow(0.0, 0.0, 0.0, 1.06 * item.size_m[0], 1.14 * item.size_m[1])
    grey = Mesh(shadow.vertices_m, np.full_like(shadow.colours, 0.30), shadow.texture)
    return grey.placed(item.x_m, item.y_m, item.z_m + 0.03, item.yaw_rad)
