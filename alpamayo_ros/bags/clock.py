"""A recording's clock: the times at which it was recorded, where its stamps keep to them."""

from __future__ import annotations

from itertools import islice
from statistics import median

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import NS_PER_S

MESSAGES = 20  # of each camera: enough to tell a clock from one late message


def clock_offset_ns(bag: BagReader, settings: PlannerSettings) -> int:
    """What a log time is set back by to be "now" for the stamps; 0 where they agree.

    Sensors may have had another clock than the recorder (GPS or TAI time), images may have come
    late all along, or a recording may have been made of another one while it was played. None of
    that is a fault of the drive: the cameras' stamps have the word, and the bag's warnings say so.
    """
    delays = []
    for camera in settings.cameras:
        of_camera = [
            log_ns - stamp_ns(message.header.stamp) - camera.stamp_offset_ns
            for _, log_ns, message in islice(bag.messages([camera.topic]), MESSAGES)
        ]
        if of_camera:
            delays.append(median(of_camera))
    offset_ns = round(median(delays)) if delays else 0
    limits = settings.pipeline
    if -limits.future_tolerance_ns <= offset_ns <= limits.tick_deadline_ns:
        return 0
    way = "behind" if offset_ns > 0 else "ahead of"
    bag.warnings.append(
        f"{bag.path.name}: images' stamps are {abs(offset_ns) / NS_PER_S:.3f} s {way} the times at "
        "which they were recorded; taken as the recording's clock all the same"
    )
    return offset_ns
