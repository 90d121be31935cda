"""Which topics of a recording feed the planner, and which have its cameras' calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.cameras.calibration import info_topic
from alpamayo_ros.errors import BagError
from alpamayo_ros.feed import Reader, check_compressed, compressed_to_rgb, image_to_rgb
from alpamayo_ros.parameters import CameraInput, PlannerSettings
from alpamayo_ros.types import CAMERA_NAMES

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
ODOMETRY = "nav_msgs/msg/Odometry"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

READERS = {
    IMAGE: Reader(None, image_to_rgb, True),
    COMPRESSED: Reader(check_compressed, compressed_to_rgb, False),
}


def check_inputs(bag: BagReader, settings: PlannerSettings) -> None:
    """Raises BagError where a topic is absent or of a wrong type: what the bag has, what to do."""
    wanted = {
        camera.topic: [IMAGE, COMPRESSED]
        if camera.transport == "auto"
        else [IMAGE if camera.transport == "raw" else COMPRESSED]
        for camera in settings.cameras
    }
    try:
        bag.require({**wanted, settings.odometry_topic: [ODOMETRY]})
    except BagError as error:
        raise BagError(
            f"{error}\nName what it has: --camera NAME=TOPIC for each camera, --odometry TOPIC"
        ) from error


def guess_inputs(
    bag: BagReader,
    settings: PlannerSettings,
    cameras_given: bool = False,
    odometry_given: bool = False,
) -> PlannerSettings:
    """Settings whose topics this bag has, by type and name, for a quick look at any recording.

    A camera keeps its configured topic where the bag has it; else the topic that carries the
    camera's name; a bag with neither has its first image topic taken for front_wide. What the user
    has named is taken as it is. Raises BagError where there is no image or no odometry at all, or
    a named topic is not there.
    """
    if cameras_given and odometry_given:
        check_inputs(bag, settings)
        return settings
    images = [name for name, info in bag.topics.items() if info.type in READERS and info.count]
    odometry = [name for name, info in bag.topics.items() if info.type == ODOMETRY and info.count]
    if not images or not odometry:
        lacking = "image" if not images else "nav_msgs/Odometry"
        listing = "\n".join(f"  {name}  {info.type}" for name, info in sorted(bag.topics.items()))
        raise BagError(f"{bag.path} has no {lacking} topic. It has:\n{listing}")
    cameras = settings.cameras if cameras_given else _guessed_cameras(settings, images)
    wanted = settings.odometry_topic
    chosen = replace(
        settings,
        cameras=cameras,
        odometry_topic=wanted if odometry_given or wanted in odometry else odometry[0],
        pipeline=replace(settings.pipeline, cameras=tuple(camera.name for camera in cameras)),
    )
    check_inputs(bag, chosen)
    return chosen


def _guessed_cameras(settings: PlannerSettings, images: Sequence[str]) -> tuple[CameraInput, ...]:
    configured = {camera.name: camera for camera in settings.cameras}
    chosen: list[CameraInput] = []
    for name in [*configured, *(name for name in CAMERA_NAMES if name not in configured)]:
        camera = configured.get(name)
        matches = [image for image in images if name in image]
        if camera is not None and camera.topic in images:
            chosen.append(replace(camera, transport="auto"))
        elif matches:
            chosen.append(CameraInput(name, matches[0], "auto", 0))
    return tuple(chosen) or (CameraInput("front_wide", images[0], "auto", 0),)


def first_child_frame(bag: BagReader, settings: PlannerSettings) -> str:
    """The child_frame_id of the bag's first odometry message; empty where it has none."""
    for _, _, message in bag.messages([settings.odometry_topic]):
        return str(message.child_frame_id)
    return ""


def calibration_topics(bag: BagReader, settings: PlannerSettings) -> Mapping[str, str]:
    """Camera name -> CameraInfo topic, of the cameras that have one."""
    found = {}
    for camera in settings.cameras:
        beside = camera.info_topic or info_topic(camera.topic)
        below = camera.topic.removesuffix("/compressed") + "/camera_info"
        for topic in (beside, below):
            if topic in bag.topics and bag.topics[topic].type == CAMERA_INFO:
                found[camera.name] = topic
                break
    return found


def f_theta_topic(info_topic: str) -> str:
    """Where `alpamayo convert pai` writes a clip's f-theta lens."""
    return info_topic.rsplit("/", 1)[0] + "/f_theta"
