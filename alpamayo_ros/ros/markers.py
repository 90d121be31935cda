"""~/markers: what RViz and Foxglove draw of a plan, or why there is none, and of the node's health.

What is of a plan is stamped t0, the health as /diagnostics is. The plan stays where it was made
(frame_locked off), the vehicle's footprint and the texts without a plan follow the rig (on).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros import geometry
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import to_time
from alpamayo_ros.types import Plan, Rejection
from alpamayo_ros.viz import canvas
from alpamayo_ros.viz.from_above import EGO_FRONT_M, EGO_REAR_M
from alpamayo_ros.viz.on_camera import VEHICLE_WIDTH_M, edges

NAMESPACES = ("path", "candidates", "ego", "reasoning", "status", "diagnostics")
TEXT_HEIGHT_M = 1.0
EGO_HEIGHT_M = 0.1  # a footprint, not a body: the ribbon has to be seen
CANDIDATE_WIDTH_M = 0.12
# Longer than two ticks, shorter than anyone would mistake for a live plan.
LIFETIME = Duration(sec=0, nanosec=500_000_000)
# /diagnostics comes at 1 Hz: one may be lost, and what a dead node said last is gone soon.
HEALTH_LIFETIME = Duration(sec=2, nanosec=500_000_000)
HEALTH_TEXT_HEIGHT_M = 0.8
_TEXT_ABOVE_M, _STATUS_ABOVE_M, _HEALTH_ABOVE_M = 3.0, 4.5, 7.0
_HEALTH_COLUMNS, _HEALTH_LINES = 60, 3  # of a message: RViz breaks no lines


def _colour(rgb: canvas.Colour, alpha: float) -> ColorRGBA:
    red, green, blue = (float(level) / 255.0 for level in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


BLUE, WHITE = _colour(canvas.BLUE, 0.6), _colour(canvas.WHITE, 1.0)
INK, VERMILION = _colour(canvas.INK, 0.9), _colour(canvas.VERMILION, 1.0)
# By DiagnosticStatus's levels. Neither green, which the red-green blind take for grey, nor orange,
# which they take for vermilion.
LEVELS = (
    ("OK", _colour(canvas.SKY, 1.0)),
    ("WARN", _colour(canvas.YELLOW, 1.0)),
    ("ERROR", VERMILION),
    ("STALE", _colour((160, 166, 174), 1.0)),
)


class MarkersOutput:
    """~/markers, from the node's start to its end: there is health to show without a plan."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher: Any = None
        self._drawn = PlanMarkers()

    def open(self) -> None:
        """Publish from now on; a second call does nothing. Raises on an unusable qos_overrides."""
        if self._publisher is None:
            self._publisher = self._node.create_publisher(
                MarkerArray,
                "~/markers",
                topics.reliable_qos(),
                qos_overriding_options=topics.overridable(),
            )

    def plan(self, plan: Plan, frame: PathFrame) -> None:
        """A plan or a stop, in place of the one before."""
        self._publish(lambda: self._drawn.of_plan(plan, frame))

    def rejection(self, rejection: Rejection, rig_frame_id: str) -> None:
        """Why there is no plan."""
        self._publish(lambda: self._drawn.of_rejection(rejection, rig_frame_id))

    def health(self, diagnostics: DiagnosticArray, rig_frame_id: str) -> None:
        """The worst of what /diagnostics was told."""
        self._publish(lambda: of_health(diagnostics, rig_frame_id))

    def clear(self) -> None:
        """Take what is shown of plans away; the health stays."""
        self._publish(self._drawn.clear)

    def _publish(self, markers: Callable[[], MarkerArray]) -> None:
        if self._publisher is not None and self._publisher.get_subscription_count():
            self._publisher.publish(markers())


class PlanMarkers:
    """Marker arrays of one publisher; remembers what it drew, so that nothing old stays."""

    def __init__(self) -> None:
        self._candidates = 0  # drawn last

    def of_plan(self, plan: Plan, frame: PathFrame) -> MarkerArray:
        """Ribbon, candidates by rank (dark is nearest to the plan), footprint, reasoning."""
        header = Header(stamp=to_time(plan.t0_ns), frame_id=frame.frame_id)
        ranked = _ranked(plan)
        markers = [_ribbon(header, plan, frame)]
        colours = canvas.sequential(np.linspace(0.0, 1.0, max(len(ranked), 2)))
        for rank, xyz in enumerate(ranked):
            markers.append(_candidate(header, rank, xyz, frame, colours[rank]))
        markers += [
            Marker(header=header, ns="candidates", id=gone, action=Marker.DELETE)
            for gone in range(len(ranked), self._candidates)
        ]
        self._candidates = len(ranked)
        markers += [
            _footprint(Header(stamp=header.stamp, frame_id=frame.rig_frame_id)),
            _text(header, "reasoning", plan.reasoning, frame, _TEXT_ABOVE_M, WHITE),
            Marker(header=header, ns="status", id=0, action=Marker.DELETE),
        ]
        return MarkerArray(markers=markers)

    def of_rejection(self, rejection: Rejection, rig_frame_id: str) -> MarkerArray:
        """Why there is no plan, above the vehicle; the last plan fades by its own lifetime."""
        header = Header(stamp=to_time(rejection.due_ns), frame_id=rig_frame_id)
        words = f"no plan: {rejection.reason} [{rejection.source}]"
        text = _text_above_rig(header, "status", words, _STATUS_ABOVE_M, VERMILION)
        return MarkerArray(markers=[text])

    def clear(self) -> MarkerArray:
        """Deletes everything drawn before, one by one: DELETEALL would take the health too."""
        candidates, self._candidates = self._candidates, 0
        gone = [("candidates", rank) for rank in range(candidates)]
        gone += [(ns, 0) for ns in ("path", "ego", "reasoning", "status")]
        return MarkerArray(
            markers=[Marker(ns=ns, id=number, action=Marker.DELETE) for ns, number in gone]
        )


def of_health(diagnostics: DiagnosticArray, rig_frame_id: str) -> MarkerArray:
    """The worst status above the vehicle, the first of equals: level, name and message.

    It follows the rig: at 1 Hz it would otherwise fall behind a moving vehicle.
    """
    worst = max(diagnostics.status, key=lambda status: status.level[0])
    level, colour = LEVELS[worst.level[0]]
    message = textwrap.wrap(
        worst.message,
        _HEALTH_COLUMNS,
        max_lines=_HEALTH_LINES,
        placeholder=" ...",
        break_on_hyphens=False,  # paths stay whole
    )
    words = "\n".join((f"{level} {worst.name}", *message))
    header = Header(stamp=diagnostics.header.stamp, frame_id=rig_frame_id)
    text = _text_above_rig(header, "diagnostics", words, _HEALTH_ABOVE_M, colour)
    text.scale.z = HEALTH_TEXT_HEIGHT_M
    text.lifetime = HEALTH_LIFETIME
    return MarkerArray(markers=[text])


def _ranked(plan: Plan) -> NDArray[np.float64]:
    """(n, 64, 3) the candidates that were not chosen, nearest to the plan first."""
    xyz = plan.candidates_xyz_in_rig_t0
    apart = np.linalg.norm(xyz - plan.xyz_in_rig_t0, axis=-1).mean(axis=-1)
    return xyz[np.argsort(apart, kind="stable")][1:]


def _ribbon(header: Header, plan: Plan, frame: PathFrame) -> Marker:
    """Triangles on the ground: RViz turns the face of a wide line to the viewer."""
    line = np.vstack([np.zeros(3), plan.xyz_in_rig_t0])
    left, right = (
        geometry.apply(frame.frame_from_rig_t0, side) for side in edges(line, VEHICLE_WIDTH_M / 2)
    )
    corners = np.stack([left[:-1], right[:-1], left[1:], left[1:], right[:-1], right[1:]], axis=1)
    ribbon = _marker(header, "path", 0, Marker.TRIANGLE_LIST, BLUE)
    ribbon.scale = Vector3(x=1.0, y=1.0, z=1.0)
    ribbon.points = _points(corners.reshape(-1, 3))
    return ribbon


def _candidate(
    header: Header, rank: int, xyz: NDArray[np.float64], frame: PathFrame, colour: canvas.Colour
) -> Marker:
    line = _marker(header, "candidates", rank, Marker.LINE_STRIP, _colour(colour, 0.9))
    line.scale = Vector3(x=CANDIDATE_WIDTH_M, y=0.0, z=0.0)
    line.points = _points(geometry.apply(frame.frame_from_rig_t0, xyz))
    return line


def _footprint(header: Header) -> Marker:
    box = _marker(header, "ego", 0, Marker.CUBE, INK)
    box.scale = Vector3(x=EGO_FRONT_M - EGO_REAR_M, y=VEHICLE_WIDTH_M, z=EGO_HEIGHT_M)
    box.pose.position = Point(x=(EGO_FRONT_M + EGO_REAR_M) / 2, y=0.0, z=EGO_HEIGHT_M / 2)
    box.frame_locked = True
    return box


def _text(
    header: Header, ns: str, words: str, frame: PathFrame, above_m: float, colour: ColorRGBA
) -> Marker:
    text = _marker(header, ns, 0, Marker.TEXT_VIEW_FACING, colour)
    text.scale = Vector3(x=0.0, y=0.0, z=TEXT_HEIGHT_M)
    x, y, z = frame.frame_from_rig_t0.translation_m.tolist()
    text.pose.position = Point(x=x, y=y, z=z + above_m)
    text.text = words
    return text


def _text_above_rig(
    header: Header, ns: str, words: str, above_m: float, colour: ColorRGBA
) -> Marker:
    """A text of no plan: it goes with the vehicle, whose frame the header names."""
    frame = PathFrame(header.frame_id, header.frame_id, geometry.identity_pose())
    text = _text(header, ns, words, frame, above_m, colour)
    text.frame_locked = True
    return text


def _points(xyz: NDArray[np.float64]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in xyz.tolist()]


def _marker(header: Header, ns: str, marker_id: int, kind: int, colour: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=ns, id=marker_id, type=kind, action=Marker.ADD, color=colour)
    marker.pose.orientation.w = 1.0
    marker.lifetime = LIFETIME
    # Poses are in a fixed frame at t0: following the frame would move a plan after it was made.
    marker.frame_locked = False
    return marker
