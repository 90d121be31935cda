"""A generated world: render drives through it, or drive it closed-loop.

examples:
  alpamayo world record --seconds 20 --out drive
  alpamayo world drive --model expert --scenarios all --seeds 1-20 --out drives
  alpamayo world faults
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alpamayo_ros.commands import world_drive, world_faults
from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.errors import UserError

_RECORD = """Render a drive to a rosbag2 (mcap): four cameras, odometry, CameraInfo and TF.

The same seed and options give the same recording, byte for byte of images and odometry.

examples:
  alpamayo world record --seconds 20 --out drive
  alpamayo world record --seconds 60 --seed 7 --camera-rate 30 --out drive7 --overwrite
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a use of the world."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    record = actions.add_parser(
        "record", help="render a drive to a rosbag2", description=_RECORD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    record.add_argument("--out", type=Path, required=True, metavar="BAG",
                        help="folder of the new bag, or a file that ends in .mcap")  # fmt: skip
    record.add_argument("--seconds", type=float, default=20.0, help="length (default 20)")
    record.add_argument("--seed", type=int, default=0, help="which world (default 0)")
    record.add_argument("--camera-rate", type=int, default=10, metavar="HZ",
                        help="frames a second of each camera, 1 to 60 (default 10)")  # fmt: skip
    record.add_argument("--size", default="576x320", metavar="WxH",
                        help="pixels of each image (default 576x320)")  # fmt: skip
    record.add_argument("--speed", type=float, metavar="M/S",
                        help="cruising speed, less in bends (default: 11, the limit)")  # fmt: skip
    record.add_argument("--overwrite", action="store_true", help="replace an existing bag")
    add_json_argument(record)
    record.set_defaults(run_action=_record)
    drive = actions.add_parser(
        "drive", help="drive closed-loop without ROS, and report",
        description=world_drive.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    world_drive.add_arguments(drive)
    drive.set_defaults(run_action=world_drive.run)
    faults = actions.add_parser(
        "faults", help="inject faults at speed, with and without the safety stage",
        description=world_faults.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    world_faults.add_arguments(faults)
    faults.set_defaults(run_action=world_faults.run)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    return int(args.run_action(args))


def _record(args: argparse.Namespace) -> int:
    from alpamayo_ros.world.record import RecordOptions, record  # loads OpenCV and the bag library

    width_px, height_px = _size(args.size)
    speed = {} if args.speed is None else {"cruise_mps": args.speed}
    options = RecordOptions(args.seconds, args.seed, args.camera_rate, width_px, height_px, **speed)
    progress = Progress("rendering", options.seconds, "s")
    try:
        result = record(args.out, options, overwrite=args.overwrite, progress=progress.update)
    finally:
        progress.close()
    if str(args.json) != "-":
        print(f"{result['path']}: {result['seconds']:g} s, {result['messages']} messages, "
              f"{result['bytes'] / 1e6:.1f} MB, rendered in {result['wall_s']:g} s")  # fmt: skip
        speed = result["speed_mps"]
        print(f"  {result['distance_m']:.0f} m at {speed['min']:.1f} to {speed['max']:.1f} m/s; "
              f"{', '.join(result['cameras'])} at {result['camera_rate_hz']} Hz")  # fmt: skip
        print(f"  plan on it:  alpamayo replay {result['path']} --out plans")
        print(f"  look at it:  ros2 bag play {result['path']}   (or open it in Foxglove)")
    write_json(args.json, result)
    return 0


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UserError(f"size {text!r} is not WIDTHxHEIGHT, such as 576x320")
    return int(width), int(height)
