"""Plans as messages: frames, stamps, counts, and every field that msg/ has."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulate import CIRCLE, Motion, ms, one_sample

from alpamayo_ros import messages, resources
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.chain_of_causation import shipped_table
from alpamayo_ros.geometry import quaternion_to_rotation, yaw_to_rotation
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.safety.fallback import Fallback
from alpamayo_ros.safety.limits import Vehicle
from alpamayo_ros.safety.verdict import SafetyAction, SafetyVerdict, Violation, ViolationName
from alpamayo_ros.sources import SourceReport
from alpamayo_ros.status_messages import StatusContext, planned_status, rejected_status
from alpamayo_ros.types import (
    NS_PER_S,
    CriticalComponent,
    Plan,
    PlannerSample,
    Rejection,
    RejectionReason,
)

SAMPLE = one_sample(Motion(yaw_rate_rps=0.2, yaw_rad=2.5))


def fields_of(name: str) -> list[str]:
    """Field names in one of our .msg files, constants left out."""
    text = resources.resource("msg", f"{name}.msg").read_text()
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [re.split(r"\s+", line)[1] for line in lines if line and "=" not in line]


def make(msgtype: str, /, **fields: Any) -> Any:
    """A namespace, after checking the fields of our own types against msg/."""
    if msgtype.startswith("alpamayo_ros/msg/"):
        assert sorted(fields) == sorted(fields_of(msgtype.split("/")[-1])), msgtype
    return SimpleNamespace(msgtype=msgtype, **fields)


def planned(sample: PlannerSample) -> Plan:
    """The kinematic plan."""
    backend = create_backend("kinematic")
    backend.load()
    return backend.plan(sample)


PLAN = planned(SAMPLE)
ODOMETRY = messages.path_frame(SAMPLE, "base_link", in_odometry=True)
BASE = messages.path_frame(SAMPLE, "base_link", in_odometry=False)


def ns(time: Any) -> int:
    """A Time or Duration in nanoseconds."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def xyz(pose: Any) -> list[float]:
    """A Pose's position."""
    return [pose.position.x, pose.position.y, pose.position.z]


def xyzw(pose: Any) -> list[float]:
    """A Pose's quaternion."""
    return [getattr(pose.orientation, axis) for axis in "xyzw"]


def test_the_path_in_the_odometry_frame() -> None:
    """64 poses in the odometry's own frame_id; the vehicle on its circle passes through them.

    The planner lets the turn fade, so that only the first two poses are compared, to 5 mm: a
    yaw rate that fades with 3 s has lost 2 mm by then.
    """
    path = messages.path(make, PLAN, ODOMETRY)
    assert path.header.frame_id == SAMPLE.odometry_frame_id == "odom"
    assert {p.header.frame_id for p in path.poses} == {"odom"}
    assert len(path.poses) == 64
    motion = Motion(yaw_rate_rps=0.2, yaw_rad=2.5)
    for k in range(2):
        exact = motion.pose(SAMPLE.t0_ns + (k + 1) * ms(100))
        assert xyz(path.poses[k].pose) == pytest.approx(exact.position_m.tolist(), abs=5e-3)
        turned = quaternion_to_rotation(xyzw(path.poses[k].pose))
        np.testing.assert_allclose(turned, quaternion_to_rotation(exact.quaternion_xyzw), atol=5e-3)


def test_the_path_in_the_base_frame() -> None:
    """The same poses as the rig at t0 sees them."""
    path = messages.path(make, PLAN, BASE)
    assert path.header.frame_id == "base_link"
    np.testing.assert_allclose([xyz(p.pose) for p in path.poses], PLAN.xyz_in_rig_t0, atol=1e-12)
    assert path.poses[0].pose.position.x == pytest.approx(1.0, abs=1e-3)  # 10 m/s for 0.1 s


def test_a_late_path_stands_where_the_data_were() -> None:
    """Both frames describe one path: base poses moved by the rig's pose at t0 are odometry's."""
    rig = SAMPLE.odometry_from_rig_t0
    base = np.array([xyz(p.pose) for p in messages.path(make, PLAN, BASE).poses])
    odom = np.array([xyz(p.pose) for p in messages.path(make, PLAN, ODOMETRY).poses])
    # 2e-9 m: float64 at 4e6 m, twice.
    np.testing.assert_allclose(base @ rig.rotation.T + rig.translation_m, odom, atol=2e-9)


def test_stamps_at_the_second() -> None:
    """t0 + 0.1 s carries into the seconds, and no nanosecond is lost."""
    plan = replace(PLAN, t0_ns=1_700_000_000_950_000_001)
    path = messages.path(make, plan, BASE)
    first = path.poses[0].header.stamp
    assert (first.sec, first.nanosec) == (1_700_000_001, 50_000_001)
    assert ns(path.header.stamp) == 1_700_000_000_950_000_001
    assert all(0 <= p.header.stamp.nanosec < NS_PER_S for p in path.poses)


def test_the_trajectory() -> None:
    """65 points from t0 itself: the rig's own pose, its speed, then the path with its motion."""
    trajectory = messages.trajectory(make, PLAN, ODOMETRY, sequence=7)
    assert len(trajectory.points) == 65
    assert (trajectory.sequence, trajectory.source, trajectory.rig_frame_id) == (
        7, "planner", "base_link",
    )  # fmt: skip
    first = trajectory.points[0]
    assert xyz(first.pose) == pytest.approx(SAMPLE.odometry_from_rig_t0.translation_m, abs=1e-9)
    assert ns(first.time_from_start) == 0 and ns(trajectory.points[64].time_from_start) == ms(6400)
    path = messages.path(make, PLAN, ODOMETRY)
    for point, pose in zip(trajectory.points[1:], path.poses):
        assert xyz(point.pose) == xyz(pose.pose) and xyzw(point.pose) == xyzw(pose.pose)


def test_speeds_accelerations_and_curvatures_belong_together() -> None:
    """Point k's acceleration leads to point k + 1's speed; the last repeats its neighbour's; yaw
    rate is curvature times speed. A braking plan, so that all differ."""
    plan = planned(replace(SAMPLE, acceleration_mps2=-2.0))
    points = messages.trajectory(make, plan, BASE, sequence=1).points
    speeds = [p.velocity_mps for p in points]
    assert speeds[0] == SAMPLE.speed_mps
    for k in range(64):
        assert speeds[k + 1] == pytest.approx(speeds[k] + 0.1 * points[k].acceleration_mps2)
        assert points[k].yaw_rate_rps == points[k].curvature_1pm * speeds[k]
    assert points[64].acceleration_mps2 == points[63].acceleration_mps2
    assert points[64].curvature_1pm == points[63].curvature_1pm
    assert points[0].acceleration_mps2 == pytest.approx(-2.0)


def test_candidates() -> None:
    """Each with 64 poses, and exactly the one that became the path is marked."""
    others = np.stack([PLAN.xyz_in_rig_t0 + [0, 1, 0], PLAN.xyz_in_rig_t0, -PLAN.xyz_in_rig_t0])
    rotations = np.stack([PLAN.rot_in_rig_t0] * 3)
    plan = replace(PLAN, candidates_xyz_in_rig_t0=others, candidates_rot_in_rig_t0=rotations)
    message = messages.candidates(make, plan, ODOMETRY)
    assert [c.chosen for c in message.candidates] == [False, True, False]
    assert [len(c.poses) for c in message.candidates] == [64] * 3
    path = messages.path(make, plan, ODOMETRY)
    assert xyz(message.candidates[1].poses[9]) == xyz(path.poses[9].pose)


def test_exactly_one_candidate_is_chosen() -> None:
    """The first of equal ones; of equal positions the one whose rotations fit; the nearest where
    none is equal; with 32 of them too."""
    turned = np.stack([PLAN.rot_in_rig_t0 @ yaw_to_rotation(0.1), *[PLAN.rot_in_rig_t0] * 2])
    same = np.stack([PLAN.xyz_in_rig_t0] * 3)
    for xyz, rot, chosen in (
        (same, np.stack([PLAN.rot_in_rig_t0] * 3), 0),
        (same, turned, 1),
        (same + [[[3.0, 0, 0]], [[2.0, 0, 0]], [[1.0, 0, 0]]], turned, 2),
        (np.concatenate([same] * 11)[:32], np.concatenate([turned] * 11)[:32], 1),
    ):
        plan = replace(PLAN, candidates_xyz_in_rig_t0=xyz, candidates_rot_in_rig_t0=rot)
        message = messages.candidates(make, plan, BASE)
        assert [k for k, c in enumerate(message.candidates) if c.chosen] == [chosen]


def test_quaternions_are_of_unit_length() -> None:
    """Also at half a turn from the odometry frame's axes, where a naive conversion divides by 0."""
    frame = PathFrame(
        "map", "base_link", replace(SAMPLE.odometry_from_rig_t0, rotation=yaw_to_rotation(np.pi))
    )
    for pose in messages.path(make, PLAN, frame).poses:
        assert np.linalg.norm(xyzw(pose.pose)) == pytest.approx(1.0, abs=1e-12)


def test_reasoning() -> None:
    """The text alone, and with who wrote it and what it comes down to."""
    assert messages.reasoning(make, PLAN).data == PLAN.reasoning
    trace = messages.reasoning_trace(make, PLAN, ODOMETRY)
    assert (trace.text, trace.source) == (PLAN.reasoning, "trajectory")
    assert trace.longitudinal_decision == PLAN.decisions.longitudinal
    assert ns(trace.header.stamp) == PLAN.t0_ns
    assert trace.critical_components == []


def test_critical_components() -> None:
    """In the order of the text, each with its category."""
    parts = (CriticalComponent("signals", "red light"), CriticalComponent("objects", "lead car"))
    trace = messages.reasoning_trace(make, replace(PLAN, critical_components=parts), BASE)
    assert [(part.category, part.text) for part in trace.critical_components] == [
        ("signals", "red light"),
        ("objects", "lead car"),
    ]


def test_the_categories_have_constants() -> None:
    """Those of the shipped table, in CriticalComponent.msg."""
    text = resources.resource("msg", "CriticalComponent.msg").read_text()
    constants = tuple(re.findall(r"^string [A-Z_]+ = (\w+)$", text, re.MULTILINE))
    assert constants == shipped_table().categories


CONTEXT = StatusContext(
    now_ns=SAMPLE.t0_ns + ms(250),
    sources=(SourceReport("front_wide", "/c", 10.0, 5.0, 30.0, 100, 2, "late"),),
    plans_published=3,
    ticks_rejected=2,
    samples_dropped=1,
    navigation="turn left",
)


def test_the_status_of_a_plan() -> None:
    """Due, t0, age against the node's clock, stages and sources."""
    status = planned_status(
        make, PLAN, SAMPLE, SAMPLE.t0_ns - ms(3), 7, "Apache-2.0", 4.5, 1.25,
        {"decode": 2.0, "vision": 3, "unicycle": 0.5, "model": 1}, CONTEXT,
    )  # fmt: skip
    assert (status.outcome, status.sequence, status.reason) == (0, 7, "")
    assert ns(status.t0) == SAMPLE.t0_ns and ns(status.due) == SAMPLE.t0_ns - ms(3)
    assert ns(status.header.stamp) == CONTEXT.now_ns and status.data_age_ms == 250.0
    assert (status.latency_ms, status.camera_skew_ms, status.extrapolated_ms) == (4.5, 1.25, 0.0)
    assert [(s.stage, s.duration_ms) for s in status.stages] == [
        ("decode", 2.0), ("vision", 3.0), ("unicycle", 0.5), ("model", 1.0),
    ]  # fmt: skip
    assert status.detail == ""
    noted = planned_status(
        make, replace(PLAN, notes=("off by 1 %", "2 of 3")), SAMPLE, 0, 7, "", 4.5, 1.25, {},
        replace(CONTEXT, notice="a text was refused"),
    )  # fmt: skip
    assert noted.detail == "a text was refused; off by 1 %; 2 of 3"
    assert (status.plans_published, status.ticks_rejected, status.samples_dropped) == (3, 2, 1)
    assert (status.sources[0].name, status.sources[0].rejected) == ("front_wide", 2)


def test_the_status_of_a_rejection() -> None:
    """What, where, by how much, and the sentence; t0 is zero."""
    rejection = Rejection(
        RejectionReason.CAMERA_MISSING, "front_tele", 260.0, 250.0, "ms", CIRCLE.start_ns, "late"
    )
    status = rejected_status(make, rejection, "kinematic", "Apache-2.0", CONTEXT)
    assert (status.outcome, status.reason, status.source) == (1, "camera_missing", "front_tele")
    assert (status.value, status.limit, status.unit) == (260.0, 250.0, "ms")
    assert status.detail == "camera_missing [front_tele]: 260 ms (limit 250 ms); late"
    assert ns(status.t0) == 0 and ns(status.due) == CIRCLE.start_ns
    bare = Rejection(RejectionReason.CLOCK_JUMP, "clock")
    status = rejected_status(make, bare, "kinematic", "Apache-2.0", CONTEXT)
    assert status.detail == "clock_jump [clock]" and np.isnan(status.value)


def test_the_safety_stage_in_a_status() -> None:
    """What was done, every violation with its numbers, and why the vehicle is being stopped."""
    violation = Violation(ViolationName.LATERAL, 5.5, 5.0, "m/s^2")
    verdict = SafetyVerdict(True, (violation,), SafetyAction.REPAIRED)
    context = replace(CONTEXT, verdict=verdict, fallback_reason="camera_missing [front_wide]")
    status = planned_status(
        make, PLAN, SAMPLE, SAMPLE.t0_ns, 7, "Apache-2.0", 4.5, 1.25, {}, context
    )
    assert status.safety_action == "repaired"
    (said,) = status.safety_violations
    assert (said.name, said.value, said.limit, said.unit) == ("lateral", 5.5, 5.0, "m/s^2")
    assert status.fallback_reason == "camera_missing [front_wide]"
    bare = Rejection(RejectionReason.CLOCK_JUMP, "clock")
    status = rejected_status(make, bare, "kinematic", "Apache-2.0", CONTEXT)
    assert (status.safety_action, status.safety_violations, status.fallback_reason) == ("", [], "")


def test_a_fallback_as_messages() -> None:
    """The trajectory has its reason; the path ends where the vehicle stands, stamped when."""
    pose = CIRCLE.pose(SAMPLE.t0_ns)
    plan, points = Fallback(Vehicle()).plan(pose, 0.0, "camera_missing", "kinematic")
    trajectory = messages.trajectory(make, plan, BASE, 3, "camera_missing")
    assert (trajectory.source, trajectory.reason) == ("fallback", "camera_missing")
    path = messages.path(make, plan, BASE, points)
    stamps = [ns(entry.header.stamp) for entry in path.poses]
    assert len(stamps) == 64 and np.all(np.diff(stamps) >= ms(100))
    assert stamps[-1] - plan.t0_ns == round(points.times_s[-1] * 1e9) > 6_400_000_000
    end = path.poses[-1].pose.position
    assert (end.x, end.y) == pytest.approx(tuple(points.xyz_in_rig_t0[-1, :2]))


def test_a_notice_beside_the_tick() -> None:
    """What is wrong although the tick was planned; after the reason where it was refused."""
    context = replace(CONTEXT, notice="navigation text too long")
    status = planned_status(
        make, PLAN, SAMPLE, SAMPLE.t0_ns, 7, "Apache-2.0", 4.5, 1.25, {}, context
    )
    assert status.detail == "navigation text too long"
    bare = Rejection(RejectionReason.CLOCK_JUMP, "clock")
    status = rejected_status(make, bare, "kinematic", "Apache-2.0", context)
    assert status.detail == "clock_jump [clock]; navigation text too long"
