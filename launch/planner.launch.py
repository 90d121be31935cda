"""Start planner_node, planning as soon as it is up, and again after it dies.

    ros2 launch alpamayo_ros planner.launch.py camera_topics:=/front/image,/tele/image …

What is given here goes before the parameter file; what is left empty is as the file says.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

SHARE = get_package_share_directory("alpamayo_ros")
AS_IN_FILE = "; empty: as params_file says"
# Fast DDS 2.x (Humble, Jazzy) and 3.x (Kilted); other middlewares read neither.
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
RESPAWN_DELAY_S = 2.0

# Arguments that are parameters of the node, by the parameter's type.
TEXTS = {
    "model": "name of a shipped model, or path of a manifest",
    "backend": "runtime of the model",
    "odometry_topic": "nav_msgs/Odometry of the vehicle",
    "path_frame": "frame of the path: odometry or base",
}
LISTS = {
    "camera_names": "the model's names of the cameras: front_wide,front_tele,…",
    "camera_topics": "the cameras' topics in the same order: /a/image,/b/image/compressed,…",
    "model_options": "over the manifest's options: samples=6,choice=medoid,…",
}
CAMERAS = ("front_wide", "front_tele", "cross_left", "cross_right")  # camera_names' default
HOW_TO_LIST = " (separated by commas, or a YAML list)"
# Arguments of launch alone: default and description.
OTHERS = {
    "params_file": (os.path.join(SHARE, "config", "planner.yaml"), "ROS parameter file"),
    "navigation_topic": ("", "std_msgs/String with the route's next step; empty: ~/navigation"),
    "use_sim_time": ("", "true: time comes from /clock" + AS_IN_FILE),
    "autostart": ("", "false: wait to be configured and activated" + AS_IN_FILE + ", else true"),
    "namespace": ("", "the node is <namespace>/planner"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "respawn": ("true", f"start the node anew {RESPAWN_DELAY_S:g} s after it dies"),
    "rviz": ("false", "open RViz with rviz_config"),
    "rviz_config": (os.path.join(SHARE, "config", "planner.rviz"), "what RViz shows"),
    "rviz_fixed_frame": ("", "odometry's frame_id, such as map; empty: as rviz_config says (odom)"),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments first, then everything that needs their values."""
    declared = [
        *((name, "", text + AS_IN_FILE) for name, text in TEXTS.items()),
        *((name, "", text + HOW_TO_LIST + AS_IN_FILE) for name, text in LISTS.items()),
        *((name, default, text) for name, (default, text) in OTHERS.items()),
    ]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in declared
            ),
            OpaqueFunction(function=_dds_profile),
            OpaqueFunction(function=_start),
        ]
    )


def _dds_profile(context: LaunchContext) -> list[Any]:
    """Room in shared memory for large images, unless a profile was chosen already.

    For what is launched after this, camera drivers above all: the publisher's profile counts most.
    """
    if any(context.environment.get(name) for name in PROFILES):
        return []
    path = os.path.join(SHARE, "config", "fastdds_shm.xml")
    return [SetEnvironmentVariable(name, path) for name in PROFILES]


def _start(context: LaunchContext) -> list[Any]:
    """The node, and RViz where wanted."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context).strip()

    # Typed: launch would otherwise read a topic named "7" or "on" as YAML.
    parameters: dict[str, Any] = {
        name: ParameterValue(given(name), value_type=str) for name in TEXTS if given(name)
    }
    for name in LISTS:
        if given(name):
            parameters[name] = _as_list(name, given(name))
    for name in ("use_sim_time", "autostart"):
        if given(name):
            parameters[name] = _as_bool(name, given(name))
    namespace, navigation = given("namespace"), given("navigation_topic")
    planner = Node(
        package="alpamayo_ros",
        executable="planner_node",
        name="planner",
        namespace=namespace,
        # Before the parameter file, so that the file may say otherwise.
        ros_arguments=["-p", "autostart:=true", "--log-level", given("log_level")],
        parameters=[given("params_file"), *([parameters] if parameters else [])],
        remappings=[("~/navigation", navigation)] if navigation else [],
        respawn=_as_bool("respawn", given("respawn")),
        respawn_delay=RESPAWN_DELAY_S,
        output="both",
        emulate_tty=True,
    )
    if not _as_bool("rviz", given("rviz")):
        return [planner]
    cameras = dict(
        zip(parameters.get("camera_names", CAMERAS), parameters.get("camera_topics", []))
    )
    return [planner, _rviz(given, namespace, parameters.get("use_sim_time"), cameras)]


def _rviz(
    given: Any, namespace: str, use_sim_time: bool | None, camera_topics: dict[str, str]
) -> Node:
    """RViz; its configuration names the default topics, so others are remapped."""
    prefix = "/" + namespace.strip("/") if namespace.strip("/") else ""
    remappings = [(f"/planner/{name}", f"{prefix}/planner/{name}") for name in ("path", "markers")]
    if given("odometry_topic"):
        remappings.append(("/odom", given("odometry_topic")))
    frame = given("rviz_fixed_frame")
    config = _with_cameras(given("rviz_config"), camera_topics)
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", config, *(["-f", frame] if frame else [])],
        parameters=[] if use_sim_time is None else [{"use_sim_time": use_sim_time}],
        remappings=remappings,
        output="log",
    )


def _with_cameras(config: str, camera_topics: dict[str, str]) -> str:
    """The path of the same configuration with these topics for the cameras.

    No remapping will do: RViz takes the kind of image, raw or compressed, from the topic's name.
    """
    with open(config, encoding="utf-8") as file:
        before = text = file.read()
    for name, topic in camera_topics.items():
        text = text.replace(f"Value: /camera/{name}/image/compressed", f"Value: {topic}")
    if text == before:
        return config
    with tempfile.NamedTemporaryFile("w", suffix=".rviz", delete=False, encoding="utf-8") as file:
        file.write(text)
    return file.name


def _as_list(name: str, text: str) -> list[str]:
    """`a,b` or `[a, b]`; YAML's own types are of no interest here."""
    try:
        entries = yaml.load(text, Loader=yaml.BaseLoader) if text[0] == "[" else text.split(",")
    except yaml.YAMLError as error:
        raise ValueError(f"{name}:={text} is no list: {error}") from error
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{name}:={text} is no list of names")
    return [entry.strip() for entry in entries]


def _as_bool(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name}:={text} is neither true nor false")
    return text.lower() == "true"
