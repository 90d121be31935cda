"""What the shipped RViz and Foxglove configurations show: topics, types and frames, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from alpamayo_ros.resources import resource

# The message types that a display or panel can show.
RVIZ_TYPES = {
    "Path": {"nav_msgs/msg/Path"},
    "Odometry": {"nav_msgs/msg/Odometry"},
    "MarkerArray": {"visualization_msgs/msg/MarkerArray"},
    "Image": {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"},
}
FOXGLOVE_TYPES = {
    "3D": {"visualization_msgs/msg/MarkerArray", "nav_msgs/msg/Path", "nav_msgs/msg/Odometry"},
    "image": {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"},
    "calibration": {"sensor_msgs/msg/CameraInfo"},
    "DiagnosticSummary": {"diagnostic_msgs/msg/DiagnosticArray"},
}


@dataclass
class Shown:
    """What one configuration asks of the graph."""

    types: dict[str, set[str]] = field(default_factory=dict)  # topic -> what is understood; {}: any
    fields: list[tuple[str, list[str]]] = field(default_factory=list)  # topic, a path of fields
    frames: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)  # of /planner/markers
    best_effort: dict[str, bool] = field(default_factory=dict)


def rviz() -> Shown:
    """config/planner.rviz."""
    config = yaml.safe_load(resource("config", "planner.rviz").read_text())
    manager = config["Visualization Manager"]
    shown = Shown(frames={manager["Global Options"]["Fixed Frame"]})
    shown.frames.add(manager["Views"]["Current"]["Target Frame"])
    for display in manager["Displays"]:
        if "Reference Frame" in display:
            shown.frames.add(display["Reference Frame"])
        if "Topic" in display:
            topic, kind = display["Topic"]["Value"], display["Class"].rpartition("/")[2]
            shown.types[topic] = RVIZ_TYPES[kind]
            shown.best_effort[topic] = display["Topic"]["Reliability Policy"] == "Best Effort"
        shown.namespaces |= set(display.get("Namespaces", {}))
    return shown


def foxglove() -> Shown:
    """config/foxglove.json; every panel of the layout has a configuration, and none has not."""
    config = json.loads(resource("config", "foxglove.json").read_text())
    panels = config["configById"]
    assert sorted(_leaves(config["layout"])) == sorted(panels)
    shown = Shown()
    for name, panel in panels.items():
        kind = name.partition("!")[0]
        for topic in panel.get("topics", {}):
            shown.types[topic] = FOXGLOVE_TYPES["3D"]
        if "followTf" in panel:
            shown.frames.add(panel["followTf"])
        for layer in panel.get("layers", {}).values():
            shown.frames.add(layer["frameId"])
        if kind == "Image":
            shown.types[panel["imageMode"]["imageTopic"]] = FOXGLOVE_TYPES["image"]
            shown.types[panel["imageMode"]["calibrationTopic"]] = FOXGLOVE_TYPES["calibration"]
        elif kind == "Plot":
            for line in panel["paths"]:
                topic, *path = line["value"].split(".")
                shown.types[topic] = set()
                shown.fields.append((topic, path))
        elif kind == "RawMessages":
            shown.types[panel["topicPath"]] = set()
        elif kind == "DiagnosticSummary":
            shown.types[panel["topicToRender"]] = FOXGLOVE_TYPES[kind]
    return shown


def _leaves(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
        return
    yield from _leaves(layout["first"])
    yield from _leaves(layout["second"])


def value_at(message: Any, path: list[str]) -> Any:
    """A field such as ["points[0]", "velocity_mps"] of a message."""
    for part in path:
        name, bracket, index = part.partition("[")
        message = getattr(message, name)
        if bracket:
            message = message[int(index.rstrip("]"))]
    return message
