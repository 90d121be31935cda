"""~/markers: what is drawn, where, that nothing old stays, and what is said of the health."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros import action_space, diagnosis, geometry
from alpamayo_ros.diagnosis import Entry, Level
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.ros.convert import make
from alpamayo_ros.ros.markers import LEVELS, NAMESPACES, PlanMarkers, of_health
from alpamayo_ros.ros.planner_node import DIAGNOSTICS_PERIOD_S
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


def test_clearing_takes_plans_away_and_leaves_the_health() -> None:
    markers = PlanMarkers()
    drawn = by_name(markers.of_plan(plan(0.03, 0.01), FRAME))
    gone = markers.clear().markers
    assert {m.action for m in gone} == {Marker.DELETE}
    assert {(m.ns, m.id) for m in gone} == set(drawn)
    assert {m.ns for m in gone} == set(NAMESPACES) - {"diagnostics"}
    assert "candidates" not in {m.ns for m in markers.clear().markers}


# ---- health ----------------------------------------------------------------------------------

# Linear RGB as people without one kind of cone see it (Machado et al. 2009, severity 1).
SEEN_BY = {
    "anyone": np.eye(3),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
APART = 25.0  # CIE 1976 differences; of orange and vermilion deuteranopes see 18


def diagnostics(*entries: Entry) -> DiagnosticArray:
    array: DiagnosticArray = diagnosis.array(
        make, entries, "planner", "car", T0_NS, lambda level: bytes([level])
    )
    return array


def lab(colour: ColorRGBA, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of an sRGB colour."""
    rgb = np.array([colour.r, colour.g, colour.b])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz_of_rgb = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(xyz_of_rgb) @ np.clip(seen @ linear, 0.0, 1.0) / (0.9505, 1.0, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_worst_diagnostic_is_shown() -> None:
    """Its level's word and colour, its name and message; it goes with the rig, and out alone."""
    fine = Entry("lifecycle", Level.OK, "active")
    first, second = Entry("a", Level.ERROR, "lost"), Entry("b", Level.ERROR, "silent")
    cases = [
        ((fine, Entry("c", Level.OK, "10 Hz")), "OK planner: lifecycle\nactive"),
        ((fine, Entry("c", Level.WARN, "dark")), "WARN planner: c\ndark"),
        ((fine, Entry("c", Level.WARN, "dark"), first, second), "ERROR planner: a\nlost"),
    ]
    for entries, words in cases:
        (text,) = of_health(diagnostics(*entries), "rig").markers
        assert (text.type, text.action) == (Marker.TEXT_VIEW_FACING, Marker.ADD)
        assert (text.ns, text.id, text.text) == ("diagnostics", 0, words)
        assert text.color == dict(LEVELS)[words.split()[0]]
        # Locked: said once a second, it is not to be left behind.
        assert (text.header.frame_id, text.frame_locked) == ("rig", True)
        assert (text.header.stamp.sec, text.header.stamp.nanosec) == (5, 300000000)
        # One may be lost; a dead node's is gone soon.
        lifetime_s = text.lifetime.sec + text.lifetime.nanosec * 1e-9
        assert 2 * DIAGNOSTICS_PERIOD_S < lifetime_s < 3 * DIAGNOSTICS_PERIOD_S
    stale = diagnostics(fine)
    stale.status[0].level = stale.status[0].STALE
    assert of_health(stale, "rig").markers[0].text == "STALE planner: lifecycle\nactive"


def test_a_long_message_is_broken_and_cut() -> None:
    """RViz draws a text of one line as long as it is."""
    message = "transition 1:\n" + "no weights in /a/folder; " * 30
    (text,) = of_health(diagnostics(Entry("x", Level.ERROR, message)), "rig").markers
    lines = text.text.split("\n")
    assert lines[1].startswith("transition 1: no weights") and lines[-1].endswith(" ...")
    assert len(lines) == 4 and max(map(len, lines)) <= 60


def test_everybody_tells_the_levels_apart() -> None:
    for people, seen in SEEN_BY.items():
        for (one, a), (other, b) in combinations(LEVELS, 2):
            apart = float(np.linalg.norm(lab(a, seen) - lab(b, seen)))
            assert apart > APART, (people, one, other)
