"""The controller's contract: what it does when plans or odometry cease, or odometry lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulate import Motion, ms

from alpamayo_ros import action_space
from alpamayo_ros.control.follower import ControlState, Follower
from alpamayo_ros.control.reference import reference_from_plan
from alpamayo_ros.control.watch import Watch
from alpamayo_ros.geometry import pose_from_quaternion
from alpamayo_ros.types import Decisions, Plan, ReasoningSource

CURVE = Motion(10.0, 0.5, 0.0, (0.0, 0.0, 0.0))
T0 = CURVE.start_ns + ms(1_000)
STEP = ms(20)


def watching() -> Watch:
    """A second of odometry in a curve of 20 m, and a plan on through it."""
    watch = Watch(Follower())
    for stamp in range(T0 - ms(1_000), T0 + 1, STEP):
        watch.hear(CURVE.pose(stamp))
    action = np.tile((0.0, 0.05), (64, 1))
    xyz, rot = action_space.integrate(action, 10.0)
    plan = Plan(T0, xyz, rot, action, 10.0, xyz[None], rot[None], "", ReasoningSource.TRAJECTORY,
                Decisions("none", "none"), "test")  # fmt: skip
    pose = CURVE.pose(T0)
    rig = pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
    watch.follower.follow(reference_from_plan(plan, rig))
    return watch


def test_it_follows_what_is_fresh() -> None:
    """Odometry and plan of now: tracked, for no reason to stop."""
    command, reason = watching().command(T0 + STEP)
    assert command.state is ControlState.TRACKING and reason == ""
    assert command.curvature_1pm == pytest.approx(0.05, abs=0.005)


def test_without_odometry_it_brakes_along_the_curve() -> None:
    """From 0.3 s of silence on; by its own commands it stays in the bend, which straight on it
    would have left."""
    watch = watching()
    commands = [watch.command(T0 + k * STEP) for k in range(1, 60)]
    blind = [(command, reason) for command, reason in commands if reason]
    assert len(commands) - len(blind) == 15 and "odometry is 0.32 s old" in blind[0][1]
    assert {command.acceleration_mps2 for command, _ in blind} == {-4.0}
    assert all(0.03 < command.curvature_1pm < 0.07 for command, _ in blind[:30])


def test_poses_that_stand_still_are_not_believed() -> None:
    """Their speed is: noticed within 0.3 s, braked for, and steered by dead reckoning until poses
    and speeds agree again in motion."""
    watch, still = watching(), CURVE.pose(T0)
    reasons = []
    for k in range(1, 50):
        now_ns = T0 + k * STEP
        true = CURVE.pose(now_ns)
        stuck = replace(true, position_m=still.position_m, quaternion_xyzw=still.quaternion_xyzw)
        watch.hear(stuck)
        command, reason = watch.command(now_ns)
        reasons.append(reason)
        if reason:
            assert command.acceleration_mps2 == -4.0
            # Seen from the last pose the bend would lie behind: the wheel would go to its stop.
            assert 0.0 < command.curvature_1pm < 0.1
    assert 3 <= reasons.index(next(filter(None, reasons))) <= 15
    for k in range(50, 80):
        watch.hear(CURVE.pose(T0 + k * STEP))
    assert watch.command(T0 + 80 * STEP)[1] == "the newest trajectory is 1.60 s old"


def test_a_clock_set_back_forgets() -> None:
    """Nothing is heard, and nothing followed."""
    watch = watching()
    watch.forget()
    assert not watch.hears
    watch.hear(CURVE.pose(T0 - ms(3_000)))
    assert watch.command(T0 - ms(3_000))[0].state is ControlState.IDLE
