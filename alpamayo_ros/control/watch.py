"""The controller's side of the contract: what it does when plans or odometry cease.

It follows the newest trajectory that is no older than `stale_s`. Without one it brakes to a stop
along the last. Without odometry, or where its poses and speeds contradict each other, it brakes
harder, and steers by where the vehicle should be: by its speeds, or by our own commands.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from alpamayo_ros import geometry
from alpamayo_ros.buffers import PoseBuffer
from alpamayo_ros.control.follower import ControlCommand, ControlState, Follower, RigState
from alpamayo_ros.motion import BELIEVED, MotionLimits, check_motion, is_elsewhere
from alpamayo_ros.pipeline import BACKWARD_JUMP_NS
from alpamayo_ros.pose_motion import WINDOW_NS
from alpamayo_ros.types import NS_PER_S, EgoPose

ODOMETRY_STALE_S = 0.3  # nothing is tracked without knowing where the vehicle is
CARRY_FORWARD_S = 0.1  # odometry is at most moved on by its own twist for so long


class Watch:
    """One vehicle's odometry, and the commands that follow from it."""

    def __init__(self, follower: Follower, motion_by_poses: bool = False) -> None:
        """`motion_by_poses`: poses are heard without their motion (parameter odometry_twist)."""
        self.follower = follower
        self._limits = MotionLimits(motion_by_poses=motion_by_poses)
        self._poses = PoseBuffer(WINDOW_NS)  # gives them their motion where they lack it
        self._recent: deque[EgoPose] = deque()
        self._doubt = ""  # what odometry contradicted itself in
        self._rig: tuple[int, RigState] | None = None  # when, where: the last estimate
        self._last = ControlCommand(0.0, 0.0, ControlState.IDLE)

    @property
    def hears(self) -> bool:
        """Whether there was odometry at all."""
        return bool(self._recent)

    def forget(self) -> None:
        """The clock was set back: nothing from before counts."""
        self.follower.forget()
        self._recent.clear()
        self._poses.clear()
        self._doubt, self._rig = "", None

    def hear(self, heard: EgoPose) -> None:
        """One odometry, finite and of the rear axle."""
        pose = self._with_motion(heard)
        if pose is None:
            return
        recent, limits = self._recent, self._limits
        if recent and (pose.stamp_ns <= recent[-1].stamp_ns or is_elsewhere(recent[-1], pose)):
            recent.clear()
        recent.append(pose)
        while pose.stamp_ns - recent[0].stamp_ns > limits.check_span_ns:
            recent.popleft()
        wrong = check_motion(recent, limits)
        if wrong is not None:
            if not self._doubt:
                self._rig = pose.stamp_ns, self._reckoned(pose.stamp_ns)
            self._doubt = str(wrong)
        elif abs(pose.speed_mps) > BELIEVED * limits.speed_tolerance_mps:
            self._doubt = ""

    def _with_motion(self, pose: EgoPose) -> EgoPose | None:
        """The pose with its motion; None where that is not known yet, or the pose came too late."""
        if pose.is_motion_known:
            return pose
        newest = self._poses.newest
        if newest is not None and pose.stamp_ns < newest.stamp_ns - BACKWARD_JUMP_NS:
            self._poses.clear()  # its clock was set back, or one stamp was of the future
        elif newest is not None and is_elsewhere(newest, pose):
            self._poses.relocate()
        if not self._poses.add(pose):
            return None
        newest = self._poses.newest
        assert newest is not None
        return newest if newest.stamp_ns == pose.stamp_ns and newest.is_motion_known else None

    def command(self, now_ns: int) -> tuple[ControlCommand, str]:
        """The command for now, and why it stops; empty where it does not."""
        pose = self._recent[-1]
        age_s = (now_ns - pose.stamp_ns) / NS_PER_S
        rig = self._estimate(pose, age_s, now_ns)
        self._rig = now_ns, rig
        command, reason = self.follower.command(now_ns, rig), ""
        if abs(age_s) > ODOMETRY_STALE_S:
            reason = f"odometry is {age_s:.2f} s old"
        elif self._doubt:
            reason = self._doubt
        if reason:
            braking = -self.follower.settings.blind_braking_mps2
            command = replace(command, state=ControlState.STOPPING, acceleration_mps2=braking)
        elif command.state is ControlState.STOPPING:
            reason = f"the newest trajectory is {command.plan_age_s:.2f} s old"
        self._last = command
        return command, reason

    def _estimate(self, pose: EgoPose, age_s: float, now_ns: int) -> RigState:
        """Where the rig is: by odometry, or on from the last estimate."""
        if self._rig is None or (not self._doubt and age_s <= CARRY_FORWARD_S):
            return rig_state(pose, min(max(age_s, 0.0), CARRY_FORWARD_S))
        at_ns, rig = self._rig
        dt_s = min(max((now_ns - at_ns) / NS_PER_S, 0.0), CARRY_FORWARD_S)
        # Of the two its speed is believed, since braking needs one; unless that was the poses' too.
        if age_s <= CARRY_FORWARD_S and not (self._doubt and self._limits.motion_by_poses):
            return _moved(rig, dt_s, pose.speed_mps, pose.yaw_rate_rps)
        speed = max(rig.speed_mps + self._last.acceleration_mps2 * dt_s, 0.0)
        return _moved(rig, dt_s, speed, speed * self._last.curvature_1pm)

    def _reckoned(self, until_ns: int) -> RigState:
        """From the oldest pose, which may still have been right, on by the speeds since, or by its
        own where those are the poses'."""
        poses = list(self._recent)
        if self._limits.motion_by_poses:
            return rig_state(poses[0], (until_ns - poses[0].stamp_ns) / NS_PER_S)
        rig = rig_state(poses[0], 0.0)
        for before, after in zip(poses, poses[1:]):
            dt_s = (after.stamp_ns - before.stamp_ns) / NS_PER_S
            rig = _moved(rig, dt_s, after.speed_mps, after.yaw_rate_rps)
        return rig


def rig_state(pose: EgoPose, ahead_s: float) -> RigState:
    """Odometry moved on along its twist by `ahead_s`."""
    x, y, _ = pose.position_m.tolist()
    yaw = float(geometry.yaw_of(geometry.quaternion_to_rotation(pose.quaternion_xyzw)))
    return _moved(RigState(x, y, yaw, pose.speed_mps), ahead_s, pose.speed_mps, pose.yaw_rate_rps)


def _moved(rig: RigState, dt_s: float, speed_mps: float, yaw_rate_rps: float) -> RigState:
    """After `dt_s`; the chord of the arc points half the turn to the side."""
    turn, step = yaw_rate_rps * dt_s, speed_mps * dt_s
    return RigState(
        rig.x_m + step * math.cos(rig.yaw_rad + 0.5 * turn),
        rig.y_m + step * math.sin(rig.yaw_rad + 0.5 * turn),
        rig.yaw_rad + turn,
        speed_mps,
    )
