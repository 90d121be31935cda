"""Plan on a recording at full speed, without ROS, and score the plans against its odometry.

Writes plans.mcap (the messages that the node publishes), report.json and overview.png.

examples:
  alpamayo replay drive --out plans
  alpamayo replay drive --out plans --model kinematic --params config/planner.yaml
  alpamayo replay drive --out plans --option max_acceleration_mps2=1.5
  alpamayo replay drive --out plans --camera front_wide=/cam0/image_raw --odometry /odom
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.errors import UserError
from alpamayo_ros.odometry import TWIST_SOURCES
from alpamayo_ros.parameters import PlannerSettings, read_parameter_file, settings_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to plan on, with what, and where the results go."""
    parser.add_argument("bag", type=Path, help="a rosbag2 folder, an .mcap or a .db3 file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    add_planner_arguments(parser)
    add_json_argument(parser)


def add_planner_arguments(parser: argparse.ArgumentParser, default: str = "kinematic") -> None:
    """How to plan: --model, --option, and what the topics are."""
    parser.add_argument("--model", help=f"a model's name or manifest (default: {default})")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="overrides an option of the model's manifest; may be given repeatedly",
    )
    add_input_arguments(parser)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """What a recording has: --params, --camera, --odometry, --odometry-twist, --rig-views."""
    parser.add_argument("--params", type=Path, metavar="FILE", help="a ROS parameter file")
    parser.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME=TOPIC",
        help="a camera's topic; replaces all cameras of the parameters; may be given repeatedly",
    )
    parser.add_argument("--odometry", metavar="TOPIC", help="the odometry's topic")
    parser.add_argument(
        "--odometry-twist",
        choices=TWIST_SOURCES,
        help="poses: speed by odometry's poses, where its twist is never filled",
    )
    parser.add_argument(
        "--rig-views",
        metavar="NAME",
        help="reproject images to these views, see parameter rig_views: alpamayo, world or a file",
    )


def planner_settings(args: argparse.Namespace) -> PlannerSettings:
    """Settings from --params, with what else the command line says on top. Raises SettingsError."""
    values: dict[str, Any] = read_parameter_file(args.params) if args.params else {}
    if args.model:
        values["model"] = args.model
    of_file = values.get("model_options", [])
    if args.option and isinstance(of_file, list):  # another type is for settings_from to refuse
        values["model_options"] = [*of_file, *args.option]
    if args.odometry:
        values["odometry_topic"] = args.odometry
    if args.odometry_twist:
        values["odometry_twist"] = args.odometry_twist
    if args.rig_views:
        values["rig_views"] = args.rig_views
    if args.camera:
        pairs = [entry.partition("=") for entry in args.camera]
        if not all(name and topic for name, _, topic in pairs):
            raise UserError(f"--camera wants NAME=TOPIC, got {' '.join(args.camera)}")
        values["camera_names"] = [name for name, _, _ in pairs]
        values["camera_topics"] = [topic for _, _, topic in pairs]
        for name in ("image_transports", "camera_stamp_offsets_ms", "camera_info_topics"):
            values.pop(name, None)
    return settings_from(values)


def run(args: argparse.Namespace) -> int:
    """Replay, then report."""
    from alpamayo_ros.backends.registry import create_for
    from alpamayo_ros.bags.reader import BagReader
    from alpamayo_ros.bags.replay import replay
    from alpamayo_ros.bags.report import draw_report, drawn_plans, report

    settings = planner_settings(args)
    backend = create_for(settings)
    with BagReader(args.bag) as bag:
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        backend.load()
        backend.warm_up([camera.name for camera in settings.cameras])
        print(f"loaded {backend.manifest.introduction()}", file=sys.stderr)
        make_folder(args.out)
        progress = Progress("planning", seconds, "s")
        try:
            result = replay(args.bag, settings, backend, args.out / "plans.mcap", progress.update)
        finally:
            progress.close()
            backend.close()
        content = report(result, backend.manifest, args.bag)
        write_json(args.out / "report.json", content)
        title = f"{args.bag.resolve().name}: {backend.manifest.name}"
        due_ns = [rejection.due_ns for rejection in result.rejections]
        picture = args.out / "overview.png"
        draw_report(drawn_plans(result), due_ns, result.context, settings, bag, picture, title)
    write_json(args.json, content)
    if str(args.json) != "-":
        print_report(content, args.out)
    return 0 if content["plans"] else 1


def make_folder(path: Path) -> None:
    """Create a folder for results. Raises UserError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make folder {path}: {error.strerror}") from error


def print_report(content: dict[str, Any], out: Path) -> None:
    """The report as a short table."""
    for warning in content["warnings"]:
        print(f"note: {warning}")
    rejected = ", ".join(f"{reason} {n}" for reason, n in sorted(content["rejections"].items()))
    print(f"{content['plans']} plans at {content['instants']} instants by {content['model']}")
    if content["model_note"]:
        print(f"note: {content['model_note']}")
    print(f"rejected: {rejected or 'none'}")
    if not content["plans"]:
        for first in content["first_rejections"].values():
            print(f"  first {first}")
    for camera, share in content["view_coverage"].items():
        print(f"{camera} covers {100 * share:.0f} % of the model's view; the rest is black")
    print_errors(content)
    print(f"{out / 'plans.mcap'}\n{out / 'report.json'}\n{out / 'overview.png'}")


def print_errors(content: dict[str, Any]) -> None:
    """ADE of the planner beside its baselines."""
    if not content["scored_instants"]:
        print("no instant has its whole 6.4 s future in the recording: nothing to score")
        return
    horizons = list(content["ade_m"]["planner"])
    print(f"ADE in m over {content['scored_instants']} instants, against the bag's own odometry")
    print(f"  {'':18}" + "".join(f"{horizon + ' s':>9}" for horizon in horizons))
    for name, row in content["ade_m"].items():
        cells = "".join(f"{row[horizon]:9.3f}" for horizon in horizons)
        print(f"  {name.replace('_', ' '):18}{cells}")
