"""`alpamayo world drive`: closed-loop drives without ROS, as fast as they go."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json
from alpamayo_ros.commands.replay import make_folder
from alpamayo_ros.errors import UserError

DESCRIPTION = """Drive closed-loop without ROS: world, sensors, model, controller, and a report.

The same scenario and seed give the same drive, in any order and number of jobs. Every failure gets
a picture in --out. Cameras are rendered only for models that look.

examples:
  alpamayo world drive --model expert --scenarios all --seeds 1-20 --out drives
  alpamayo world drive --model kinematic --scenarios straight,lead --seeds 3 --seconds 30
"""
_COLUMNS = (
    ("runs", "runs", "{}"),
    ("clean", "clean", "{}"),
    ("progress_m", "progress m", "{:.0f}"),
    ("lane_departures", "departures", "{}"),
    ("collisions", "collisions", "{}"),
    ("red_lights_run", "red run", "{}"),
    ("closest_gap_m", "gap m", "{:.2f}"),
    ("max_braking_mps2", "brake", "{:.1f}"),
    ("max_lateral_mps2", "lateral", "{:.1f}"),
    ("jerk_p99_mps3", "jerk", "{:.1f}"),
    ("plan_age_mean_ms", "age ms", "{:.0f}"),
    ("safety_interventions", "safety", "{}"),
)
MAX_SEEDS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to drive, with what, how."""
    parser.add_argument("--model", default="expert", metavar="NAME",
                        help="a model's name or manifest, or expert (default)")  # fmt: skip
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                        help="overrides an option of the manifest: threads=1")  # fmt: skip
    parser.add_argument("--scenarios", default="all", metavar="LIST",
                        help="all, no-traffic, traffic or names such as free,lead")  # fmt: skip
    parser.add_argument(
        "--seeds", default="1-20", metavar="RANGE", help="1-20, or 3,5 (default 1-20)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each drive (default 60)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for report.json and pictures")
    parser.add_argument("--jobs", type=int, default=0, metavar="N",
                        help="processes (default: one a core)")  # fmt: skip
    parser.add_argument("--latency-ms", type=float, default=60.0, metavar="MS",
                        help="from t0 to the plan in the controller (default 60)")  # fmt: skip
    parser.add_argument("--black-cameras", action="store_true",
                        help="all images black: does the model look at all?")  # fmt: skip
    parser.add_argument("--no-safety", action="store_true",
                        help="plans reach the controller unchecked")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="exit 1 unless every drive is clean")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Drive, then report."""
    from alpamayo_ros.jobs import cores
    from alpamayo_ros.world.campaign import Campaign, run_campaign, summarise

    if not 0.0 <= args.latency_ms <= 500.0:
        raise UserError(f"--latency-ms is {args.latency_ms:g}, wanted 0 to 500")
    if args.jobs < 0:
        raise UserError(f"--jobs is {args.jobs}, wanted a number of processes, or 0 for all cores")
    campaign = Campaign(
        args.model,
        kinds_of(args.scenarios),
        seeds_of(args.seeds),
        args.seconds,
        args.out,
        args.black_cameras,
        args.latency_ms,
        not args.no_safety,
        tuple(map(model_option, args.option)),
    )
    if args.out is not None:
        make_folder(args.out)
    jobs = min(args.jobs or cores(), len(campaign.drives))
    started = time.perf_counter()
    progress = Progress("driving", len(campaign.drives), "drives")
    done = 0

    def on_result(_: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        progress.update(done)

    try:
        results = run_campaign(campaign, jobs, on_result)
    finally:
        progress.close()
    wall_s = time.perf_counter() - started
    content = {
        "model": args.model,
        "black_cameras": args.black_cameras,
        "latency_ms": args.latency_ms,
        "safety": not args.no_safety,
        "seconds": args.seconds,
        "summary": summarise(results),
        "drives": results,
    }
    if args.out is not None:
        write_json(args.out / "report.json", content)
    write_json(args.json, {**content, "wall_s": round(wall_s, 1), "jobs": jobs})
    if str(args.json) != "-":
        _print(content, wall_s, args.out)
    clean = all(result["clean"] for result in results)
    return 1 if args.check and not clean else 0


def kinds_of(text: str) -> tuple[str, ...]:
    """Scenarios by name or group. Raises UserError naming them."""
    from alpamayo_ros.world.campaign import KIND_GROUPS
    from alpamayo_ros.world.scenario import KINDS

    kinds: list[str] = []
    for name in text.split(","):
        if name not in KIND_GROUPS and name not in KINDS:
            known = ", ".join((*KIND_GROUPS, *KINDS))
            raise UserError(f"no scenario {name!r}; --scenarios takes {known}")
        kinds.extend(KIND_GROUPS.get(name, (name,)))
    return tuple(dict.fromkeys(kinds))


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds of "1-20" or "3,5". Raises UserError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--seeds {text!r} is no list of seeds, such as 1-20 or 3,5")
        end = int(last) if dash else int(first)
        if not int(first) <= end < int(first) + MAX_SEEDS:
            raise UserError(f"--seeds {part!r} is no range of at most {MAX_SEEDS} seeds")
        seeds.extend(range(int(first), end + 1))
    return tuple(dict.fromkeys(seeds))


def _print(content: dict[str, Any], wall_s: float, out: Path | None) -> None:
    print(f"{'scenario':12}" + "".join(f"{title:>11}" for _, title, _ in _COLUMNS))
    for kind, row in content["summary"].items():
        cells = [
            "-" if row[name] is None else shape.format(row[name]) for name, _, shape in _COLUMNS
        ]
        print(f"{kind:12}" + "".join(f"{cell:>11}" for cell in cells))
    print(
        "gap: closest, brake, lateral (m/s^2) and jerk (m/s^3, p99 of a drive): the worst drive's; "
        "safety: plans that the safety stage changed, held or replaced"
    )
    driven_s = sum(result["seconds"] for result in content["drives"])
    print(
        f"{driven_s:.0f} s driven in {wall_s:.0f} s, {driven_s / max(wall_s, 1e-9):.0f} x real time"
    )
    failed = [result for result in content["drives"] if not result["clean"]]
    for result in failed[:12]:
        what = result["ended"] or ", ".join(
            (["lane departure"] if result["lane_departures"] else [])
            + [f"{name} run on red" for name in result["red_lights_run"]]
        )
        picture = f": {out / result['picture']}" if out and result["picture"] else ""
        name, at_s = f"{result['scenario']}-{result['seed']}", result["first_fault_s"]
        print(f"  {name}: {what} at {at_s:.1f} s{picture}")
    if len(failed) > 12:
        print(f"  and {len(failed) - 12} more" + (f" in {out / 'report.json'}" if out else ""))
