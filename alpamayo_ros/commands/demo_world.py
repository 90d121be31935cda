"""The demo without a bag: world, planner, controller and recorder as real nodes, closed-loop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from alpamayo_ros.errors import UserError
from alpamayo_ros.parameters import PlannerSettings

START_UP_S = 30.0  # for four Python processes to start and find each other on a busy machine
SLOWEST = 4.0  # a machine that is too slow makes the world slower; this much is waited for
FRONT = "front_wide"


def drive(
    settings: PlannerSettings,
    params: Path | None,
    scenario: str,
    seed: int,
    seconds: float,
    out: Path,
) -> dict[str, Any]:
    """Run the nodes; the world's own figures. Raises UserError where a node failed."""
    from alpamayo_ros.processes import NodeProcess, ros_environment
    from alpamayo_ros.world.scenarios import make_scenario

    make_scenario(scenario, seed, seconds)  # refuses here what the node would refuse
    report = out / "world.json"
    report.unlink(missing_ok=True)
    files = _parameter_files(settings, scenario, seed, seconds, report, out)
    shutil.rmtree(out / "plans", ignore_errors=True)
    environment = ros_environment()

    def start(name: str, *more: str) -> NodeProcess:
        arguments = [*more, "--params-file", str(files[name])]
        return NodeProcess(f"{name}_node", arguments, environment, out / f"{name}.log")

    given = ["--params-file", str(params)] if params else []
    with (
        start("recorder") as recorder,
        start("planner", *given) as planner,
        start("controller") as controller,
        start("world") as world,
    ):
        print(f"driving {seconds:g} s of {scenario}-{seed} with {settings.model}", flush=True)
        world.wait(SLOWEST * seconds + 2 * START_UP_S)
        nodes = {
            "world": world,
            "controller": controller,
            "planner": planner,
            "recorder": recorder,
        }
        early = [n for n, node in nodes.items() if n != "world" and node.returncode is not None]
        codes = {name: node.stop() for name, node in nodes.items()}
    failed = early + [name for name, code in codes.items() if code != 0]
    if failed or not report.exists():
        name = failed[0] if failed else "world"
        node = nodes[name]
        raise UserError(f"{name} failed (exit code {codes[name]}), {node.log}:\n{node.tail()}")
    result: dict[str, Any] = json.loads(report.read_text())
    return result


def report_settings(settings: PlannerSettings) -> PlannerSettings:
    """What is recorded of the cameras: the front one, for the picture."""
    return replace(settings, cameras=tuple(c for c in settings.cameras if c.name == FRONT))


def _parameter_files(
    settings: PlannerSettings, scenario: str, seed: int, seconds: float, report: Path, out: Path
) -> dict[str, Path]:
    from alpamayo_ros.commands.demo import node_parameters
    from alpamayo_ros.world.messages import camera_topics

    names = ("trajectory", "candidates", "reasoning_trace", "status", "path")
    planned = [f"/planner/{name}" for name in names]
    recorded = [*planned, "/odom", "/tf_static", *camera_topics(FRONT), "/controller/command"]
    values: dict[str, dict[str, Any]] = {
        "recorder": {"use_sim_time": True, "bag": str(out / "plans"), "topics": recorded},
        "planner": {"use_sim_time": True, **node_parameters(settings)},
        "controller": {"use_sim_time": True},
        "world": {
            "scenario": scenario,
            "seed": seed,
            "seconds": seconds,
            "report": str(report),
            "wait_for_subscribers_s": START_UP_S,
        },
    }
    files = {}
    for name, content in values.items():
        files[name] = out / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump({"/**": {"ros__parameters": content}}))
    return files


def print_drive(world: dict[str, Any]) -> None:
    """How the drive went."""
    faults = f"{world['lane_departures']} lane departures, {len(world['collisions'])} collisions"
    if world["red_lights_run"]:
        faults += f", {len(world['red_lights_run'])} red lights run"
    ended = f"; ended early: {world['ended']}" if world["ended"] else ""
    print(f"driven            {world['progress_m']:.0f} m in {world['seconds']:.1f} s{ended}")
    print(f"                  {faults}")
    gap = "nothing near" if world["closest_gap_m"] is None else f"{world['closest_gap_m']:.2f} m"
    print(f"                  closest gap {gap}; at most {world['max_lateral_mps2']:.1f} m/s^2 "
          f"sideways, {world['max_braking_mps2']:.1f} braking")  # fmt: skip
    if world["plan_age_mean_ms"] is not None:
        print(f"plan age          mean {world['plan_age_mean_ms']:.0f} ms, "
              f"max {world['plan_age_max_ms']:.0f} ms, when followed")  # fmt: skip
