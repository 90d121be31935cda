"""Metrics against the reference's figures, baselines against closed forms, a real drive scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alpamayo_ros.evaluation import baselines
from alpamayo_ros.evaluation.metrics import HORIZONS, ade, fde, min_ade, waypoint_times_s
from alpamayo_ros.evaluation.scoring import Scorer
from alpamayo_ros.types import NS_PER_S, EgoPose

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "golden" / "parts_metrics.npz"
KITTI = SHARED / "data" / "kitti06"
T0 = 1_700_000_000 * NS_PER_S


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
def test_the_reference_s_figures() -> None:
    golden = np.load(GOLDEN)
    predicted, true = golden["pred"], golden["gt"]  # (2, 1, 6, 64, 3), (2, 64, 3)
    np.testing.assert_allclose(ade(predicted, true[:, None, None]), golden["ade"], rtol=1e-5)
    samples = predicted[:, 0]
    np.testing.assert_allclose(min_ade(samples, true), golden["minade__min_ade"], rtol=1e-5)
    for seconds in (0.5, 1.0, 3.0, 5.0):
        np.testing.assert_allclose(
            min_ade(samples, true, round(seconds * 10)),
            golden[f"minade__min_ade__by_t={seconds}"],
            rtol=1e-5,
        )


def test_horizons() -> None:
    """ADE@h averages the waypoints up to h seconds, FDE@h is the one at h; z does not count."""
    true = np.zeros((64, 3))
    planned = np.stack([waypoint_times_s(), 0 * waypoint_times_s(), np.full(64, 9.0)], axis=1)
    for name, waypoints in HORIZONS.items():
        assert fde(planned, true, waypoints) == pytest.approx(float(name))
        assert ade(planned, true, waypoints) == pytest.approx((0.1 + float(name)) / 2)


def test_turn_rate() -> None:
    """A quarter circle in pi/2 / 0.5 s, and a straight line where the yaw rate is zero."""
    arc = baselines.constant_turn_rate(10.0, 0.5)
    radius, angle = 20.0, 0.5 * waypoint_times_s()
    np.testing.assert_allclose(arc[:, 0], radius * np.sin(angle), atol=1e-9)
    np.testing.assert_allclose(arc[:, 1], radius * (1 - np.cos(angle)), atol=1e-9)
    straight = baselines.constant_turn_rate(10.0, 0.0)
    np.testing.assert_allclose(straight, baselines.constant_velocity(10.0), atol=1e-12)


def circle(seconds: float = 12.0, rate_hz: float = 50.0, *, utm: float = 4e6) -> list[EgoPose]:
    """10 m/s on a circle of 20 m, left, at the coordinates of a map."""
    poses = []
    for k in range(int(seconds * rate_hz) + 1):
        t = k / rate_hz
        yaw = 0.5 * t + 1.0
        position = [utm + 20 * np.sin(yaw), utm - 20 * np.cos(yaw), 0.0]
        quaternion = [0, 0, np.sin(yaw / 2), np.cos(yaw / 2)]
        stamp = T0 + round(t * NS_PER_S)
        poses.append(EgoPose(stamp, np.array(position), np.array(quaternion), 10.0, 0.5))
    return poses


def scorer_of(poses: list[EgoPose]) -> Scorer:
    scorer = Scorer()
    for pose in reversed(poses):  # any order will do
        scorer.add_pose(pose)
    return scorer


def test_a_perfect_plan_scores_zero_between_stamps_and_far_from_the_origin() -> None:
    """t0 lies between poses; at UTM coordinates float32 would be 0.25 m off."""
    scorer = scorer_of(circle())
    for t0 in (T0 + 1_013_000_000, T0 + 3_000_000_000):
        scorer.add_plan(t0, baselines.constant_turn_rate(10.0, 0.5))
    scores = scorer.scores()
    assert (scores["scored"], scores["unscored"]) == (2, 0)
    assert scores["ade_m"]["planner"]["6.4"] < 1e-3
    assert scores["fde_m"]["planner"]["6.4"] < 1e-3
    chord = np.linalg.norm(baselines.constant_turn_rate(10.0, 0.5)[-1])
    assert scores["fde_m"]["stand_still"]["6.4"] == pytest.approx(chord, abs=1e-3)
    assert scores["ade_m"]["constant_velocity"]["1"] == pytest.approx(0.9645, abs=0.05)
    json.dumps(scores, allow_nan=False)


def test_only_a_whole_future_is_scored() -> None:
    """12 s of odometry cover t0 up to 5.6 s, and not before the first pose."""
    scorer = scorer_of(circle())
    for t in (-0.1, 0.0, 5.6, 5.7):
        scorer.add_plan(T0 + round(t * NS_PER_S), baselines.stand_still())
    assert (scorer.scores()["scored"], scorer.scores()["unscored"]) == (2, 2)
    assert scorer.true_future(T0 + 6 * NS_PER_S) is None
    future = scorer.true_future(T0)
    assert future is not None and future.shape == (64, 3)


@pytest.mark.parametrize("fault", ["gap", "jump", "frame"])
def test_a_future_across_a_break_is_not_scored(fault: str) -> None:
    """Odometry lost for 0.6 s, reset to another place, or in another frame from 8 s on."""
    poses = circle()
    if fault == "gap":
        poses = poses[:400] + poses[430:]
    elif fault == "jump":
        moved = [replace(p, position_m=p.position_m + 50.0) for p in poses[400:]]
        poses = poses[:400] + moved
    else:
        poses = poses[:400] + [replace(p, frame_id="map") for p in poses[400:]]
    scorer = scorer_of(poses)
    for t in (1.0, 1.5, 1.7, 3.0):  # 1.5 + 6.4 = 7.9 s is the last before the break
        scorer.add_plan(T0 + round(t * NS_PER_S), baselines.constant_turn_rate(10.0, 0.5))
    scores = scorer.scores()
    assert (scores["scored"], scores["unscored"]) == (2, 2)
    assert scores["ade_m"]["planner"]["6.4"] < 1e-3


@pytest.mark.parametrize("poses", [[], circle()[:1]])
def test_nothing_to_score(poses: list[EgoPose]) -> None:
    """No NaN reaches a report."""
    scorer = scorer_of(poses)
    scorer.add_plan(T0, baselines.stand_still())
    scores = scorer.scores()
    assert scores["ade_m"]["planner"] == {"1": None, "2": None, "4": None, "6.4": None}
    json.dumps(scores, allow_nan=False)
    with pytest.raises(ValueError, match=r"\(63, 3\)"):
        scorer.add_plan(T0, np.zeros((63, 3)))


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"no {KITTI}")
def test_kitti06_constant_velocity() -> None:
    """Two figures computed independently, at every image stamp from 1.6 s with a full future."""
    from alpamayo_ros.bags.reader import BagReader

    scorer, stamps = Scorer(), []
    with BagReader(KITTI) as bag:
        for topic, _, message in bag.messages(["/odom", "/camera/front_wide/image/compressed"]):
            stamp = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
            if topic != "/odom":
                stamps.append(stamp)
                continue
            p, q = message.pose.pose.position, message.pose.pose.orientation
            twist = message.twist.twist
            scorer.add_pose(
                EgoPose(
                    stamp,
                    np.array([p.x, p.y, p.z]),
                    np.array([q.x, q.y, q.z, q.w]),
                    twist.linear.x,
                    twist.angular.z,
                )
            )
    for stamp in stamps:
        if stamp - stamps[0] >= 1.6 * NS_PER_S:
            scorer.add_plan(stamp, baselines.stand_still())
    scores = scorer.scores()
    assert (scores["scored"], scores["unscored"]) == (35, 0)
    assert scores["ade_m"]["constant_velocity"]["2"] == pytest.approx(0.066, abs=0.01)
    assert scores["ade_m"]["constant_velocity"]["6.4"] == pytest.approx(0.546, abs=0.03)
    assert scores["ade_m"]["planner"] == scores["ade_m"]["stand_still"]
