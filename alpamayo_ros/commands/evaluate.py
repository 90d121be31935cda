"""Score planners on recordings: errors at six horizons, comfort, agreement, with intervals.

Beside them always stand constant velocity, constant turn rate, standing still, and each model that
looks on black images. Writes summary.json (planner -> metric -> horizon -> value, low, high),
report.json (groups, counts, latency), rows.parquet, timing.parquet and report.html. A run that was
killed goes on where it was when the same command is given again.

examples:
  alpamayo evaluate --bags drive --out scores
  alpamayo evaluate --bags drives/* --planners kinematic,tiny15/manifest.yaml --out scores --jobs 4
  alpamayo evaluate --bags /nfs/drives/* --planners my.yaml --out scores --ray auto
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json
from alpamayo_ros.commands.replay import add_input_arguments, make_folder, planner_settings
from alpamayo_ros.errors import UserError

if TYPE_CHECKING:
    from alpamayo_ros.evaluation.shards import Job


_SHOWN_BAGS = 10  # on the terminal; report.html has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to score, on what, where the results go."""
    parser.add_argument(
        "--bags", type=Path, nargs="+", required=True, metavar="BAG",
        help="rosbag2 folders, .mcap or .db3 files",
    )  # fmt: skip
    parser.add_argument(
        "--planners", default="kinematic", metavar="LIST",
        help="models' names or manifests, separated by commas (default: kinematic)",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="[NAME:]KEY=VALUE",
        help="overrides an option of a model's manifest: of the model NAME, or of all",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="processes (default: one a core; 1 for a model that fills a GPU or the cores by "
        "itself), or workers of the cluster at most",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS",
        help="run on a Ray cluster instead: its address, auto, or local",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the bootstrap intervals (default 0)"
    )
    add_input_arguments(parser)
    parser.set_defaults(model=None)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, then report."""
    from alpamayo_ros.backends.placement import machines_for
    from alpamayo_ros.backends.registry import create_for
    from alpamayo_ros.evaluation import tables
    from alpamayo_ros.evaluation.campaign import entrants, jobs_of, run_jobs
    from alpamayo_ros.evaluation.results import collect, write_results

    started_s = time.perf_counter()
    tables.need_pyarrow()
    if args.jobs < 0:
        raise UserError(f"--jobs is {args.jobs}, wanted a number of processes, or 0 for all cores")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, wanted 0 or more")
    models = [name for name in args.planners.split(",") if name]
    if not models:
        raise UserError("--planners is empty; name models, such as kinematic")
    of_models, args.option = args.option, []
    settings = planner_settings(args)
    contenders = entrants(models, settings, [_option(entry) for entry in of_models])
    loaded = [create_for(one.settings) for one in contenders if one.is_model and not one.black]
    machines = machines_for(loaded, args.jobs, args.ray or "")
    labels = _labels(args.bags)
    jobs = jobs_of(contenders, labels)
    make_folder(args.out)
    progress = Progress("evaluating", len(jobs), "runs of a planner on a bag")
    done = 0

    def on_result(_: Job) -> None:
        nonlocal done
        done += 1
        progress.update(done)

    try:
        results = run_jobs(jobs, args.out / "shards", machines, on_result)
    finally:
        progress.close()
    order = [one.label for one in contenders if one.is_model]
    evaluation = collect(jobs, results, labels, order)
    content = write_results(evaluation, args.out, args.seed, settings, started_s)
    write_json(args.json, content)
    if str(args.json) != "-":
        _print(content, args.out)
    for label, reason in content["failed_bags"].items():
        print(f"alpamayo evaluate: {label} left out: {reason}", file=sys.stderr)
    return 1 if content["failed_bags"] or not content["instants"] else 0


def _option(entry: str) -> tuple[str, str, Any]:
    """[NAME:]KEY=VALUE as model (empty: all), option and value. Raises UserError."""
    name, colon, rest = entry.partition(":")
    if not colon or "=" in name:  # a colon of the value
        name, rest = "", entry
    key, value = model_option(rest)
    return name, key, value


def _labels(paths: list[Path]) -> dict[str, Path]:
    """Each bag under its name; under its path where another has the same name."""
    unique = list(dict.fromkeys(path.resolve() for path in paths))
    names = [path.name for path in unique]
    return {
        name if names.count(name) == 1 else str(path): path for name, path in zip(names, unique)
    }


def _print(content: dict[str, Any], out: Path) -> None:
    """ADE of everyone, and where the rest is."""
    from alpamayo_ros.evaluation.html import not_scored, took

    if not content["instants"]:
        print("no instant at which every planner has a plan and 6.4 s of odometry follow")
    else:
        print(f"ADE in m over {content['instants']} instants of {len(content['bags'])} bags")
        width = max(len(name) for name in content["planners"]) + 2
        first = next(iter(content["summary"].values()))
        horizons = list(first["ade_m"])
        print(f"  {'':{width}}" + "".join(f"{horizon + ' s':>9}" for horizon in horizons)
              + f"{'FDE 6.4 s':>12}{'95 %':>22}")  # fmt: skip
        for name, metrics in content["summary"].items():
            cells = "".join(f"{metrics['ade_m'][horizon]['value']:9.3f}" for horizon in horizons)
            final = metrics["fde_m"]["6.4"]
            interval = f"{final['low']:.3f} to {final['high']:.3f}"
            print(f"  {name:{width}}{cells}{final['value']:12.3f}{interval:>22}")
    for name, missing in content["without_plan"].items():
        print(f"  {name} has no plan at " + ", ".join(f"{n} ({why})" for why, n in missing.items()))
    for line in not_scored(content)[:_SHOWN_BAGS]:
        print(f"  {line}")
    for note in content["notes"]:
        print(f"note: {note}")
    print(took(content["duration"]))
    print(out / "report.html")
