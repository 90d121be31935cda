"""What a recording says around its images: how the vehicle moved, where its cameras look."""

from __future__ import annotations

from dataclasses import dataclass, field

from alpamayo_ros.bags.inputs import calibration_topics, f_theta_topic
from alpamayo_ros.bags.poses import rig_poses
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.cameras.calibration import Calibration, calibration_of
from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.errors import BagError
from alpamayo_ros.evaluation.scoring import Scorer
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import PlannerSettings


@dataclass(slots=True)
class DriveContext:
    """Read once, before planning."""

    scorer: Scorer = field(default_factory=Scorer)  # holds the drive's odometry
    calibrations: dict[str, Calibration] = field(default_factory=dict)  # by camera name
    transforms: RigOffset = field(default_factory=lambda: RigOffset(""))  # static, by /tf_static
    child_from_rig: RigOffset | None = None  # the same, and the parameter's offset


def read_context(bag: BagReader, settings: PlannerSettings) -> DriveContext:
    """Static transforms, odometry and calibrations of a bag.

    Raises UserError where odometry's child frame cannot be related to the rig.
    """
    context = read_mountings(bag, settings)
    offset = context.child_from_rig
    assert offset is not None
    for pose in rig_poses(bag, settings, offset):
        context.scorer.add_pose(pose)
    return context


def read_mountings(bag: BagReader, settings: PlannerSettings) -> DriveContext:
    """The same without odometry: enough to draw on a camera's image."""
    context = DriveContext(transforms=RigOffset(settings.rig_frame))
    offset = RigOffset(settings.rig_frame, settings.odometry_child_from_rig)
    context.child_from_rig = offset
    if "/tf_static" in bag.topics:
        for _, _, message in bag.messages(["/tf_static"]):
            context.transforms.add_static_transforms(message)
            offset.add_static_transforms(message)
    images = {camera.name: camera.topic for camera in settings.cameras}
    for name, topic in calibration_topics(bag, settings).items():
        for _, _, message in bag.messages([topic]):
            lens = _f_theta(bag, topic)
            context.calibrations[name] = calibration_of(message, images[name], lens)
            break
    return context


def _f_theta(bag: BagReader, info_topic: str) -> FTheta | None:
    """The camera's f-theta lens, where the bag has it. Raises BagError where it is none."""
    topic = f_theta_topic(info_topic)
    if topic not in bag.topics or bag.topics[topic].type != "std_msgs/msg/String":
        return None
    for _, _, message in bag.messages([topic]):
        try:
            return FTheta.from_json(message.data)
        except ValueError as error:
            raise BagError(f"{bag.path}: {topic}: {error}") from error
    return None
