"""Drive a generated world with real nodes, or play a drive to them; score and draw their plans.

Without --bag closed-loop, four processes over DDS: world, planner, controller, recorder. With --bag
three: player, planner, recorder; topics are taken by type and name where the planner's defaults
are not in the bag.

examples:
  alpamayo demo
  alpamayo demo --scenario lead --seed 3 --seconds 30
  alpamayo demo --bag my_recording --seconds 30
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from alpamayo_ros.commands.common import add_json_argument, write_json
from alpamayo_ros.commands.replay import (
    add_planner_arguments,
    make_folder,
    planner_settings,
    print_errors,
)
from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.parameters import PlannerSettings

CLOSED_LOOP_MODEL = "student_light"
START_UP_S = 30.0  # for three Python processes to start and find each other on a busy machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to play, for how long, where the results go."""
    parser.add_argument("--bag", type=Path, help="a rosbag2 of yours (default: closed-loop)")
    parser.add_argument("--scenario", default="free", metavar="KIND",
                        help="what to drive closed-loop (default free)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the scenario (default 1)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of driving (default 15)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR",
                        help="for the results (default out/demo)")  # fmt: skip
    parser.add_argument("--picture", type=Path, metavar="PATH",
                        help=".png or .jpg (default: overview.png in --out)")  # fmt: skip
    add_planner_arguments(parser, f"{CLOSED_LOOP_MODEL} closed-loop, kinematic on a bag")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the nodes on a bag or in the world, report."""
    from alpamayo_ros.processes import require_ros

    require_ros()
    args.picture = args.picture or args.out / "overview.png"
    if args.picture.suffix not in (".png", ".jpg"):
        raise UserError(f"--picture is {args.picture}, wanted a name that ends in .png or .jpg")
    if not args.seconds > 0:
        raise UserError(f"--seconds is {args.seconds:g}, wanted a number > 0")
    make_folder(args.out)
    content = _closed_loop(args) if args.bag is None else _on_bag(args)
    write_json(args.out / "report.json", content)
    write_json(args.json, content)
    if str(args.json) != "-":
        _print(content, args.out)
    return 0 if content["plans"] else 1


def _on_bag(args: argparse.Namespace) -> dict[str, Any]:
    """Player, planner and recorder on a recording."""
    from alpamayo_ros.bags.reader import BagReader

    with BagReader(args.bag) as bag:
        settings = _settings_for(bag, planner_settings(args), args)
        _check_model(settings)
        seconds = min(args.seconds, (bag.end_ns - bag.start_ns) / 1e9)
        _run_nodes(args.bag, settings, args.params, seconds, args.out)
        title = f"{bag.path.resolve().name}: "
        return _report(bag, settings, args, title)


def _closed_loop(args: argparse.Namespace) -> dict[str, Any]:
    """World, planner, controller and recorder."""
    from alpamayo_ros.bags.reader import BagReader
    from alpamayo_ros.commands import demo_world

    if not (args.model or args.params):
        args.model = CLOSED_LOOP_MODEL
    settings = planner_settings(args)
    _check_model(settings)
    world = demo_world.drive(
        settings, args.params, args.scenario, args.seed, args.seconds, args.out
    )
    with BagReader(args.out / "plans") as bag:
        title = f"{args.scenario}-{args.seed}, closed-loop: "
        content = _report(bag, demo_world.report_settings(settings), args, title)
    return {**content, "world": world}


def _check_model(settings: PlannerSettings) -> None:
    """Raises ModelError for what the doctor finds: a node that cannot load its model stays up and
    waits, and so would we."""
    from alpamayo_ros.doctor import libraries, model
    from alpamayo_ros.doctor.findings import Level

    asked = settings.model, settings.model_options
    found = [*model.check_model(*asked, with_hashes=False)]
    if model.needs_gpu(*asked):
        found += libraries.gpu(is_needed=True)
    faults = [f"{f.what}\n  {f.remedy}" for f in found if f.level == Level.ERROR]
    if faults:
        raise ModelError("\n".join(faults))


def _settings_for(bag: Any, settings: PlannerSettings, args: argparse.Namespace) -> PlannerSettings:
    """Settings that fit this bag, saying what was chosen where it is not what was configured."""
    from alpamayo_ros.bags.context import read_context
    from alpamayo_ros.bags.inputs import first_child_frame, guess_inputs

    chosen = guess_inputs(bag, settings, bool(args.camera), bool(args.odometry))
    if chosen != settings:
        for camera in chosen.cameras:
            print(f"camera {camera.name}: {camera.topic}")
        print(f"odometry: {chosen.odometry_topic}")
    try:
        read_context(bag, chosen)
    except UserError:
        child = first_child_frame(bag, chosen)
        if not child:
            raise
        print(f"no transform to {chosen.rig_frame}: plans are made for odometry's own {child}")
        chosen = replace(chosen, rig_frame=child)
    return chosen


def _run_nodes(
    bag: Path, settings: PlannerSettings, params: Path | None, seconds: float, out: Path
) -> None:
    """Player, planner and recorder as processes, until the player is through."""
    from alpamayo_ros.processes import NodeProcess, ros_environment

    parameters = out / "planner.yaml"
    parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": node_parameters(settings)}}))
    files = [*([params] if params else []), parameters]  # the later one wins
    from_files = [word for file in files for word in ("--params-file", str(file))]
    shutil.rmtree(out / "plans", ignore_errors=True)
    sim_time = ["-p", "use_sim_time:=true"]
    environment = ros_environment()
    with (
        NodeProcess(
            "recorder_node",
            [*sim_time, "-p", f"bag:={out / 'plans'}"],
            environment,
            out / "recorder.log",
        ) as recorder,
        NodeProcess(
            "planner_node",
            [*sim_time, *from_files],
            environment,
            out / "planner.log",
        ) as planner,
        NodeProcess(
            "player_node",
            ["-p", f"bag:={bag}", "-p", f"seconds:={seconds}",
             "-p", f"wait_for_subscribers_s:={START_UP_S}"],
            environment,
            out / "player.log",
        ) as player,
    ):  # fmt: skip
        print(f"playing {seconds:.1f} s of {bag} through planner_node", flush=True)
        player.wait(seconds + 2 * START_UP_S)
        nodes = {"player": player, "planner": planner, "recorder": recorder}
        early = [name for name in ("planner", "recorder") if nodes[name].returncode is not None]
        codes = {name: node.stop() for name, node in nodes.items()}
    failed = early + [name for name, code in codes.items() if code != 0]
    if failed:
        node = nodes[failed[0]]
        raise UserError(
            f"{failed[0]} failed (exit code {codes[failed[0]]}), {node.log}:\n{node.tail()}"
        )


def node_parameters(settings: PlannerSettings) -> dict[str, Any]:
    """The planner's parameters that the bag and the command line decided."""
    values: dict[str, Any] = {
        "autostart": True,
        "model": settings.model,
        "camera_names": [camera.name for camera in settings.cameras],
        "camera_topics": [camera.topic for camera in settings.cameras],
        "image_transports": ["auto"],
        "odometry_topic": settings.odometry_topic,
        "rig_frame": settings.rig_frame,
    }
    if settings.model_options:  # ROS cannot tell the type of an empty list
        values["model_options"] = [
            f"{key}={json.dumps(value, default=str)}"
            for key, value in settings.model_options.items()
        ]
    return values


def _report(
    bag: Any, settings: PlannerSettings, args: argparse.Namespace, title: str
) -> dict[str, Any]:
    from alpamayo_ros.bags.context import read_context
    from alpamayo_ros.bags.recorded import read_plans
    from alpamayo_ros.bags.report import draw_report, percentiles

    recorded = read_plans(args.out / "plans")
    context = read_context(bag, settings)
    for plan in recorded.plans:
        context.scorer.add_plan(plan.t0_ns, plan.xyz_in_rig_t0)
    title += recorded.model or settings.model
    due_ns = recorded.rejected_due_ns
    draw_report(recorded.plans, due_ns, context, settings, bag, args.picture, title)
    scores = context.scorer.scores()
    nothing = {"p50": None, "p99": None, "max": None}
    return {
        "bag": str(bag.path),
        "model": recorded.model,
        "plans": len(recorded.plans),
        "rate_hz": recorded.rate_hz if len(recorded.plans) > 1 else None,
        "rejections": dict(recorded.reasons),
        "dropped": recorded.dropped,
        "latency_ms": percentiles(recorded.latency_ms) if recorded.latency_ms else nothing,
        "data_age_ms": percentiles(recorded.data_age_ms) if recorded.data_age_ms else nothing,
        "scored_instants": scores["scored"],
        "ade_m": scores["ade_m"],
        "fde_m": scores["fde_m"],
        "picture": str(args.picture),
    }


def _print(content: dict[str, Any], out: Path) -> None:
    if not content["plans"]:
        print(f"no plan was published; see {out / 'planner.log'}")
    rejected = ", ".join(f"{name} {n}" for name, n in sorted(content["rejections"].items()))
    rate = f" at {content['rate_hz']:.2f} Hz" if content["rate_hz"] else ""
    print(f"plans published   {content['plans']}{rate}, {content['dropped']} samples dropped")
    print(f"ticks rejected    {rejected or 'none'}")
    for key, text in (
        ("latency_ms", "camera to path    last arrival to published:"),
        ("data_age_ms", "                  exposure (t0) to published:"),
    ):
        row = content[key]
        if row["p50"] is not None:
            print(f"{text} p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms")
    if "world" in content:
        from alpamayo_ros.commands.demo_world import print_drive

        print_drive(content["world"])
    print_errors(content)
    print(f"picture           {content['picture']}")
