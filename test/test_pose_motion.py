"""Speed and yaw rate by poses alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from simulate import CIRCLE, START_NS, Motion, driven, ms, unmoved
from test_odometry import odometry, yaw_pose

from alpamayo_ros import geometry
from alpamayo_ros.buffers import PoseBuffer
from alpamayo_ros.odometry import ego_pose
from alpamayo_ros.safety.track import relocation
from alpamayo_ros.types import NS_PER_S, EgoPose, Rejection

STRAIGHT = Motion(8.0, 0.0)
RATES_HZ = (5.0, 10.0, 200.0)
RATES = pytest.mark.parametrize("rate_hz", RATES_HZ)


def moving(poses: Iterable[EgoPose]) -> list[EgoPose]:
    """What each was made of when it was the newest."""
    buffer, made = PoseBuffer(2 * NS_PER_S), []
    for pose in poses:
        assert buffer.add(pose)
        made.append(buffer.newest)
    return [pose for pose in made if pose is not None]


def settled(poses: Iterable[EgoPose]) -> tuple[np.ndarray, np.ndarray]:
    """Speeds and yaw rates from the second half second on."""
    made = [pose for pose in moving(poses) if pose.stamp_ns >= START_NS + ms(520)]
    assert len(made) >= 3
    return np.array([p.speed_mps for p in made]), np.array([p.yaw_rate_rps for p in made])


@pytest.mark.parametrize("rate_hz", (*RATES_HZ, 400.0))
def test_straight_on(rate_hz: float) -> None:
    """To the digits that a map's coordinates leave of the way (1e-9 m of 4e6 m)."""
    speeds, yaw_rates = settled(driven(STRAIGHT.pose, rate_hz))
    np.testing.assert_allclose(speeds, 8.0, atol=1e-5)
    np.testing.assert_allclose(yaw_rates, 0.0, atol=1e-9)


@RATES
def test_in_a_bend(rate_hz: float) -> None:
    """Along the arc, not the chord: within 3 parts in a thousand at 5 Hz and 0.5 rad/s."""
    speeds, yaw_rates = settled(driven(Motion(10.0, -0.5).pose, rate_hz))
    np.testing.assert_allclose(speeds, 10.0, rtol=3e-3)
    np.testing.assert_allclose(yaw_rates, -0.5, atol=1e-6)


def test_in_reverse() -> None:
    """The rig's x axis decides on the sign; the yaw rate keeps its own."""
    speeds, yaw_rates = settled(driven(Motion(-2.0, 0.2).pose, 50.0))
    np.testing.assert_allclose(speeds, -2.0, atol=1e-3)
    np.testing.assert_allclose(yaw_rates, 0.2, atol=1e-6)


def test_braking_does_not_lag() -> None:
    """At 4 m/s^2 a straight line over the window would be 1 m/s behind."""

    def braking(stamp_ns: int) -> EgoPose:
        since_s = (stamp_ns - START_NS) / NS_PER_S
        way_m = 12.0 * since_s - 2.0 * since_s**2
        return replace(STRAIGHT.pose(stamp_ns), position_m=np.array([way_m, 0.0, 0.0]),
                       quaternion_xyzw=np.array([0.0, 0.0, 0.0, 1.0]))  # fmt: skip

    made = moving(driven(braking, 20.0))[-1]
    assert made.speed_mps == pytest.approx(12.0 - 4.0 * (made.stamp_ns - START_NS) / NS_PER_S)


@RATES
@pytest.mark.parametrize("speed_mps", (0.0, 10.0))
def test_noise_of_a_centimetre(rate_hz: float, speed_mps: float) -> None:
    """And of a tenth of a degree: some 0.1 m/s and 0.02 rad/s of it, standing as in motion; the
    three poses that 5 Hz has are a parabola to the noise, which makes it 0.15 m/s."""
    seconds = 8.0 if rate_hz < 50.0 else 1.0
    poses = driven(Motion(speed_mps, 0.0).pose, rate_hz, seconds, 0.01, math.radians(0.1))
    speeds, yaw_rates = settled(poses)
    assert np.std(speeds) < (0.25 if rate_hz == 5.0 else 0.13)
    assert np.abs(speeds - speed_mps).max() < 0.5
    assert np.std(yaw_rates) < 0.04


def test_only_poses_until_then_count() -> None:
    """What comes later changes nothing; until 0.1 s there is nothing to tell."""
    poses = driven(CIRCLE.pose, 100.0, noise_m=0.01)
    early, late = moving(poses[:80]), moving(poses)[:80]
    assert [p.speed_mps for p in early[15:]] == [p.speed_mps for p in late[15:]]
    assert not any(pose.is_motion_known for pose in early[:9])
    assert all(pose.is_motion_known for pose in early[12:])


def test_the_order_of_arrival_does_not_matter() -> None:
    """A pose that comes late is counted in all that it came too late for."""
    poses = driven(CIRCLE.pose, 50.0, noise_m=0.01)
    swapped = poses.copy()
    for k in range(10, len(poses) - 4, 7):
        swapped[k : k + 4] = [poses[k + 1], poses[k + 2], poses[k + 3], poses[k]]
    buffers = PoseBuffer(2 * NS_PER_S), PoseBuffer(2 * NS_PER_S)
    for buffer, order in zip(buffers, (poses, swapped)):
        for pose in order:
            buffer.add(pose)
    one, other = (buffer.between(START_NS + ms(100), 2**62) for buffer in buffers)
    assert [(p.stamp_ns, p.speed_mps) for p in one] == [(p.stamp_ns, p.speed_mps) for p in other]


def test_the_rig_drives_on_over_a_jump() -> None:
    """The first poses behind it have the speed before it, for 0.3 s at most: a stop that begins
    there begins at a speed, and the stage knows the drive for the same one."""
    buffer = PoseBuffer(2 * NS_PER_S)
    poses = driven(CIRCLE.pose, 50.0)
    for pose in poses[:40]:
        buffer.add(pose)
    before = buffer.newest
    buffer.relocate()
    for pose in poses[40:]:
        buffer.add(replace(pose, position_m=pose.position_m + 500.0))
        after = buffer.newest
        assert before is not None and after is not None
        assert after.speed_mps == pytest.approx(10.0, abs=0.02)
        assert len(buffer) > 1 or relocation(before, after) is not None
    buffer.relocate()
    far = poses[-1].stamp_ns + ms(301)
    buffer.add(unmoved(CIRCLE.pose(far)))
    assert buffer.newest is not None and not buffer.newest.is_motion_known


# ---- messages --------------------------------------------------------------------------------


def test_no_twist_is_read() -> None:
    """Whatever is in it, NaN as well, with a lever arm as without one."""
    message = odometry(linear=(math.nan, 0, 0), angular=(0, 0, 99))
    for offset in (geometry.identity_pose(), yaw_pose(-1.5, 0.2)):
        pose = ego_pose(message, offset, reads_twist=False)
        assert isinstance(pose, EgoPose) and not pose.is_motion_known
    assert isinstance(ego_pose(message, geometry.identity_pose()), Rejection)


def test_the_speed_is_the_rig_s() -> None:
    """Odometry of an antenna 2 m to the left of the rig, turned by 90 degrees: in a bend to the
    left it is slower."""
    child_from_rig = geometry.invert(yaw_pose(0.0, 2.0, np.pi / 2))
    poses = []
    for k in range(60):
        pose = CIRCLE.pose(START_NS + k * ms(20))
        rig = geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
        child = geometry.compose(rig, yaw_pose(0.0, 2.0, np.pi / 2))
        quaternion = geometry.rotation_to_quaternion(child.rotation)
        message = odometry(child.translation_m.tolist(), quaternion.tolist())
        heard = ego_pose(message, child_from_rig, reads_twist=False)
        assert isinstance(heard, EgoPose)
        poses.append(replace(heard, stamp_ns=pose.stamp_ns))
    speeds, yaw_rates = settled(poses)
    np.testing.assert_allclose(speeds, 10.0, atol=1e-3)  # the antenna's is 9.6
    np.testing.assert_allclose(yaw_rates, 0.2, atol=1e-6)
