"""Which of several sampled trajectories becomes the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.types import NS_PER_S, WAYPOINT_STEP_S, Pose3

POLICIES = ("first", "medoid", "closest", "scored")
MIN_COMMON_WAYPOINTS = 8  # with less in common the previous plan is too old to compare with


@dataclass(frozen=True, slots=True)
class PreviousPlan:
    """What was planned last, and where it started."""

    t0_ns: int
    xyz_in_rig_t0: NDArray[np.float64]  # (64, 3)
    odometry_from_rig_t0: Pose3
    odometry_frame_id: str


def choose(
    policy: str,
    xyz_in_rig_t0: NDArray[np.float64],
    t0_ns: int,
    odometry_from_rig_t0: Pose3,
    odometry_frame_id: str,
    previous: PreviousPlan | None,
) -> int:
    """Index into candidates (n, 64, 3): `first`, the `medoid`, or the `closest` to the last plan.

    Without a last plan to compare with (the first tick, another odometry frame, one too old),
    `closest` takes the medoid. So does `scored`, which leaves the choice to the safety stage: it
    goes by the candidates' actions, and this is its answer where there are none.
    """
    if policy not in POLICIES:
        raise ValueError(f"candidate choice {policy!r} is none of {', '.join(POLICIES)}")
    if policy == "first" or len(xyz_in_rig_t0) == 1:
        return 0
    if policy == "closest" and previous is not None:
        distances = _from_previous(
            xyz_in_rig_t0, t0_ns, odometry_from_rig_t0, odometry_frame_id, previous
        )
        if distances is not None:
            return int(np.argmin(distances))
    return medoid(xyz_in_rig_t0)


def medoid(xyz_in_rig_t0: NDArray[np.float64]) -> int:
    """The candidate of (n, 64, 3) with the smallest sum of mean xy distances to the others."""
    xy = np.asarray(xyz_in_rig_t0)[..., :2]
    pairwise = np.linalg.norm(xy[:, None] - xy[None], axis=-1).mean(axis=-1)
    return int(np.argmin(pairwise.sum(axis=1)))


def _from_previous(
    xyz_in_rig_t0: NDArray[np.float64],
    t0_ns: int,
    odometry_from_rig_t0: Pose3,
    odometry_frame_id: str,
    previous: PreviousPlan,
) -> NDArray[np.float64] | None:
    """Mean xy distances (n,) over the waypoints that the last plan reaches; None: too few."""
    shift_s = (t0_ns - previous.t0_ns) / NS_PER_S
    times_s = np.arange(1, xyz_in_rig_t0.shape[1] + 1) * WAYPOINT_STEP_S
    common = times_s + shift_s <= times_s[-1] + 1e-9
    if (
        shift_s < 0
        or odometry_frame_id != previous.odometry_frame_id
        or np.count_nonzero(common) < MIN_COMMON_WAYPOINTS
    ):
        return None
    in_odometry = geometry.apply(previous.odometry_from_rig_t0, previous.xyz_in_rig_t0)
    rig = odometry_from_rig_t0
    then = (in_odometry - rig.translation_m) @ rig.rotation  # in the rig frame at the new t0
    wanted = times_s[common] + shift_s
    before = np.stack([np.interp(wanted, times_s, then[:, axis]) for axis in (0, 1)], axis=-1)
    return np.linalg.norm(xyz_in_rig_t0[:, common, :2] - before, axis=-1).mean(axis=-1)
