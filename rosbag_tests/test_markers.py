"""~/markers of plans: what is drawn, where, and that nothing old stays."""

from __future__ import annotations

import numpy as np
import pytest
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros import action_space, geometry
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.ros.markers import PlanMarkers
from alpamayo_ros.types import (
    Decisions,
    Plan,
    Pose3,
    ReasoningSource,
    Rejection,
    RejectionReason,
)

T0_NS = 5_300_000_000
FRAME = PathFrame(
    "odom", "base_link", Pose3(np.array([100.0, 50.0, 2.0]), geometry.yaw_to_rotation(np.pi / 2))
)


def plan(*curvatures: float) -> Plan:
    """10 m/s straight on, with a candidate for each curvature, given in any order."""
    paths = [action_space.integrate([(0.0, c)] * 64, 10.0) for c in (0.0, *curvatures)]
    xyz, rot = paths[0]
    return Plan(
        T0_NS, xyz, rot, np.zeros((64, 2)), 10.0,
        np.array([p[0] for p in paths]), np.array([p[1] for p in paths]),
        "Keep the lane.", ReasoningSource.MODEL, Decisions("a", "b"), "test",
    )  # fmt: skip


def by_name(array: MarkerArray) -> dict[tuple[str, int], Marker]:
    return {(m.ns, m.id): m for m in array.markers}


def test_plan_stays_and_footprint_follows() -> None:
    """Stamped t0; the ribbon is 1.8 m wide around the path in odom, the box follows base_link."""
    drawn = by_name(PlanMarkers().of_plan(plan(), FRAME))
    assert {(m.header.stamp.sec, m.header.stamp.nanosec) for m in drawn.values()} == {
        (5, 300000000)
    }
    ribbon, box, text = drawn["path", 0], drawn["ego", 0], drawn["reasoning", 0]
    assert (ribbon.header.frame_id, ribbon.frame_locked) == ("odom", False)
    assert (box.header.frame_id, box.frame_locked) == ("base_link", True)
    assert text.text == "Keep the lane."
    points = np.array([(p.x, p.y, p.z) for p in ribbon.points])
    assert len(points) == 64 * 6
    # Ahead is odom's y after a quarter turn to the left.
    assert (points[:, 0].min(), points[:, 0].max()) == pytest.approx((99.1, 100.9), abs=1e-6)
    assert (points[:, 1].min(), points[:, 1].max()) == pytest.approx((50.0, 114.0), abs=1e-6)
    assert (text.pose.position.x, text.pose.position.y) == (100.0, 50.0)
    assert all(m.lifetime.nanosec == 500_000_000 for m in drawn.values() if m.action == Marker.ADD)


def test_candidates_by_rank_and_none_left_behind() -> None:
    """The nearest to the plan comes first and darkest; fewer candidates delete the rest."""
    markers = PlanMarkers()
    drawn = by_name(markers.of_plan(plan(0.03, 0.01, -0.02), FRAME))
    lines = [drawn["candidates", rank] for rank in range(3)]
    off = [abs(line.points[-1].x - 100.0) for line in lines]
    assert off == sorted(off) and off[0] > 1.0
    light = [line.color.r + line.color.g + line.color.b for line in lines]
    assert light == sorted(light)
    after = by_name(markers.of_plan(plan(0.01), FRAME))
    actions = [after["candidates", rank].action for rank in range(3)]
    assert actions == [Marker.ADD, Marker.DELETE, Marker.DELETE]
    assert ("candidates", 1) not in by_name(markers.of_plan(plan(0.01), FRAME))


def test_refusal_and_the_end_of_it() -> None:
    markers = PlanMarkers()
    why = Rejection(RejectionReason.CAMERA_MISSING, "front_wide", due_ns=T0_NS)
    (text,) = markers.of_rejection(why, "base_link").markers
    assert text.text == "no plan: camera_missing [front_wide]"
    assert (text.ns, text.header.frame_id, text.frame_locked) == ("status", "base_link", True)
    assert by_name(markers.of_plan(plan(), FRAME))["status", 0].action == Marker.DELETE
    assert [m.action for m in markers.clear().markers] == [Marker.DELETEALL]
