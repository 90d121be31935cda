"""Odometry messages to ego poses of the rig. Takes any object with nav_msgs/Odometry's fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.types import NS_PER_S, EgoPose, Pose3, Rejection, RejectionReason

# Beyond what any road vehicle does: damage, or another unit.
MAX_POSITION_M = 1e9  # maps' coordinates reach 1e7
MAX_SPEED_MPS = 200.0
MAX_TURN_RPS = 50.0

# Where speed and yaw rate come from: parameter odometry_twist.
TWIST_SOURCES = ("message", "poses")

ToPose = Callable[[Sequence[float], Sequence[float]], Pose3]


def stamp_ns(stamp: Any) -> int:
    """builtin_interfaces/Time to integer nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def ego_pose(message: Any, child_from_rig: Pose3, reads_twist: bool = True) -> EgoPose | Rejection:
    """The rig's pose and motion from the odometry of a frame rigidly mounted on it.

    `child_from_rig` is the rig in the message's child frame (the identity where they are one).
    The twist is in the child frame, as nav_msgs/Odometry defines it; at the rig's origin the
    turning adds omega x lever. Where the twist is not read, whatever is in it, the motion is not
    known: `PoseBuffer` finds it by the poses.
    """
    # Checked as plain floats: odometry comes at hundreds of hertz, and arrays of three numbers cost
    # more than all else that is done with it.
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    translation = (position.x, position.y, position.z)
    quaternion = (orientation.x, orientation.y, orientation.z, orientation.w)
    velocity = omega = (0.0, 0.0, 0.0)
    if reads_twist:
        linear, angular = message.twist.twist.linear, message.twist.twist.angular
        velocity = (linear.x, linear.y, linear.z)
        omega = (angular.x, angular.y, angular.z)
    for name, values, limit, unit in (
        ("position", translation, MAX_POSITION_M, "m"),
        ("orientation", quaternion, math.inf, ""),
        ("linear velocity", velocity, MAX_SPEED_MPS, "m/s"),
        ("angular velocity", omega, MAX_TURN_RPS, "rad/s"),
    ):
        if not all(map(math.isfinite, values)):
            return Rejection(
                RejectionReason.ODOMETRY_INVALID, "odometry", detail=f"{name} is not finite"
            )
        largest = float(max(map(abs, values)))
        if largest > limit:
            return Rejection(
                RejectionReason.ODOMETRY_INVALID, "odometry", largest, limit, unit, detail=name
            )
    if not geometry.is_unit_quaternion(quaternion):
        return Rejection(
            RejectionReason.ODOMETRY_INVALID,
            "odometry",
            math.hypot(*quaternion),
            1.0,
            detail="length of the orientation's quaternion",
        )
    if geometry.is_identity(child_from_rig):
        length = math.hypot(*quaternion)
        return EgoPose(
            stamp_ns=stamp_ns(message.header.stamp),
            position_m=np.array(translation),
            quaternion_xyzw=np.array(quaternion) / (-length if quaternion[3] < 0 else length),
            speed_mps=float(velocity[0]) if reads_twist else math.nan,
            yaw_rate_rps=float(omega[2]) if reads_twist else math.nan,
            frame_id=message.header.frame_id,
        )
    odometry_from_child = geometry.pose_from_quaternion(translation, quaternion)
    rig = geometry.compose(odometry_from_child, child_from_rig)
    velocity_of_rig = velocity + np.cross(omega, child_from_rig.translation_m)
    rig_from_child = child_from_rig.rotation.T
    return EgoPose(
        stamp_ns=stamp_ns(message.header.stamp),
        position_m=rig.translation_m,
        quaternion_xyzw=geometry.rotation_to_quaternion(rig.rotation),
        speed_mps=float((rig_from_child @ velocity_of_rig)[0]) if reads_twist else math.nan,
        yaw_rate_rps=float((rig_from_child @ omega)[2]) if reads_twist else math.nan,
        frame_id=message.header.frame_id,
    )


class RigOffset:
    """How an odometry's child frame relates to the rig: the same, by parameter, or by static TF."""

    def __init__(self, rig_frame: str, offset: Pose3 | None = None) -> None:
        self._rig_frame = rig_frame
        self._by_parameter = offset  # child_from_rig
        self._parents: dict[str, tuple[str, Pose3]] = {}  # child -> parent, parent_from_child

    def add(self, parent: str, child: str, parent_from_child: Pose3) -> None:
        """Take in one static transform; a later one of the same child replaces it."""
        self._parents[_bare(child)] = (_bare(parent), parent_from_child)

    def add_static_transforms(
        self, message: Any, to_pose: ToPose = geometry.pose_from_quaternion
    ) -> None:
        """Take in a tf2_msgs/TFMessage of /tf_static; `to_pose` makes a Pose3 of (xyz, xyzw)."""
        for entry in message.transforms:
            t, q = entry.transform.translation, entry.transform.rotation
            quaternion = [q.x, q.y, q.z, q.w]
            if np.isfinite([t.x, t.y, t.z]).all() and geometry.is_unit_quaternion(quaternion):
                pose = to_pose([t.x, t.y, t.z], quaternion)
                self.add(entry.header.frame_id, entry.child_frame_id, pose)

    def child_from_rig(self, child_frame: str) -> Pose3 | None:
        """The rig in `child_frame`; None where nothing relates the two.

        The parameter wins over TF: who sets it knows of both. An empty child_frame_id is taken
        for the rig only by parameter, since it names nothing.
        """
        if self._by_parameter is not None:
            return self._by_parameter
        child, rig = _bare(child_frame), _bare(self._rig_frame)
        if child == rig:
            return geometry.identity_pose()
        to_child, to_rig = self._chain(child), self._chain(rig)
        for ancestor, ancestor_from_child in to_child.items():
            if ancestor in to_rig:
                return geometry.compose(geometry.invert(ancestor_from_child), to_rig[ancestor])
        return None

    def explain(self, child_frame: str) -> str:
        """Why `child_from_rig` has no answer, and what to do."""
        return (
            f"odometry's child_frame_id is {child_frame!r}, the rig frame {self._rig_frame!r}, and "
            f"/tf_static does not relate them (it has {self._known()}). Publish the static "
            "transform, or set parameter odometry_child_from_rig, or set rig_frame"
        )

    def _known(self) -> str:
        edges = [f"{parent} -> {child}" for child, (parent, _) in sorted(self._parents.items())]
        return ", ".join(edges) or "none"

    def _chain(self, frame: str) -> Mapping[str, Pose3]:
        """Every ancestor of a frame, itself first, with ancestor_from_frame."""
        chain = {frame: geometry.identity_pose()}
        current, pose = frame, geometry.identity_pose()
        while current in self._parents:
            parent, parent_from_current = self._parents[current]
            if parent in chain:  # a loop in the tree
                break
            pose = geometry.compose(parent_from_current, pose)
            chain[parent] = pose
            current = parent
        return chain


def _bare(frame: str) -> str:
    """TF2 frame names have no leading slash; recordings of old drivers do."""
    return frame.lstrip("/")
