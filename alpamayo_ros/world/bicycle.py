"""The driven vehicle: a kinematic bicycle whose drive, brakes and steering take their time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alpamayo_ros.world import vehicle
from alpamayo_ros.world.vehicle import WIDTH_M, Command, EgoState


@dataclass(frozen=True)
class VehicleParameters:
    """A middle-sized car. Lengths in m; the rig's origin is the rear axle's middle."""

    length_m: float = 4.6
    width_m: float = WIDTH_M
    wheelbase_m: float = 2.8
    rear_overhang_m: float = 0.95
    max_acceleration_mps2: float = 2.5
    max_braking_mps2: float = 8.0
    acceleration_time_constant_s: float = 0.2
    max_jerk_mps3: float = 20.0
    max_steering_rad: float = 0.5
    max_steering_rate_rps: float = 0.7
    steering_time_constant_s: float = 0.1

    @property
    def front_m(self) -> float:
        """The bumper from the rear axle."""
        return self.length_m - self.rear_overhang_m

    @property
    def centre_m(self) -> float:
        """The footprint's middle from the rear axle."""
        return 0.5 * self.length_m - self.rear_overhang_m


DEFAULT_VEHICLE = VehicleParameters()


@dataclass(frozen=True)
class VehicleState(EgoState):
    """EgoState and what the actuators are doing."""

    acceleration_mps2: float = 0.0
    steering_rad: float = 0.0  # of the front wheel of the bicycle, left positive


def drive(
    state: VehicleState, command: Command, dt_s: float, parameters: VehicleParameters
) -> VehicleState:
    """The state `dt_s` later under a held command.

    Both actuators follow first order, within their limits and rates; the path in between is an arc
    at the step's middle curvature. Never backwards: braking ends in standstill.
    """
    wanted = min(
        max(command.acceleration_mps2, -parameters.max_braking_mps2),
        parameters.max_acceleration_mps2,
    )
    if state.speed_mps <= 0.0 and wanted <= 0.0:
        acceleration = 0.0  # the brakes hold; there is nothing to slow
    else:
        acceleration = _follow(
            state.acceleration_mps2,
            wanted,
            dt_s,
            parameters.acceleration_time_constant_s,
            parameters.max_jerk_mps3,
        )
    limit = parameters.max_steering_rad
    angle = math.atan(parameters.wheelbase_m * command.curvature_1pm)
    steering = _follow(
        state.steering_rad,
        min(max(angle, -limit), limit),
        dt_s,
        parameters.steering_time_constant_s,
        parameters.max_steering_rate_rps,
    )
    middle = math.tan(0.5 * (state.steering_rad + steering)) / parameters.wheelbase_m
    moved = vehicle.step(state, Command(acceleration, middle), dt_s)
    return VehicleState(
        moved.x_m,
        moved.y_m,
        moved.yaw_rad,
        moved.speed_mps,
        math.tan(steering) / parameters.wheelbase_m,
        acceleration if moved.speed_mps > 0.0 else 0.0,
        steering,
    )


def _follow(now: float, wanted: float, dt_s: float, constant_s: float, rate: float) -> float:
    """First order towards `wanted`, no faster than `rate` a second."""
    change = (wanted - now) * (1.0 - math.exp(-dt_s / constant_s))
    return now + min(max(change, -rate * dt_s), rate * dt_s)
