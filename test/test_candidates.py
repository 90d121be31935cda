"""Which of several trajectories becomes the plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros import candidates, geometry
from alpamayo_ros.candidates import PreviousPlan
from alpamayo_ros.types import Pose3

T0_NS = 1_700_000_000_000_000_000
HERE = Pose3(np.zeros(3), np.eye(3))


def arcs(*yaw_rates: float, speed_mps: float = 8.0) -> np.ndarray:
    """One trajectory a yaw rate, (n, 64, 3)."""
    times = np.arange(1, 65) * 0.1
    yaw = np.array(yaw_rates)[:, None] * times
    x = np.cumsum(np.cos(yaw), axis=1) * speed_mps * 0.1
    y = np.cumsum(np.sin(yaw), axis=1) * speed_mps * 0.1
    return np.stack([x, y, np.zeros_like(x)], axis=-1)


def choose(
    policy: str, xyz: np.ndarray, previous: PreviousPlan | None = None, **changed: object
) -> int:
    fields = {"t0_ns": T0_NS, "odometry_from_rig_t0": HERE, "odometry_frame_id": "odom", **changed}
    return candidates.choose(policy, xyz, previous=previous, **fields)  # type: ignore[arg-type]


def test_first_and_medoid() -> None:
    """Of a bundle and an outlier the middle one of the bundle."""
    xyz = arcs(0.5, 0.0, 0.02, -0.02, 0.04)
    assert choose("first", xyz) == 0
    assert choose("medoid", xyz) == 2
    assert choose("closest", xyz) == 2  # nothing was planned before
    assert choose("closest", xyz[:1]) == 0


@given(st.permutations(range(5)))
def test_the_medoid_does_not_depend_on_the_order(order: list[int]) -> None:
    xyz = arcs(0.5, 0.0, 0.021, -0.02, 0.04)
    assert order[choose("medoid", xyz[order])] == 2


def test_closest_to_the_last_plan_after_the_vehicle_has_moved() -> None:
    """The last plan turned left; 0.5 s on, elsewhere and turned, the same turn is found again."""
    turning = arcs(0.2)[0]
    before = Pose3(np.array([5e5, 4e6, 30.0]), geometry.yaw_to_rotation(1.2))
    moved = Pose3(turning[4], geometry.yaw_to_rotation(0.2 * 0.5))
    now = geometry.compose(before, moved)
    previous = PreviousPlan(T0_NS, turning, before, "odom")
    xyz = arcs(-0.2, 0.0, 0.2, 0.4)
    later = {"t0_ns": T0_NS + 500_000_000, "odometry_from_rig_t0": now}
    assert choose("closest", xyz, previous, **later) == 2
    in_rig = (geometry.apply(before, turning) - now.translation_m) @ now.rotation
    np.testing.assert_allclose(in_rig[5:, :2], xyz[2, :59, :2], atol=0.05)


@pytest.mark.parametrize(
    "changed",
    [
        {"odometry_frame_id": "map"},
        {"t0_ns": T0_NS + 6_000_000_000},
        {"t0_ns": T0_NS - 100_000_000},
    ],
)
def test_a_last_plan_that_says_nothing(changed: dict[str, object]) -> None:
    """Of another frame, too old, or from the future: the medoid."""
    previous = PreviousPlan(T0_NS, arcs(0.5)[0], HERE, "odom")
    assert choose("closest", arcs(0.5, 0.0, 0.02, -0.02, 0.04), previous, **changed) == 2


def test_unknown_policy() -> None:
    with pytest.raises(ValueError, match="'best' is none of first, medoid, closest"):
        choose("best", arcs(0.0, 0.1))
