"""Drives in the world, every instant labelled by the privileged expert.

The expert drives, or a student does and the expert says what would have been right (DAgger).
Steering, pedals and the start are disturbed, so that recoveries are seen. Images are rendered for
the stretches that are kept, and for a student that drives.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.distill.beside import NEWEST, bounded, moved_aside, seen_beside
from alpamayo_ros.distill.shard import MAP_CELL, ImageForm, ShardWriter
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import CameraRequirement, Manifest
from alpamayo_ros.types import CAMERA_NAMES, IMAGE_WIDTH, N_FRAMES, Plan, PlannerSample
from alpamayo_ros.world.closed_loop import WARM_UP_NS, ClosedLoop
from alpamayo_ros.world.expert import NAME, Expert, Label
from alpamayo_ros.world.insight import insight
from alpamayo_ros.world.planners import load_model
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.sensors import EPOCH_NS, FRAME_PERIOD_NS, Images, black_images
from alpamayo_ros.world.sight import sight
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import Command
from alpamayo_ros.world.views import WorldCameras

_BLOCK_S = 2.0  # how long the one who drives stays
_LOOK_AT_ANY_SIZE = ("kinematic", "student")
_UNEVENTFUL = "set-speed tracking", "lane keeping and centring"
_UNEVENTFUL_KEPT = 0.4  # of the instants beside the way: lanes are soon learned, events are rare
_LEAST_CONFIDENCE = 0.02  # further from the way the expert's answer teaches nothing


@dataclass(frozen=True)
class Collection:
    """What decides the labels of a drive; nothing else does."""

    form: ImageForm
    seconds: float = 60.0
    drive: str = NAME  # a model that drives, or the expert
    beta: float = 0.0  # share of the blocks in which the expert drives beside a model
    keep: int = 8  # instants kept of every `period`
    period: int = 24
    disturbance: float = 1.0  # of steering, pedals and the start; 0: none
    image_width: int = 576  # of what is rendered
    beside: float = 0.0  # instants are labelled beside the way, by the newest frame; 0: on it

    def settings(self) -> dict[str, Any]:
        """For the labels' manifest."""
        names = ("seconds", "beta", "keep", "period", "disturbance", "image_width", "beside")
        return {"drive": self.drive, **{name: getattr(self, name) for name in names}}


class Teacher(PlannerBackend):
    """Plans as the expert or as a model, and keeps what the expert says of every instant."""

    def __init__(
        self,
        collection: Collection,
        driver: PlannerBackend | None,
        rng: np.random.Generator,
    ) -> None:
        requirement = CameraRequirement(1, len(CAMERA_NAMES), CAMERA_NAMES)
        super().__init__(Manifest(NAME, "", "Apache-2.0", requirement, True, {}, Path()))
        self.shard = ShardWriter(collection.form)
        self._collection, self._driver, self._rng = collection, driver, rng
        self._expert: Expert | None = None
        self._world: tuple[Simulation, WorldCameras] | None = None
        self._expert_until_ns, self._expert_drives = 0, True

    def load(self) -> None:
        """Nothing to load."""

    def begin(self, simulation: Simulation, cameras: WorldCameras) -> None:
        """The drive that is taught."""
        self._expert, self._world = Expert(simulation), (simulation, cameras)

    def plan(self, sample: PlannerSample) -> Plan:
        """Whoever drives now; the label goes to the shard where it is to be kept."""
        assert self._expert is not None
        label = self._expert.label(sample.t0_ns)
        if _kept(self._collection, sample.t0_ns):
            if self._collection.beside:
                self._keep_beside(sample)
            else:
                self._keep(sample, label)
        if sample.t0_ns >= self._expert_until_ns:
            self._expert_until_ns = sample.t0_ns + round(_BLOCK_S * 1e9)
            self._expert_drives = bool(self._rng.random() < self._collection.beta)
        if self._driver is None or self._expert_drives:
            return label.plan
        return self._driver.plan(sample)

    def _keep(
        self, sample: PlannerSample, label: Label, frames: Sequence[int] = range(N_FRAMES)
    ) -> None:
        if label.confidence > _LEAST_CONFIDENCE:
            # The expert knows the world: what it would do is the truth that a student is told.
            action = label.plan.action
            extras = self._seen_by_expert(label)
            self.shard.add(sample, label.plan, label.confidence, action, extras, frames)

    def _seen_by_expert(self, label: Label) -> dict[str, np.ndarray]:
        """What it looked at, and what stands where in the newest pictures."""
        assert self._expert is not None and self._world is not None
        (simulation, cameras), route = self._world, self._expert.route
        form = self._collection.form
        cells = form.input_size[0] // MAP_CELL, form.input_size[1] // MAP_CELL
        maps = sight(simulation, route, cameras.rig, form.cameras, form.crop_rows, cells)
        return {"features": insight(simulation, route, label.hazards), "maps": maps}

    def _keep_beside(self, sample: PlannerSample) -> None:
        assert self._expert is not None and self._world is not None
        simulation, cameras = self._world
        with moved_aside(simulation, self._rng, self._collection.beside) as motion:
            label = self._expert.label(sample.t0_ns)
            if _eventful(label) or self._rng.random() < _UNEVENTFUL_KEPT:
                seen = seen_beside(sample, cameras.images(simulation), motion)
                seen = replace(seen, navigation=simulation.navigation())
                self._keep(seen, label, (NEWEST,))


class Disturbance:
    """Now and then steering or pedals do something else for a while."""

    def __init__(self, rng: np.random.Generator, strength: float) -> None:
        self._rng, self._strength = rng, strength
        self._until_s, self._next_s = 0.0, float(rng.uniform(2.0, 5.0))
        self._curvature = self._acceleration = 0.0

    def __call__(self, simulation: Simulation, command: Command) -> Command:
        """The command that the actuators get."""
        now_s, rng = simulation.time_s, self._rng
        if now_s >= self._next_s:
            self._until_s = now_s + float(rng.uniform(0.3, 1.2))
            self._next_s = self._until_s + float(rng.uniform(1.5, 6.0))
            speed = max(simulation.ego.speed_mps, 3.0)
            # About the same push to the side at any speed: metres of 0.5 k v^2 t^2.
            self._curvature = self._strength * float(rng.normal(0.0, 1.0)) / speed**2
            self._acceleration = self._strength * float(rng.normal(0.0, 0.8))
        if now_s >= self._until_s:
            return command
        return Command(
            command.acceleration_mps2 + self._acceleration,
            command.curvature_1pm + float(np.clip(self._curvature, -0.06, 0.06)),
        )


def _kept(collection: Collection, t0_ns: int) -> bool:
    """Whether an instant is among the first `keep` of its period."""
    return (t0_ns // FRAME_PERIOD_NS) % collection.period < collection.keep


def _eventful(label: Label) -> bool:
    """Whether more is to be done than to keep lane and speed."""
    decisions = label.plan.decisions
    return (decisions.longitudinal, decisions.lateral) != _UNEVENTFUL


def collect_drive(
    collection: Collection, driver: PlannerBackend | None, kind: str, seed: int
) -> ShardWriter:
    """The labels of one drive: the same in any order and process."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), 97])
    scenario = make_scenario(kind, seed, collection.seconds)
    teacher = Teacher(collection, driver, rng)
    looks = driver is not None and driver.manifest.uses_images
    rig = default_rig(collection.image_width, collection.image_width * 5 // 9)
    black = black_images((collection.image_width * 5 // 9, collection.image_width))
    with WorldCameras(scenario, rig) as cameras:

        def camera(simulation: Simulation) -> Images:
            """Black where nobody will look: rendering is what takes the time."""
            now_ns = simulation.time_ns
            last = now_ns + (N_FRAMES - 1) * FRAME_PERIOD_NS
            until = range(now_ns, last + 1, FRAME_PERIOD_NS)
            kept = any(_kept(collection, EPOCH_NS + t_ns) for t_ns in until)
            wanted = looks or (kept and not collection.beside)
            return cameras.images(simulation) if wanted and last >= WARM_UP_NS else black

        disturb = Disturbance(rng, collection.disturbance) if collection.disturbance else None
        loop = ClosedLoop(scenario, teacher, camera, disturb=disturb)
        teacher.begin(loop.simulation, cameras)
        if collection.disturbance:
            _displace(loop.simulation, rng, collection.disturbance)
        loop.run()
    return teacher.shard


def _displace(simulation: Simulation, rng: np.random.Generator, strength: float) -> None:
    """Begin beside the lane's middle, not quite along it, at another speed."""
    ego = simulation.ego
    aside = bounded(rng, 0.3 * strength, 0.7)
    turn = bounded(rng, 0.03 * strength, 0.08)
    simulation.ego = replace(
        ego,
        x_m=ego.x_m - aside * math.sin(ego.yaw_rad),
        y_m=ego.y_m + aside * math.cos(ego.yaw_rad),
        yaw_rad=ego.yaw_rad + turn,
        speed_mps=ego.speed_mps * float(rng.uniform(0.3, 1.5)),
    )


def load_driver(collection: Collection) -> PlannerBackend | None:
    """Who drives; None for the expert. Raises ModelError."""
    driver = load_model(collection.drive)
    # A student reduces images of any size to its own; labels are stored so too.
    small = collection.image_width != IMAGE_WIDTH
    if driver is not None and small and driver.manifest.backend not in _LOOK_AT_ANY_SIZE:
        raise ModelError(f"model {collection.drive} drives by images of {IMAGE_WIDTH} columns only")
    return driver
