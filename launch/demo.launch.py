"""Drive closed-loop: a generated world, the planner, the controller; ends with the scenario.

    ros2 launch alpamayo_ros demo.launch.py scenario:=lead seed:=3 seconds:=60 rviz:=true

Takes the arguments of planner.launch.py too.
"""

from __future__ import annotations

import os
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

PLANNER = os.path.join(get_package_share_directory("alpamayo_ros"), "launch", "planner.launch.py")
# Discovery and a model's loading; the world starts as soon as the planner listens.
WAIT_FOR_PLANNER_S = 120.0
# Parameters of world_node that are arguments: default, type, description.
WORLD = {
    "scenario": ("straight", str, "what to drive, see `alpamayo world drive --help`"),
    "seed": ("1", int, "which world"),
    "seconds": ("60.0", float, "of driving"),
    "rate": ("1.0", float, "speed of the world's time"),
    "image_transport": ("compressed", str, "compressed or raw; raw: give camera_topics too"),
    "report": ("", str, "file for the drive's figures (JSON); empty: none"),
}


def generate_launch_description() -> LaunchDescription:
    """The planner under the world's own time, with the world and the controller."""
    planner = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PLANNER),
        launch_arguments={"use_sim_time": "true", "respawn": "false"}.items(),
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, _, text) in WORLD.items()
            ),
            DeclareLaunchArgument(
                "out", default_value="", description="folder of a recording; empty: none"
            ),
            planner,
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[Any]:
    """World and controller, the end that the world's end means, and the recorder where wanted."""
    out = LaunchConfiguration("out").perform(context).strip()
    namespace = LaunchConfiguration("namespace").perform(context).strip("/ ")
    prefix = f"/{namespace}" if namespace else ""
    odometry = LaunchConfiguration("odometry_topic").perform(context).strip() or "/odom"
    navigation = LaunchConfiguration("navigation_topic").perform(context).strip()
    parameters: dict[str, Any] = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (_, kind, _) in WORLD.items()
    }
    parameters["wait_for_subscribers_s"] = WAIT_FOR_PLANNER_S
    parameters["navigation_topic"] = navigation or f"{prefix}/planner/navigation"
    world = _node("world", [parameters], remappings=[("/odom", odometry)])
    topics = {"trajectory_topic": f"{prefix}/planner/trajectory", "odometry_topic": odometry}
    actions = [
        RegisterEventHandler(OnProcessExit(target_action=world, on_exit=_world_ended)),
        _node("controller", [{**topics, "use_sim_time": True}]),
        world,
    ]
    if out:
        recorded = {"bag": out, "planner": f"{prefix}/planner"}
        values = {n: ParameterValue(v, value_type=str) for n, v in recorded.items()}
        actions.insert(0, _node("recorder", [{**values, "use_sim_time": True}]))
    return actions


def _node(name: str, parameters: list[Any], remappings: list[Any] | None = None) -> Node:
    return Node(
        package="alpamayo_ros",
        executable=f"{name}_node",
        name=name,
        parameters=parameters,
        remappings=remappings or [],
        output="both",
        emulate_tty=True,
    )


def _world_ended(event: ProcessExited, context: LaunchContext) -> list[Any] | None:
    """End everything; `ros2 launch` then exits 1 where the world could not be driven."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"the world was not driven: world_node ended with {event.returncode}")
    return [Shutdown(reason="the scenario is over")]
