"""Odometry without a twist (`odometry_twist: poses`): in the pipeline, a recording, the command
line, the controller."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulate import (
    CIRCLE,
    START_NS,
    Message,
    Motion,
    driven,
    good_drive,
    ms,
    pipeline,
    play,
    unmoved,
)
from simulate import rejections as refused
from simulate import selections as selected

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bags.context import DriveContext, read_context
from alpamayo_ros.bags.poses import with_motion
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import ReplayResult
from alpamayo_ros.bags.report import report
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.buffers import PoseBuffer
from alpamayo_ros.commands.replay import add_planner_arguments, planner_settings, print_report
from alpamayo_ros.control.follower import Follower, FollowerSettings
from alpamayo_ros.control.watch import Watch
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.motion import MotionLimits, check_speed, motion_at
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.sampling import SamplingLimits, Selection
from alpamayo_ros.types import NS_PER_S, EgoPose, Rejection, RejectionReason
from alpamayo_ros.worker import run

KITTI = Path(__file__).resolve().parents[2] / "shared" / "data" / "kitti06"
CAMERA = ("front_wide",)
BY_POSES = SamplingLimits(motion_by_poses=True)
FRONT = "/camera/front_wide/image/compressed"
INCONSISTENT = RejectionReason.ODOMETRY_INCONSISTENT


def poses_alone(messages: Iterable[Message], change: Callable[[EgoPose], EgoPose]) -> list[Message]:
    """A drive whose odometry has no motion; its poses are changed."""
    return [
        replace(m, payload=change(unmoved(m.payload))) if isinstance(m.payload, EgoPose) else m
        for m in messages
    ]


def one_camera(**limits: Any) -> Pipeline:
    """Of the pipeline by poses: as good as four, and sooner done."""
    return pipeline(cameras=CAMERA, limits=replace(BY_POSES, **limits))


def heard(change: Callable[[EgoPose], EgoPose], seconds: float = 4.0, **drive: Any) -> list[Any]:
    """What the pipeline makes of such a drive."""
    messages = good_drive(seconds, cameras=CAMERA, **drive)
    return play(one_camera(), poses_alone(messages, change))


def test_a_drive_is_planned_on() -> None:
    """As many selections as with the twist, with its speed, and no acceleration."""
    made = selected(heard(lambda pose: pose, 3.0))
    whole = play(pipeline(cameras=CAMERA), good_drive(3.0, cameras=CAMERA))
    assert len(made) == len(selected(whole)) >= 13
    for selection in made:
        assert selection.speed_mps == pytest.approx(10.0, abs=0.01)
        assert selection.yaw_rate_rps == pytest.approx(0.2, abs=1e-5)
        assert selection.acceleration_mps2 == pytest.approx(0.0, abs=0.01)


def test_a_jump_is_no_speed() -> None:
    """100 m aside, in another frame: refused once, planned again after 1.5 s, at the true speed."""
    at_ns = START_NS + ms(2_500)

    def leaping(pose: EgoPose) -> EgoPose:
        if pose.stamp_ns < at_ns:
            return pose
        return replace(pose, position_m=pose.position_m + np.array([0, 100, 0]), frame_id="map")

    told = heard(leaping, 4.6)
    assert RejectionReason.ODOMETRY_JUMP in {tick.reason for tick in refused(told)}
    assert INCONSISTENT not in {tick.reason for tick in refused(told)}
    after = [s for s in selected(told) if s.t0_ns > at_ns]
    assert after and min(s.t0_ns for s in after) < at_ns + ms(1_700)
    assert all(s.speed_mps == pytest.approx(10.0, abs=0.01) for s in selected(told))


def test_time_that_runs_backwards_starts_anew() -> None:
    """Three seconds back, to the same places: no slope between what was and what is."""
    messages = good_drive(3.0, cameras=CAMERA)
    again = [replace(m, arrival_ns=m.arrival_ns + ms(3_000)) for m in messages]
    told = play(
        one_camera(),
        poses_alone([*messages, *again], lambda pose: pose),
        clock=lambda now_ns: now_ns - (now_ns >= START_NS + ms(3_000)) * ms(3_000),
    )
    made = selected(told)
    assert len(made) >= 25
    assert all(s.speed_mps == pytest.approx(10.0, abs=0.01) for s in made)


@pytest.mark.parametrize("speed_mps", (4.0, 10.0))
def test_poses_that_stick_are_refused(speed_mps: float) -> None:
    """Within 0.35 s, and until the drive goes on: no vehicle stops so."""
    stuck_ns, motion = START_NS + ms(2_500), Motion(speed_mps, 0.1)

    def stuck(pose: EgoPose) -> EgoPose:
        last = motion.pose(min(pose.stamp_ns, stuck_ns))
        return replace(pose, position_m=last.position_m, quaternion_xyzw=last.quaternion_xyzw)

    told = heard(stuck, 4.4, motion=motion)
    assert max(s.t0_ns for s in selected(told)) <= stuck_ns + ms(250)
    why = refused(told, stuck_ns + ms(400))
    assert len(why) >= 13 and {tick.reason for tick in why} == {INCONSISTENT}
    assert "are they stuck" in why[0].detail


def test_a_correction_is_no_speed() -> None:
    """Localisation set right by half a metre: refused from its next tick on, until it is out of
    the window; at the first it may pass for 1.5 m/s, as braking at 10 m/s^2 would."""
    at_ns = START_NS + ms(2_500)

    def corrected(pose: EgoPose) -> EgoPose:
        late = float(pose.stamp_ns >= at_ns)
        return replace(pose, position_m=pose.position_m + late * np.array([0.4, 0.4, 0.0]))

    told = heard(corrected, 5.0)
    assert INCONSISTENT in {tick.reason for tick in refused(told)}
    assert all(s.speed_mps == pytest.approx(10.0, abs=1.5) for s in selected(told))
    assert selected(told)[-1].t0_ns > START_NS + ms(4_700)


def test_hard_braking_is_planned_on() -> None:
    """9 m/s^2 and a centimetre of noise: what a road vehicle can."""
    rng, start_ns = np.random.default_rng(2), START_NS + ms(2_500)

    def braking(pose: EgoPose) -> EgoPose:
        since_s = (pose.stamp_ns - START_NS) / NS_PER_S
        braked_s = min(max((pose.stamp_ns - start_ns) / NS_PER_S, 0.0), 15.0 / 9.0)
        until_s = min(since_s, 2.5)
        way_m = 15.0 * until_s + 15.0 * braked_s - 4.5 * braked_s**2
        position = np.array([way_m, 0.0, 0.0]) + rng.normal(0.0, 0.01, 3)
        return replace(pose, position_m=position, quaternion_xyzw=np.array([0.0, 0.0, 0.0, 1.0]))

    told = heard(braking, 5.0)
    assert INCONSISTENT not in {tick.reason for tick in refused(told)}
    assert abs(selected(told)[-1].speed_mps) < 0.2


def test_poses_too_far_apart_for_a_speed() -> None:
    """Where the gap is allowed for interpolation all the same: a refusal, never NaN."""
    messages = good_drive(6.0, odometry_hz=1.5, cameras=CAMERA)
    slow = one_camera(odometry_gap_ns=ms(1_000))
    told = play(slow, poses_alone(messages, lambda pose: pose))
    assert not selected(told)
    assert any("too far apart" in tick.detail for tick in refused(told))


# ---- recordings, the command line, the controller --------------------------------------------


def test_a_recording_s_poses() -> None:
    """In any order, over a jump and a silence: all finite, and none of them a slope across."""
    poses = driven(CIRCLE.pose, 50.0, 2.0)
    away = np.array([300.0, 0.0, 0.0])
    poses[30:] = [replace(p, position_m=p.position_m + away) for p in poses[30:]]
    del poses[60:90]  # 0.6 s
    made = list(with_motion(reversed(poses)))
    assert [p.stamp_ns for p in made] == [p.stamp_ns for p in poses]
    np.testing.assert_allclose([p.speed_mps for p in made], 10.0, atol=0.1)
    alone = list(with_motion(poses[:1]))
    assert [(p.speed_mps, p.yaw_rate_rps) for p in alone] == [(0.0, 0.0)]


def test_the_refusal_names_the_remedy() -> None:
    """Where the twist is never filled, by what the command line takes; not where it is wrong."""
    poses = [CIRCLE.pose(START_NS + k * ms(20)) for k in range(16)]
    empty = [replace(pose, speed_mps=0.0, yaw_rate_rps=0.0) for pose in poses]
    why = check_speed(empty, MotionLimits())
    assert why is not None and "set odometry_twist to poses" in why.detail
    assert "--odometry-twist poses" in why.detail
    why = check_speed([replace(pose, speed_mps=3.0) for pose in poses], MotionLimits())
    assert why is not None and "odometry_twist" not in why.detail


def test_a_replay_without_a_plan_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """The first refusal of each reason is in the report, and on the terminal."""
    again = Rejection(INCONSISTENT, "odometry", detail="once more")
    first = Rejection(INCONSISTENT, "odometry", detail="set odometry_twist to poses")
    result = ReplayResult(DriveContext(), rejections=[first, again])
    content = report(result, load_manifest("kinematic"), Path("slam"))
    print_report(content, Path("out"))
    told = capsys.readouterr().out
    assert "  first odometry_inconsistent [odometry]; set odometry_twist to poses\n" in told
    assert "once more" not in told


def test_how_it_is_set(tmp_path: Path) -> None:
    """By parameter, in a file, on the command line, which has the last word; never by itself."""
    assert not settings_from({}).pipeline.limits.motion_by_poses
    assert settings_from({"odometry_twist": "poses"}).pipeline.limits.motion_by_poses
    parser = argparse.ArgumentParser()
    add_planner_arguments(parser)
    file = tmp_path / "params.yaml"
    file.write_text("/**: {ros__parameters: {odometry_twist: poses}}")
    for options, by_poses in (
        ([], False),
        (["--odometry-twist", "poses"], True),
        (["--params", str(file)], True),
        (["--params", str(file), "--odometry-twist", "message"], False),
    ):
        settings = planner_settings(parser.parse_args(options))
        assert settings.pipeline.limits.motion_by_poses is by_poses


def test_the_controller_hears_it() -> None:
    """Poses alone are followed at their speed; stuck ones are braked for."""
    watch = Watch(Follower(), motion_by_poses=True)
    reasons = []
    for k in range(60):
        now_ns, pose = START_NS + k * ms(20), CIRCLE.pose(START_NS + min(k, 40) * ms(20))
        watch.hear(replace(unmoved(pose), stamp_ns=now_ns))
        assert watch.hears == (k >= 5)  # after 0.1 s
        reasons.append(watch.command(now_ns)[1] if watch.hears else "")
    assert not any(reasons[:41])
    assert all("are they stuck" in reason for reason in reasons[48:])


# ---- a real drive ----------------------------------------------------------------------------


def bare(time_s: float, x_m: float) -> EgoPose:
    """A pose on the x axis, without its motion."""
    position, quaternion = np.array([x_m, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])
    return EgoPose(round(time_s * NS_PER_S), position, quaternion, np.nan, np.nan)


@pytest.mark.parametrize("stamped_s", [3600.0, -5.0])
def test_the_controller_follows_stamps_that_step(stamped_s: float) -> None:
    """One stamp an hour ahead, then right ones; or a clock that is set back: heard all the same."""
    watch = Watch(Follower(FollowerSettings()), motion_by_poses=True)
    for k in range(150):
        is_off = k == 100 if stamped_s > 0 else k >= 100
        watch.hear(bare(1000.0 + 0.02 * k + stamped_s * is_off, 0.2 * k))
    newest = watch._recent[-1]
    assert newest.stamp_ns == round((1002.98 + min(stamped_s, 0.0)) * NS_PER_S)
    assert newest.speed_mps == pytest.approx(10.0)


@pytest.mark.parametrize("rate_hz", [45, 60])
def test_the_newest_pose_counts_at_any_rate(rate_hz: int) -> None:
    """1.5 m ahead of the others it is doubted, however many are in the check: its speed is used."""
    for seed in range(40):
        count = round(2.5 * rate_hz)
        off = np.random.default_rng(seed).uniform(-0.1, 0.1, count)
        times_s = 1000.0 + (np.arange(count) + off) / rate_hz
        buffer = PoseBuffer(3 * NS_PER_S)
        for k, time_s in enumerate(times_s):
            buffer.add(bare(time_s, 10.0 * (time_s - 1000.0) + 1.5 * (k == count - 1)))
        newest = buffer.newest
        assert newest is not None
        found = motion_at(buffer, newest.stamp_ns, MotionLimits(motion_by_poses=True), 0)
        assert isinstance(found, Rejection)


def kitti(target: Path) -> Path:
    """KITTI's first 2 s of one camera, their odometry and futures, and on /slam its poses alone."""
    with BagReader(KITTI) as bag, BagWriter(target) as writer:
        for topic, source in ((FRONT, FRONT), ("/odom", "/odom"), ("/slam", "/odom")):
            writer.add_topic(topic, bag.topics[source].type)
        for topic, log_ns, message in bag.messages(
            ["/odom", FRONT], stop_ns=bag.start_ns + ms(9_000)
        ):
            if topic == "/odom" or log_ns < bag.start_ns + ms(2_200):
                writer.write(topic, log_ns, message)
            if topic == "/odom":
                message.twist.twist.linear.x = message.twist.twist.angular.z = 0.0
                writer.write("/slam", log_ns, message)
    return target


def scored(path: Path, **parameters: Any) -> tuple[dict[str, Any], list[Rejection]]:
    """What the kinematic planner scores on a bag, as in a replay, and what was refused."""
    inputs = {"camera_names": ["front_wide"], "camera_topics": [FRONT], **parameters}
    settings, why = settings_from(inputs), []
    backend = create_backend("kinematic")
    backend.load()
    with BagReader(path) as bag:
        context = read_context(bag, settings)
        for tick in Ticks(bag, settings, context).all():
            if not isinstance(tick, Selection):
                why.append(tick)
                continue
            plan = run(backend, tick).plan
            assert plan is not None
            context.scorer.add_plan(tick.t0_ns, plan.xyz_in_rig_t0)
    return context.scorer.scores(), why


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"no {KITTI}")
def test_a_real_drive_without_its_twist(tmp_path: Path) -> None:
    """Planned on and scored as with it. By poses the speed is right to some 0.05 m/s and the
    acceleration to 0.1 m/s^2: on the average of all waypoints 0.04 m until 1 s, 0.4 m until 4 s."""
    bag = kitti(tmp_path / "drive")
    with_it, refusals = scored(bag)
    by_poses, refusals_by_poses = scored(bag, odometry_topic="/slam", odometry_twist="poses")
    assert by_poses["scored"] == with_it["scored"] >= 5
    assert [str(why) for why in refusals_by_poses] == [str(why) for why in refusals]
    for planner in ("planner", "constant_velocity"):
        one, other = by_poses["ade_m"][planner], with_it["ade_m"][planner]
        assert one["1"] == pytest.approx(other["1"], abs=0.04)
        assert one["4"] == pytest.approx(other["4"], abs=0.4)
    by_message, refusals = scored(bag, odometry_topic="/slam")
    assert by_message["scored"] == 0
    assert "set odometry_twist to poses" in refusals[-1].detail
