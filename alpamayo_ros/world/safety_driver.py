"""Drives a simulation with the expert until somebody else takes over."""

from __future__ import annotations

from alpamayo_ros.control.follower import Follower, RigState
from alpamayo_ros.control.reference import reference_from_plan
from alpamayo_ros.geometry import pose_from_quaternion
from alpamayo_ros.world.expert import Expert
from alpamayo_ros.world.sensors import EPOCH_NS, FRAME_PERIOD_NS, pose_of
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import Command


class SafetyDriver:
    """Ask for `command` once a step."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._expert, self._follower = Expert(simulation), Follower()

    def command(self) -> Command:
        """The expert's plan of every 100 ms, followed by the controller."""
        simulation = self._simulation
        ego, stamp_ns = simulation.ego, EPOCH_NS + simulation.time_ns
        if simulation.time_ns % FRAME_PERIOD_NS == 0:
            plan = self._expert.label(stamp_ns).plan
            pose = pose_of(ego, stamp_ns)
            odometry_from_rig = pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
            self._follower.follow(reference_from_plan(plan, odometry_from_rig))
        rig = RigState(ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps)
        wanted = self._follower.command(stamp_ns, rig)
        return Command(wanted.acceleration_mps2, wanted.curvature_1pm)
