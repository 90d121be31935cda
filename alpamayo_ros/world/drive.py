"""The world in time: the ego vehicle steps by commands, traffic by the clock.

`World` knows neither cameras nor messages: whoever drives it (the recording's LaneDriver, or a
controller in closed loop) calls `step`, and whoever looks at it renders `ego` and `actors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alpamayo_ros.world.driver import LaneDriver
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.scene import Actor, Scene
from alpamayo_ros.world.vehicle import Command, EgoState, step

START_M = 60.0  # arc length of the start, so that there is road behind the cameras
CONTROL_STEP_NS = 10_000_000
_NS = 1_000_000_000


@dataclass
class World:
    """A scene, the ego vehicle in it and the time since the start."""

    scene: Scene
    ego: EgoState
    time_ns: int = 0

    @property
    def time_s(self) -> float:
        return self.time_ns / _NS

    def step(self, command: Command, dt_ns: int) -> None:
        """Move on by `dt_ns` under a held command."""
        self.ego = step(self.ego, command, dt_ns / _NS)
        self.time_ns += dt_ns

    def actors(self) -> list[Actor]:
        """Everything that moves by itself, where it is now."""
        return self.scene.actors(self.time_s)


def start_world(scene: Scene, speed_mps: float) -> World:
    """The ego in the middle of its lane at START_M, along the road."""
    x_m, y_m = scene.road.points(START_M, EGO_LANE_OFFSET_M)
    yaw = float(scene.road.heading(START_M))
    return World(scene, EgoState(float(x_m), float(y_m), yaw, speed_mps))


@dataclass(frozen=True)
class Drive:
    """A recorded drive: states at control steps, exact in between."""

    states: tuple[EgoState, ...]  # at 0, CONTROL_STEP_NS, …
    commands: tuple[Command, ...]  # held from the state of the same index on

    def at(self, time_ns: int) -> EgoState:
        """The ego `time_ns` after the start."""
        index = min(time_ns // CONTROL_STEP_NS, len(self.commands) - 1)
        rest_ns = time_ns - index * CONTROL_STEP_NS
        return step(self.states[index], self.commands[index], rest_ns / _NS)


def simulate(world: World, driver: LaneDriver, duration_ns: int) -> Drive:
    """Drive for `duration_ns`; the world is left at the end."""
    states, commands = [], []
    for state, command in _steps(world, driver, duration_ns):
        states.append(state)
        commands.append(command)
    return Drive(tuple(states), tuple(commands))


def _steps(
    world: World, driver: LaneDriver, duration_ns: int
) -> Iterator[tuple[EgoState, Command]]:
    while world.time_ns <= duration_ns:
        state = world.ego
        command = driver.command(state, CONTROL_STEP_NS / _NS)
        yield state, command
        world.step(command, CONTROL_STEP_NS)
