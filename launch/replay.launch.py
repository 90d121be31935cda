"""Play a recording to the planner and record what it plans; ends when the recording does.

    ros2 launch alpamayo_ros replay.launch.py bag:=drive out:=plans

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
# Discovery and a model's loading; playing starts as soon as the planner listens.
WAIT_FOR_PLANNER_S = 120.0


def generate_launch_description() -> LaunchDescription:
    """The planner under the recording's own time, with the player and the recorder."""
    planner = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PLANNER),
        # A planner that dies would spoil the recording of its plans: the failure should show.
        launch_arguments={"use_sim_time": "true", "respawn": "false"}.items(),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder, .mcap or .db3 to play"),
            DeclareLaunchArgument(
                "out", default_value="", description="folder of the new recording; empty: none"
            ),
            DeclareLaunchArgument(
                "overwrite", default_value="false", description="replace the recording at out"
            ),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed of playing"),
            DeclareLaunchArgument(
                "loop", default_value="false", description="begin again at the end"
            ),
            DeclareLaunchArgument(
                "seconds", default_value="0.0", description="how much to play; 0: all of it"
            ),
            planner,
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[Any]:
    """The player, the end that its end means, and the recorder where wanted."""
    out = LaunchConfiguration("out").perform(context).strip()
    namespace = LaunchConfiguration("namespace").perform(context).strip("/ ")
    player = Node(
        package="alpamayo_ros",
        executable="player_node",
        name="player",
        parameters=[
            {
                "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "seconds": ParameterValue(LaunchConfiguration("seconds"), value_type=float),
                "wait_for_subscribers_s": WAIT_FOR_PLANNER_S,
            }
        ],
        output="both",
        emulate_tty=True,
    )
    actions = [
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=_player_ended)),
        player,
    ]
    if out:
        actions.insert(0, _recorder(out, f"/{namespace}/planner" if namespace else "/planner"))
    return actions


def _recorder(out: str, planner: str) -> Node:
    return Node(
        package="alpamayo_ros",
        executable="recorder_node",
        name="recorder",
        parameters=[
            {
                "bag": ParameterValue(out, value_type=str),
                "planner": ParameterValue(planner, value_type=str),
                "overwrite": ParameterValue(LaunchConfiguration("overwrite"), value_type=bool),
                "use_sim_time": True,
            }
        ],
        output="both",
        emulate_tty=True,
    )


def _player_ended(event: ProcessExited, context: LaunchContext) -> list[Any] | None:
    """End everything; `ros2 launch` then exits 1 where the recording could not be played."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(
            f"the recording was not played: player_node ended with {event.returncode}"
        )
    return [Shutdown(reason="the recording is through")]
