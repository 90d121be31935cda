"""A recording with its plans as a video, or one instant of it as a picture.

Every camera with the planned path on it, by its CameraInfo and /tf_static; the surroundings from
above, speed and curvature, decisions and reasoning. Blue is planned, green lines are the other
candidates, orange is what the vehicle did. 1280 x 720, as many pictures a second as the front
camera has.

PLANS is what `alpamayo replay` wrote, or the recording of a planner node; without it the bag's own
/planner topics are shown, or with --model plans are made for it.

examples:
  alpamayo render drive plans/plans.mcap --out drive.mp4
  alpamayo render drive --model kinematic --out drive.mp4
  alpamayo render drive plans/plans.mcap --at 5 --out instant.png
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.commands.replay import add_planner_arguments, planner_settings
from alpamayo_ros.errors import UserError

if TYPE_CHECKING:
    from alpamayo_ros.bags.moments import Moments
    from alpamayo_ros.bags.shown import ShownPlans
    from alpamayo_ros.parameters import PlannerSettings
    from alpamayo_ros.viz.dashboard import Dashboard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to show, and where to."""
    parser.add_argument("bag", type=Path, help="a rosbag2 folder, an .mcap or a .db3 file")
    parser.add_argument("plans", type=Path, nargs="?", help="a recording of the planner's topics")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH",
                        help="an .mp4; with --at a .png or .jpg")  # fmt: skip
    parser.add_argument("--at", type=float, metavar="S",
                        help="one picture: the first frame from S seconds on")  # fmt: skip
    parser.add_argument("--planner", default="/planner", metavar="NAME",
                        help="whose topics are shown (default /planner)")  # fmt: skip
    add_planner_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Draw a video or a picture; exit code 1 where there was no instant to draw."""
    from alpamayo_ros.bags.context import read_context
    from alpamayo_ros.bags.film import film
    from alpamayo_ros.bags.inputs import guess_inputs
    from alpamayo_ros.bags.moments import Moments
    from alpamayo_ros.bags.reader import BagReader
    from alpamayo_ros.viz.dashboard import Dashboard
    from alpamayo_ros.viz.video import need_av

    endings = (".mp4",) if args.at is None else (".png", ".jpg")
    if args.out.suffix not in endings:
        raise UserError(f"--out {args.out} does not end in {' or '.join(endings)}")
    if args.plans is not None and args.model:
        raise UserError("PLANS are shown, --model makes plans: give one of them")
    if args.at is None:
        need_av()
    settings = planner_settings(args)
    plans = _plans(args, settings)
    with BagReader(args.bag) as bag:
        # To look at a drive one camera will do.
        asked, settings = (
            settings,
            guess_inputs(bag, settings, bool(args.camera), bool(args.odometry)),
        )
        for camera in settings.cameras:
            if camera.topic not in {other.topic for other in asked.cameras}:
                print(f"camera {camera.name}: {camera.topic}", file=sys.stderr)
        moments = Moments(bag, settings, read_context(bag, settings), plans)
        names = [camera.name for camera in moments.cameras]
        title = f"{args.bag.resolve().name}   {plans.model}"
        dashboard = Dashboard(names, moments.track.limits, title)
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        if args.at is not None:
            return _picture(args, moments, dashboard)
        progress = Progress("drawing", seconds, "s")
        try:
            result = film(args.out, moments, dashboard, progress.update)
        finally:
            progress.close()
    write_json(args.json, result)
    if str(args.json) != "-":
        print(
            f"{args.out}: {result['pictures']} pictures of {result['drive_s']:.1f} s in "
            f"{result['wall_s']:.1f} s, {result['times_real_time']:.2f} times real time"
        )
    return 0 if result["pictures"] else 1


def _plans(args: argparse.Namespace, settings: PlannerSettings) -> ShownPlans:
    """Those of a recording, or with --model new ones."""
    from alpamayo_ros.backends.registry import create_for
    from alpamayo_ros.bags.replay import replay
    from alpamayo_ros.bags.shown import read_shown_plans

    if not args.model:
        return read_shown_plans(args.plans or args.bag, args.planner)
    backend = create_for(settings)
    backend.load()
    backend.warm_up([camera.name for camera in settings.cameras])
    print(f"loaded {backend.manifest.introduction()}", file=sys.stderr)
    with TemporaryDirectory(prefix="alpamayo-") as folder:
        path = Path(folder) / "plans.mcap"
        try:
            replay(args.bag, settings, backend, path)
        finally:
            backend.close()
        return read_shown_plans(path)


def _picture(args: argparse.Namespace, moments: Moments, dashboard: Dashboard) -> int:
    from alpamayo_ros.viz.canvas import save_picture

    if args.at < 0:
        raise UserError(f"--at {args.at:g} is before the first frame")
    for moment in islice(moments.all(dashboard.panel_size, from_s=args.at), 1):
        save_picture(args.out, dashboard.draw(moment))
        write_json(args.json, {"time_s": moment.time_s, "planned": moment.plan is not None})
        if str(args.json) != "-":
            print(args.out)
        return 0
    raise UserError(f"{args.bag} has no frame of {moments.cameras[0].name} from {args.at:g} s on")
