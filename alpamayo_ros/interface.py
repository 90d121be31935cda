"""What each node publishes, subscribes to, offers and calls: names and types, by its parameters.

Kept equal to the running nodes by `rosbag_tests/test_policy.py`; policies are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alpamayo_ros.cameras.calibration import info_topic
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import CAMERA_NAMES

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, ODOMETRY = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry"
TEXT, TF, CLOCK = "std_msgs/msg/String", "tf2_msgs/msg/TFMessage", "rosgraph_msgs/msg/Clock"
OURS = "alpamayo_ros/msg"
COMMAND, TRAJECTORY = f"{OURS}/VehicleCommand", f"{OURS}/PlannedTrajectory"

Endpoints = Mapping[str, str]  # name -> type

# What rclpy gives every node.
EVERY_NODE_PUBLISHES = {
    "/rosout": "rcl_interfaces/msg/Log",
    "/parameter_events": "rcl_interfaces/msg/ParameterEvent",
}
PARAMETER_SERVICES = {
    "describe_parameters": "rcl_interfaces/srv/DescribeParameters",
    "get_parameter_types": "rcl_interfaces/srv/GetParameterTypes",
    "get_parameters": "rcl_interfaces/srv/GetParameters",
    "get_type_description": "type_description_interfaces/srv/GetTypeDescription",
    "list_parameters": "rcl_interfaces/srv/ListParameters",
    "set_parameters": "rcl_interfaces/srv/SetParameters",
    "set_parameters_atomically": "rcl_interfaces/srv/SetParametersAtomically",
}
LIFECYCLE_SERVICES = {
    "change_state": "lifecycle_msgs/srv/ChangeState",
    "get_available_states": "lifecycle_msgs/srv/GetAvailableStates",
    "get_available_transitions": "lifecycle_msgs/srv/GetAvailableTransitions",
    "get_state": "lifecycle_msgs/srv/GetState",
    "get_transition_graph": "lifecycle_msgs/srv/GetAvailableTransitions",
}
PLANNER_OUTPUTS = {
    "path": "nav_msgs/msg/Path",
    "trajectory": TRAJECTORY,
    "candidates": f"{OURS}/CandidateTrajectories",
    "reasoning": TEXT,
    "reasoning_trace": f"{OURS}/ReasoningTrace",
    "status": f"{OURS}/PlannerStatus",
    "markers": "visualization_msgs/msg/MarkerArray",
    "availability": f"{OURS}/PlannerAvailability",
}


@dataclass(frozen=True, slots=True)
class NodeInterface:
    """One node's part of the graph. Names are full."""

    name: str  # without its namespace
    publishes: Endpoints
    subscribes: Endpoints
    serves: Endpoints = field(default_factory=dict)
    calls: Endpoints = field(default_factory=dict)
    namespace: str = "/"


def planner(
    settings: PlannerSettings, namespace: str = "/", name: str = "planner"
) -> NodeInterface:
    """planner_node with these parameters. A camera of transport `auto` goes by its topic's name.

    Raises ModelError where the model's manifest cannot be read.
    """
    own = f"{namespace.rstrip('/')}/{name}"
    cameras = {
        camera.topic: COMPRESSED
        if camera.transport == "compressed"
        or (camera.transport == "auto" and camera.topic.endswith("/compressed"))
        else IMAGE
        for camera in settings.cameras
    }
    # As CameraInfos and PlannerInputs subscribe: to hold a lens against the rig, to reproject.
    rig = load_manifest(settings.model).rig if settings.camera_info != "ignore" else {}
    infos = {
        camera.info_topic or info_topic(camera.topic): CAMERA_INFO
        for camera in settings.cameras
        if settings.rig_views or camera.name in rig
    }
    services = {**PARAMETER_SERVICES, **LIFECYCLE_SERVICES, "ask": "alpamayo_ros/srv/AskScene"}
    return NodeInterface(
        name,
        publishes={
            **EVERY_NODE_PUBLISHES,
            **_under(own, PLANNER_OUTPUTS),
            f"{own}/transition_event": "lifecycle_msgs/msg/TransitionEvent",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
        },
        subscribes={
            **cameras,
            **infos,
            f"{own}/engaged": "std_msgs/msg/Bool",
            settings.odometry_topic: ODOMETRY,
            "/tf_static": TF,
            f"{own}/navigation": TEXT,
            "/clock": CLOCK,  # with use_sim_time
        },
        serves=_under(own, services),
        namespace=namespace,
    )


def controller() -> NodeInterface:
    """controller_node as demo.launch.py starts it."""
    return NodeInterface(
        "controller",
        publishes={**EVERY_NODE_PUBLISHES, "/controller/command": COMMAND},
        subscribes={"/planner/trajectory": TRAJECTORY, "/odom": ODOMETRY, "/clock": CLOCK},
        serves=_under("/controller", PARAMETER_SERVICES),
    )


def world(cameras: tuple[str, ...]) -> NodeInterface:
    """world_node as demo.launch.py starts it."""
    return NodeInterface(
        "world",
        publishes={**EVERY_NODE_PUBLISHES, **_vehicle(cameras), "/planner/navigation": TEXT},
        subscribes={"/controller/command": COMMAND},
        serves=_under("/world", PARAMETER_SERVICES),
    )


def player() -> NodeInterface:
    """player_node as replay.launch.py starts it, on a recording of a vehicle's own inputs."""
    navigation = {"/planner/navigation": TEXT}
    return NodeInterface(
        "player",
        publishes={**EVERY_NODE_PUBLISHES, **_vehicle(CAMERA_NAMES), **navigation},
        subscribes={},
        serves=_under("/player", PARAMETER_SERVICES),
    )


def recorder() -> NodeInterface:
    """recorder_node as the launch files start it: the planner's outputs."""
    left_out = ("markers", "availability")
    outputs = {name: kind for name, kind in PLANNER_OUTPUTS.items() if name not in left_out}
    return NodeInterface(
        "recorder",
        publishes=dict(EVERY_NODE_PUBLISHES),
        subscribes={**_under("/planner", outputs), "/clock": CLOCK},
        serves=_under("/recorder", PARAMETER_SERVICES),
    )


def _vehicle(cameras: tuple[str, ...]) -> dict[str, str]:
    """What a vehicle's drivers publish."""
    images = {f"/camera/{name}/image/compressed": COMPRESSED for name in cameras}
    infos = {f"/camera/{name}/camera_info": CAMERA_INFO for name in cameras}
    return {**images, **infos, "/odom": ODOMETRY, "/tf": TF, "/tf_static": TF, "/clock": CLOCK}


def _under(prefix: str, endpoints: Endpoints) -> dict[str, str]:
    return {f"{prefix}/{name}": kind for name, kind in endpoints.items()}
