"""~/markers: what RViz and Foxglove draw of a plan, or why there is none.

Everything is stamped t0. The plan stays where it was made (frame_locked off), the vehicle's
footprint follows the rig (on).
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros import geometry
from alpamayo_ros.messages import PathFrame
from alpamayo_ros.ros.convert import to_time
from alpamayo_ros.types import Plan, Rejection
from alpamayo_ros.viz import canvas
from alpamayo_ros.viz.from_above import EGO_FRONT_M, EGO_REAR_M
from alpamayo_ros.viz.on_camera import VEHICLE_WIDTH_M, edges

NAMESPACES = ("path", "candidates", "ego", "reasoning", "status")
TEXT_HEIGHT_M = 1.0
EGO_HEIGHT_M = 0.1  # a footprint, not a body: the ribbon has to be seen
CANDIDATE_WIDTH_M = 0.12
# Longer than two ticks, shorter than anyone would mistake for a live plan.
LIFETIME = Duration(sec=0, nanosec=500_000_000)
_TEXT_ABOVE_M, _STATUS_ABOVE_M = 3.0, 4.5


def _colour(rgb: canvas.Colour, alpha: float) -> ColorRGBA:
    red, green, blue = (float(level) / 255.0 for level in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


BLUE, WHITE = _colour(canvas.BLUE, 0.6), _colour(canvas.WHITE, 1.0)
INK, VERMILION = _colour(canvas.INK, 0.9), _colour(canvas.VERMILION, 1.0)


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
        frame = PathFrame(rig_frame_id, rig_frame_id, geometry.identity_pose())
        words = f"no plan: {rejection.reason} [{rejection.source}]"
        text = _text(header, "status", words, frame, _STATUS_ABOVE_M, VERMILION)
        text.frame_locked = True
        return MarkerArray(markers=[text])

    def clear(self) -> MarkerArray:
        """Deletes everything drawn before."""
        self._candidates = 0
        return MarkerArray(markers=[Marker(action=Marker.DELETEALL)])


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


def _points(xyz: NDArray[np.float64]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in xyz.tolist()]


def _marker(header: Header, ns: str, marker_id: int, kind: int, colour: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=ns, id=marker_id, type=kind, action=Marker.ADD, color=colour)
    marker.pose.orientation.w = 1.0
    marker.lifetime = LIFETIME
    # Poses are in a fixed frame at t0: following the frame would move a plan after it was made.
    marker.frame_locked = False
    return marker
