"""Odometry of a frame somewhere on the vehicle, brought to the rig."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpamayo_ros.geometry import (
    identity_pose,
    pose_from_quaternion,
    quaternion_to_rotation,
    rotation_to_quaternion,
    yaw_to_rotation,
)
from alpamayo_ros.odometry import RigOffset, ego_pose, stamp_ns
from alpamayo_ros.types import EgoPose, Pose3, Rejection, RejectionReason


def vector(values: Sequence[float]) -> Any:
    """geometry_msgs/Vector3 or Point."""
    return SimpleNamespace(x=values[0], y=values[1], z=values[2])


def odometry(
    position: Sequence[float] = (0, 0, 0),
    quaternion: Sequence[float] = (0, 0, 0, 1),
    linear: Sequence[float] = (0, 0, 0),
    angular: Sequence[float] = (0, 0, 0),
) -> Any:
    """nav_msgs/Odometry."""
    x, y, z, w = quaternion
    orientation = SimpleNamespace(x=x, y=y, z=z, w=w)
    return SimpleNamespace(
        header=SimpleNamespace(
            stamp=SimpleNamespace(sec=1_700_000_000, nanosec=999_999_999), frame_id="map"
        ),
        child_frame_id="base_link",
        pose=SimpleNamespace(
            pose=SimpleNamespace(position=vector(position), orientation=orientation)
        ),
        twist=SimpleNamespace(
            twist=SimpleNamespace(linear=vector(linear), angular=vector(angular))
        ),
    )


def yaw_pose(x: float, y: float, yaw: float = 0.0) -> Pose3:
    """A transform in the plane."""
    return Pose3(np.array([x, y, 0.0]), yaw_to_rotation(yaw))


def test_the_rig_s_own_odometry() -> None:
    """Taken as it is, to the nanosecond, with its frame."""
    pose = ego_pose(
        odometry((4, 5, 6), (0, 0, 0.6, 0.8), (7, 1, 2), (0.1, 0.2, 0.3)), yaw_pose(0, 0)
    )
    assert isinstance(pose, EgoPose)
    assert pose.stamp_ns == 1_700_000_000_999_999_999 and pose.frame_id == "map"
    np.testing.assert_array_equal(pose.position_m, [4, 5, 6])
    np.testing.assert_allclose(pose.quaternion_xyzw, [0, 0, 0.6, 0.8], atol=1e-15)
    assert (pose.speed_mps, pose.yaw_rate_rps) == (7.0, 0.3)


def test_turning_about_a_lever() -> None:
    """An antenna 1.5 m ahead of and 0.5 m left of the rig, turning at 0.4 rad/s: the rig's speed
    along x differs by omega x lever, its position by the lever turned with the vehicle."""
    child_from_rig = yaw_pose(-1.5, -0.5)
    half = np.sqrt(0.5)
    pose = ego_pose(
        odometry((10, 20, 0), (0, 0, half, half), (8, 0, 0), (0, 0, 0.4)), child_from_rig
    )
    assert isinstance(pose, EgoPose)
    # Facing y: 1.5 m behind is -y, 0.5 m to the right is +x.
    np.testing.assert_allclose(pose.position_m, [10.5, 18.5, 0.0], atol=1e-12)
    assert pose.speed_mps == pytest.approx(8.0 + 0.4 * 0.5)
    assert pose.yaw_rate_rps == 0.4


def test_a_sensor_mounted_backwards() -> None:
    """A child frame that faces rearwards: driving ahead is -x there, +x in the rig."""
    pose = ego_pose(odometry(linear=(-5, 0, 0), angular=(0, 0, 0.2)), yaw_pose(0, 0, np.pi))
    assert isinstance(pose, EgoPose)
    assert pose.speed_mps == pytest.approx(5.0) and pose.yaw_rate_rps == pytest.approx(0.2)


@settings(max_examples=40)
@given(*[st.floats(-3.0, 3.0)] * 5)
def test_the_twist_is_the_derivative_of_the_pose(
    x: float, y: float, yaw: float, rate: float, speed: float
) -> None:
    """A child driven along its x axis and turning: the rig's position after 1 ms, by differences,
    has moved by the speed told along the rig's heading.

    The bound is the second-order term of 1 ms, (speed + rate * lever) * rate * 1 ms: 0.05 m/s at
    most, where a wrong sign of the lever would show 18 m/s.
    """
    offset = yaw_pose(x, y, yaw)
    poses = []
    for t in (0.0, 1e-3):
        turn = yaw_to_rotation(rate * t)
        position = turn @ [speed * t, 0.0, 0.0]
        message = odometry(position, rotation_to_quaternion(turn), (speed, 0, 0), (0, 0, rate))
        pose = ego_pose(message, offset)
        assert isinstance(pose, EgoPose)
        poses.append(pose)
    moved = (poses[1].position_m - poses[0].position_m) / 1e-3
    ahead = quaternion_to_rotation(poses[0].quaternion_xyzw) @ [1.0, 0.0, 0.0]
    bound = 1e-3 * (abs(speed) + abs(rate) * np.hypot(x, y)) * abs(rate) + 1e-9
    assert float(moved @ ahead) == pytest.approx(poses[0].speed_mps, abs=bound)


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize(
    ("field", "said"),
    (
        ("position", "position"),
        ("quaternion", "orientation"),
        ("linear", "linear velocity"),
        ("angular", "angular velocity"),
    ),
)
def test_odometry_that_is_not_finite(field: str, said: str, bad: float) -> None:
    """Refused, naming the field."""
    values = {"quaternion": [0, 0, 0, bad]}.get(field, [0, bad, 0])
    outcome = ego_pose(odometry(**{field: values}), identity_pose())  # type: ignore[arg-type]
    assert isinstance(outcome, Rejection)
    assert outcome.reason is RejectionReason.ODOMETRY_INVALID
    assert said in outcome.detail


@pytest.mark.parametrize("length", (0.0, 0.98, 1.02, 7.0))
def test_an_orientation_that_is_none(length: float) -> None:
    """A quaternion whose length is not 1 (all zeros: an unset message) is refused with it."""
    outcome = ego_pose(odometry(quaternion=(0, 0, 0, length)), identity_pose())
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.value) == (RejectionReason.ODOMETRY_INVALID, length)


def test_a_rounded_orientation_is_normalised() -> None:
    """0.5 % off is a filter's rounding: taken, and of unit length afterwards."""
    pose = ego_pose(odometry(quaternion=(0, 0, 0.603, 0.804)), identity_pose())
    assert isinstance(pose, EgoPose)
    assert np.linalg.norm(pose.quaternion_xyzw) == pytest.approx(1.0, abs=1e-15)


# ---- where the rig is ------------------------------------------------------------------------


def tf(*edges: tuple[str, str, Sequence[float]], quaternion: Sequence[float] = (0, 0, 0, 1)) -> Any:
    """tf2_msgs/TFMessage of (parent, child, translation)."""
    x, y, z, w = quaternion
    return SimpleNamespace(
        transforms=[
            SimpleNamespace(
                header=SimpleNamespace(frame_id=parent),
                child_frame_id=child,
                transform=SimpleNamespace(
                    translation=vector(translation), rotation=SimpleNamespace(x=x, y=y, z=z, w=w)
                ),
            )
            for parent, child, translation in edges
        ]
    )


def offset_of(message: Any, child: str, rig: str = "base_link") -> list[float] | None:
    """The rig in the child frame after one TF message."""
    offsets = RigOffset(rig)
    offsets.add_static_transforms(message)
    pose = offsets.child_from_rig(child)
    return None if pose is None else [float(v) for v in pose.translation_m]


def test_rig_and_child_are_one() -> None:
    """The identity, with or without a leading slash, and without TF."""
    for child, rig in (("base_link", "base_link"), ("/base_link", "base_link"), ("b", "/b")):
        pose = RigOffset(rig).child_from_rig(child)
        assert pose is not None
        np.testing.assert_array_equal(pose.translation_m, np.zeros(3))


def test_chains_in_either_direction() -> None:
    """Child above the rig, below it, and beside it under a common ancestor."""
    assert offset_of(tf(("gnss", "base_link", (-1.5, 0, 0))), "gnss") == [-1.5, 0, 0]
    assert offset_of(tf(("base_link", "gnss", (1.5, 0, 0))), "gnss") == [-1.5, 0, 0]
    beside = tf(
        ("body", "base_link", (-1, 0, 0)), ("body", "mast", (0, 2, 0)), ("mast", "gnss", (0, 0, 3))
    )
    assert offset_of(beside, "gnss") == [-1, -2, -3]
    slashed = tf(("/base_link", "/gnss", (1.5, 0, 0)))
    assert offset_of(slashed, "gnss") == [-1.5, 0, 0]


def test_a_turned_chain() -> None:
    """Rotations compose too: a child turned a quarter left sees the rig on its other side."""
    half = np.sqrt(0.5)
    message = tf(("base_link", "gnss", (1.5, 0, 0)), quaternion=(0, 0, half, half))
    assert offset_of(message, "gnss") == pytest.approx([0, 1.5, 0])


def test_unrelated_frames_have_no_answer() -> None:
    """None, and an explanation that names both frames and what /tf_static has."""
    offsets = RigOffset("base_link")
    offsets.add_static_transforms(tf(("map", "marker", (1, 0, 0))))
    assert offsets.child_from_rig("gnss") is None
    assert offsets.child_from_rig("") is None
    said = offsets.explain("gnss")
    assert all(part in said for part in ("'gnss'", "'base_link'", "map -> marker"))
    assert "it has none" in RigOffset("base_link").explain("gnss")


def test_a_loop_ends() -> None:
    """Frames that are each other's parents: an answer where there is one, and no endless walk."""
    loop = tf(("a", "b", (1, 0, 0)), ("b", "a", (1, 0, 0)), ("a", "a", (5, 0, 0)))
    assert offset_of(loop, "a", rig="base_link") is None
    assert offset_of(tf(("a", "b", (1, 0, 0)), ("b", "a", (-1, 0, 0))), "a", rig="b") == [1, 0, 0]


def test_a_later_transform_replaces_an_earlier() -> None:
    """As TF has it."""
    twice = tf(("gnss", "base_link", (1, 0, 0)), ("gnss", "base_link", (2, 0, 0)))
    assert offset_of(twice, "gnss") == [2, 0, 0]


def test_bad_transforms_are_passed_over() -> None:
    """A zero quaternion or a NaN translation relates nothing; a good edge beside it does."""
    assert offset_of(tf(("gnss", "base_link", (1, 0, 0)), quaternion=(0, 0, 0, 0)), "gnss") is None
    assert offset_of(tf(("gnss", "base_link", (np.nan, 0, 0))), "gnss") is None
    mixed = tf(("gnss", "base_link", (1, 0, 0)), ("gnss", "other", (np.inf, 0, 0)))
    assert offset_of(mixed, "gnss") == [1, 0, 0]


def test_the_parameter_wins() -> None:
    """Over TF, over equal names, and for an odometry that names no child frame."""
    pose = pose_from_quaternion([9, 0, 0], [0, 0, 0, 1])
    offsets = RigOffset("base_link", pose)
    offsets.add_static_transforms(tf(("gnss", "base_link", (1, 0, 0))))
    for child in ("gnss", "base_link", "", "unheard_of"):
        assert offsets.child_from_rig(child) is pose


def test_stamps_keep_nanoseconds() -> None:
    """No float on the way."""
    stamp = SimpleNamespace(sec=1_799_999_999, nanosec=123_456_789)
    assert stamp_ns(stamp) == 1_799_999_999_123_456_789
