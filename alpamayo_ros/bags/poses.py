"""The rig's poses over a whole recording, each with its motion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.buffers import PoseBuffer
from alpamayo_ros.errors import UserError
from alpamayo_ros.motion import is_elsewhere
from alpamayo_ros.odometry import RigOffset, ego_pose
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pose_motion import WINDOW_NS
from alpamayo_ros.types import EgoPose


def rig_poses(bag: BagReader, settings: PlannerSettings, offset: RigOffset) -> Iterator[EgoPose]:
    """Those of all usable odometry messages; with motion by poses, by rising stamp.

    Raises UserError where odometry's child frame cannot be related to the rig.
    """
    by_poses = settings.pipeline.limits.motion_by_poses
    heard = _heard(bag, settings, offset, reads_twist=not by_poses)
    return with_motion(heard) if by_poses else heard


def with_motion(poses: Iterable[EgoPose]) -> Iterator[EgoPose]:
    """Poses of unknown motion, in any order, by rising stamp with what `PoseBuffer` makes of them.

    Before a motion is known, at the start and after a silence, that of the next pose stands in for
    it: a recording is all there. Of a repeated stamp the last counts.
    """
    by_stamp = {pose.stamp_ns: pose for pose in poses}
    buffer, waiting = PoseBuffer(WINDOW_NS), list[EgoPose]()
    for stamp_ns in sorted(by_stamp):
        before = buffer.newest
        if before is not None and is_elsewhere(before, by_stamp[stamp_ns]):
            buffer.relocate()
        buffer.add(by_stamp[stamp_ns])
        pose = buffer.newest
        assert pose is not None
        waiting.append(pose)
        if pose.is_motion_known:
            yield from (_moving_as(pose, entry) for entry in waiting)
            waiting.clear()
    yield from (replace(pose, speed_mps=0.0, yaw_rate_rps=0.0) for pose in waiting)


def _moving_as(known: EgoPose, pose: EgoPose) -> EgoPose:
    return replace(pose, speed_mps=known.speed_mps, yaw_rate_rps=known.yaw_rate_rps)


def _heard(
    bag: BagReader, settings: PlannerSettings, offset: RigOffset, reads_twist: bool
) -> Iterator[EgoPose]:
    """In the order of the recording."""
    for _, _, message in bag.messages([settings.odometry_topic]):
        child_from_rig = offset.child_from_rig(message.child_frame_id)
        if child_from_rig is None:
            raise UserError(offset.explain(message.child_frame_id))
        pose = ego_pose(message, child_from_rig, reads_twist)
        if isinstance(pose, EgoPose):
            yield replace(pose, stamp_ns=pose.stamp_ns + settings.odometry_stamp_offset_ns)
