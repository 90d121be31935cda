"""Plans as the messages of `msg/`, whatever library the messages come from.

The node builds rclpy messages and the offline replay rosbags' ones through the same functions: a
`Make` builds a message from its type's name and all its fields, so both publish the same content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.safety.fallback import PathPoints
from alpamayo_ros.types import (
    N_WAYPOINTS,
    NS_PER_S,
    LateReasoning,
    Plan,
    PlannerSample,
    Pose3,
    ReasoningSource,
    Stated,
)

WAYPOINT_STEP_NS = 100_000_000


class Make(Protocol):
    """`make("std_msgs/msg/Header", stamp=…, frame_id=…)`; every field must be given."""

    def __call__(self, msgtype: str, /, **fields: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class PathFrame:
    """Where poses are expressed, and which frame they are poses of."""

    frame_id: str
    rig_frame_id: str
    frame_from_rig_t0: Pose3


def path_frame(sample: PlannerSample, rig_frame_id: str, in_odometry: bool) -> PathFrame:
    """The odometry frame (right even when late) or the rig frame as it was at t0."""
    return pose_frame(
        sample.odometry_frame_id, sample.odometry_from_rig_t0, rig_frame_id, in_odometry
    )


def pose_frame(
    odometry_frame_id: str, odometry_from_rig_t0: Pose3, rig_frame_id: str, in_odometry: bool
) -> PathFrame:
    """As `path_frame`, from a pose."""
    if in_odometry:
        return PathFrame(odometry_frame_id, rig_frame_id, odometry_from_rig_t0)
    return PathFrame(rig_frame_id, rig_frame_id, geometry.identity_pose())


def stamp(make: Make, stamp_ns: int) -> Any:
    """builtin_interfaces/Time."""
    return make(
        "builtin_interfaces/msg/Time", sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S
    )


def header(make: Make, stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=stamp(make, stamp_ns), frame_id=frame_id)


def poses(
    make: Make,
    xyz_in_rig_t0: NDArray[np.float64],
    rot_in_rig_t0: NDArray[np.float64],
    frame: PathFrame,
) -> list[Any]:
    """geometry_msgs/Pose for (n, 3) positions and (n, 3, 3) rotations."""
    xyz = geometry.apply(frame.frame_from_rig_t0, xyz_in_rig_t0).tolist()
    quaternions = geometry.rotation_to_quaternion(
        frame.frame_from_rig_t0.rotation @ rot_in_rig_t0
    ).tolist()
    return [
        make(
            "geometry_msgs/msg/Pose",
            position=make("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        )
        for (x, y, z), (qx, qy, qz, qw) in zip(xyz, quaternions)
    ]


def path(make: Make, plan: Plan, frame: PathFrame, points: PathPoints | None = None) -> Any:
    """nav_msgs/Path: 64 poses; pose k is stamped t0 + (k + 1) * 0.1 s, unless `points` say else."""
    xyz, rot, times_s = plan.xyz_in_rig_t0, plan.rot_in_rig_t0, plan.times_s
    if points is not None:
        xyz, rot, times_s = points.xyz_in_rig_t0, points.rot_in_rig_t0, points.times_s
    stamps_ns = (plan.t0_ns + np.rint(times_s * 10).astype(int) * WAYPOINT_STEP_NS).tolist()
    return make(
        "nav_msgs/msg/Path",
        header=header(make, plan.t0_ns, frame.frame_id),
        poses=[
            make(
                "geometry_msgs/msg/PoseStamped",
                header=header(make, stamp_ns, frame.frame_id),
                pose=pose,
            )
            for stamp_ns, pose in zip(stamps_ns, poses(make, xyz, rot, frame))
        ],
    )


def trajectory(make: Make, plan: Plan, frame: PathFrame, sequence: int, reason: str = "") -> Any:
    """PlannedTrajectory: 65 points from t0 itself, with speeds; a fallback's has its reason."""
    xyz = np.concatenate((np.zeros((1, 3)), plan.xyz_in_rig_t0))
    rot = np.concatenate((np.eye(3)[None], plan.rot_in_rig_t0))
    speeds = plan.speeds_mps.tolist()
    # Step k leads to waypoint k; the last point has no step of its own and repeats its neighbour's.
    steps = [*plan.action.tolist(), plan.action[-1].tolist()]
    points = []
    for k, pose in enumerate(poses(make, xyz, rot, frame)):
        elapsed_ns = k * WAYPOINT_STEP_NS
        points.append(
            make(
                "alpamayo_ros/msg/PlannedTrajectoryPoint",
                time_from_start=make(
                    "builtin_interfaces/msg/Duration",
                    sec=elapsed_ns // NS_PER_S,
                    nanosec=elapsed_ns % NS_PER_S,
                ),
                pose=pose,
                velocity_mps=speeds[k],
                acceleration_mps2=steps[k][0],
                curvature_1pm=steps[k][1],
                yaw_rate_rps=steps[k][1] * speeds[k],
            )
        )
    assert len(points) == N_WAYPOINTS + 1
    return make(
        "alpamayo_ros/msg/PlannedTrajectory",
        header=header(make, plan.t0_ns, frame.frame_id),
        rig_frame_id=frame.rig_frame_id,
        sequence=sequence,
        source=plan.source,
        reason=reason,
        model=plan.model,
        points=points,
    )


def candidates(make: Make, plan: Plan, frame: PathFrame) -> Any:
    """CandidateTrajectories: every sampled trajectory, one of them marked as the chosen one."""
    chosen = _chosen(plan)
    return make(
        "alpamayo_ros/msg/CandidateTrajectories",
        header=header(make, plan.t0_ns, frame.frame_id),
        candidates=[
            make(
                "alpamayo_ros/msg/CandidateTrajectory",
                poses=poses(make, xyz, rot, frame),
                chosen=index == chosen,
            )
            for index, (xyz, rot) in enumerate(
                zip(plan.candidates_xyz_in_rig_t0, plan.candidates_rot_in_rig_t0)
            )
        ],
    )


def _chosen(plan: Plan) -> int:
    """Which candidate the plan is: the nearest to it, and the first of equal ones."""
    xyz = np.abs(plan.candidates_xyz_in_rig_t0 - plan.xyz_in_rig_t0).max(axis=(1, 2))
    rot = np.abs(plan.candidates_rot_in_rig_t0 - plan.rot_in_rig_t0).max(axis=(1, 2, 3))
    return int(np.lexsort((rot, xyz))[0]) if len(xyz) else -1


def reasoning(make: Make, plan: Plan) -> Any:
    """std_msgs/String: the text alone."""
    return make("std_msgs/msg/String", data=plan.reasoning)


def reasoning_trace(make: Make, plan: Plan, frame: PathFrame) -> Any:
    """ReasoningTrace: the text, who wrote it, the decisions and their causes."""
    stated = Stated(plan.reasoning, plan.decisions, plan.critical_components)
    return _trace(make, plan.t0_ns, frame.frame_id, stated, plan.reasoning_source, 0.0)


def late_reasoning(make: Make, late: LateReasoning) -> Any:
    """std_msgs/String: the text alone."""
    return make("std_msgs/msg/String", data=late.stated.reasoning)


def late_trace(make: Make, late: LateReasoning, frame_id: str, delay_ms: float) -> Any:
    """ReasoningTrace of a plan that went out `delay_ms` before."""
    return _trace(make, late.t0_ns, frame_id, late.stated, ReasoningSource.MODEL, delay_ms)


def _trace(
    make: Make,
    t0_ns: int,
    frame_id: str,
    stated: Stated,
    source: ReasoningSource,
    delay_ms: float,
) -> Any:
    return make(
        "alpamayo_ros/msg/ReasoningTrace",
        header=header(make, t0_ns, frame_id),
        text=stated.reasoning,
        source=source.value,
        longitudinal_decision=stated.decisions.longitudinal,
        lateral_decision=stated.decisions.lateral,
        critical_components=[
            make("alpamayo_ros/msg/CriticalComponent", category=part.category, text=part.text)
            for part in stated.critical_components
        ],
        delay_ms=delay_ms,
    )
