"""Many closed-loop drives, in several processes; the results do not depend on their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.jobs import Machines, run_all
from alpamayo_ros.safety.limits import load_vehicle
from alpamayo_ros.safety.rulings import SafetySettings
from alpamayo_ros.viz.canvas import save_picture
from alpamayo_ros.world.closed_loop import Camera, ClosedLoop, LoopOptions
from alpamayo_ros.world.planners import load_model
from alpamayo_ros.world.scenario import KINDS, KINDS_WITH_TRAFFIC, KINDS_WITHOUT_TRAFFIC, Scenario
from alpamayo_ros.world.scenarios import make_scenario

Result = dict[str, Any]
KIND_GROUPS = {
    "all": KINDS,
    "no-traffic": KINDS_WITHOUT_TRAFFIC,
    "traffic": KINDS_WITH_TRAFFIC,
}


@dataclass(frozen=True)
class Campaign:
    """What to drive, with whom, and where pictures of failures go."""

    model: str
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float
    out: Path | None = None
    black_cameras: bool = False
    latency_ms: float = 60.0
    safety: bool = True
    options: tuple[tuple[str, Any], ...] = ()  # over those of the model's manifest

    @property
    def drives(self) -> list[tuple[str, int]]:
        """(kind, seed), in the order of the report."""
        return [(kind, seed) for kind in self.kinds for seed in self.seeds]


def run_campaign(
    campaign: Campaign, jobs: int, on_result: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Results in the order of `campaign.drives`; `on_result` hears each as it is there."""
    results: dict[int, Result] = {}
    for index, result in run_all(_Drives(campaign), campaign.drives, Machines(jobs)):
        results[index] = result
        on_result(result)
    return [results[index] for index in range(len(campaign.drives))]


@dataclass(frozen=True)
class _Drives:
    """Whatever process drives."""

    campaign: Campaign

    def open(self) -> PlannerBackend | None:
        """Who plans."""
        return load_model(self.campaign.model, dict(self.campaign.options))

    def do(self, opened: PlannerBackend | None, item: tuple[str, int]) -> Result:
        """One drive."""
        return _drive(self.campaign, opened, *item)

    def close(self, opened: PlannerBackend | None) -> None:
        """Give back the model."""
        if opened is not None:
            opened.close()


def _drive(campaign: Campaign, backend: PlannerBackend | None, kind: str, seed: int) -> Result:
    scenario = make_scenario(kind, seed, campaign.seconds)
    safety = SafetySettings(load_vehicle()) if campaign.safety else None
    options = LoopOptions(latency_ns=round(campaign.latency_ms * 1e6), safety=safety)
    looks = backend is not None and backend.manifest.uses_images and not campaign.black_cameras
    with _camera(scenario, looks) as camera:
        loop = ClosedLoop(scenario, backend, camera, options)
        score = loop.run()
    result = score.result()
    result["safety"] = dict(loop.safety_actions)
    result["picture"] = None
    if loop.fault is not None and campaign.out is not None:
        from alpamayo_ros.world.picture import failure_picture

        path = campaign.out / f"{scenario.name}.png"
        save_picture(path, failure_picture(scenario, score, loop.fault, campaign.model))
        result["picture"] = path.name
    return result


@contextmanager
def _camera(scenario: Scenario, looks: bool) -> Iterator[Camera | None]:
    """A renderer of the scenario, for models that look."""
    if not looks:
        yield None
        return
    from alpamayo_ros.world.views import WorldCameras

    with WorldCameras(scenario) as cameras:
        yield cameras.images


def summarise(results: Sequence[Result]) -> dict[str, Result]:
    """Per kind, and over all."""
    kinds = list(dict.fromkeys(result["scenario"] for result in results))
    rows = {kind: _row([r for r in results if r["scenario"] == kind]) for kind in kinds}
    if len(kinds) > 1:
        rows["all"] = _row(results)
    return rows


def _row(results: Sequence[Result]) -> Result:
    gaps = [r["closest_gap_m"] for r in results if r["closest_gap_m"] is not None]
    ages = [r["plan_age_mean_ms"] for r in results if r["plan_age_mean_ms"] is not None]

    def worst(name: str) -> float:
        return max(r[name] for r in results)

    return {
        "runs": len(results),
        "clean": sum(r["clean"] for r in results),
        "progress_m": round(sum(r["progress_m"] for r in results) / len(results), 1),
        "lane_departures": sum(r["lane_departures"] for r in results),
        "collisions": sum(len(r["collisions"]) for r in results),
        "red_lights_run": sum(len(r["red_lights_run"]) for r in results),
        "closest_gap_m": min(gaps) if gaps else None,
        "safety_interventions": sum(sum(r["safety"].values()) for r in results),
        "longest_stand_s": worst("longest_stand_s"),
        "max_acceleration_mps2": worst("max_acceleration_mps2"),
        "max_braking_mps2": worst("max_braking_mps2"),
        "max_lateral_mps2": worst("max_lateral_mps2"),
        "jerk_p99_mps3": worst("jerk_p99_mps3"),
        "plan_age_mean_ms": round(sum(ages) / len(ages), 1) if ages else None,
        "plan_age_max_ms": max(
            (r["plan_age_max_ms"] for r in results if r["plan_age_max_ms"] is not None),
            default=None,
        ),
    }
