"""~/markers: what RViz draws of a plan."""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from alpamayo_ros.messages import PathFrame
from alpamayo_ros.types import Plan

RIBBON_WIDTH_M = 1.8
TEXT_HEIGHT_M = 1.0
# Longer than two ticks, shorter than anyone would mistake for a live plan.
LIFETIME = Duration(sec=0, nanosec=500_000_000)
BLUE = ColorRGBA(r=0.0, g=0.45, b=0.70, a=0.6)
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)


def plan_markers(path: Any, plan: Plan, frame: PathFrame) -> MarkerArray:
    """The path as a ribbon and the reasoning as a text above its start, stamped t0."""
    ribbon = _marker(path.header, 0, Marker.LINE_STRIP, BLUE)
    ribbon.ns = "path"
    ribbon.scale = Vector3(x=RIBBON_WIDTH_M, y=0.0, z=0.0)
    ribbon.points = [stamped.pose.position for stamped in path.poses]
    text = _marker(path.header, 0, Marker.TEXT_VIEW_FACING, WHITE)
    text.ns = "reasoning"
    text.scale = Vector3(x=0.0, y=0.0, z=TEXT_HEIGHT_M)
    x, y, z = frame.frame_from_rig_t0.translation_m.tolist()
    text.pose.position = Point(x=x, y=y, z=z + 3.0)
    text.text = plan.reasoning
    return MarkerArray(markers=[ribbon, text])


def clear_markers() -> MarkerArray:
    """Deletes everything drawn before."""
    return MarkerArray(markers=[Marker(action=Marker.DELETEALL)])


def _marker(header: Any, marker_id: int, kind: int, colour: ColorRGBA) -> Marker:
    marker = Marker(header=header, id=marker_id, type=kind, action=Marker.ADD, color=colour)
    marker.pose.orientation.w = 1.0
    marker.lifetime = LIFETIME
    # Poses are in a fixed frame at t0: following the frame would move a plan after it was made.
    marker.frame_locked = False
    return marker
