"""report.json and overview.png of a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np

from alpamayo_ros import geometry
from alpamayo_ros.bags.inputs import READERS, camera_model
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import ReplayResult
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import NS_PER_S, ImageError
from alpamayo_ros.viz.canvas import save_png
from alpamayo_ros.viz.overview import DriveOverview, OverviewInstant, draw_overview

PANELS = 3


def report(result: ReplayResult, manifest: Manifest, bag: Path) -> dict[str, Any]:
    """The content of report.json; errors in metres, durations in milliseconds."""
    scores = result.scorer.scores()
    return {
        "bag": str(bag),
        "model": manifest.name,
        "model_licence": manifest.licence,
        "instants": len(result.plans) + len(result.rejections),
        "plans": len(result.plans),
        "fallback_plans": sum(plan.source == "fallback" for plan in result.plans),
        "rejections": result.reasons(),
        "scored_instants": scores["scored"],
        "unscored_instants": scores["unscored"],
        "ade_m": scores["ade_m"],
        "fde_m": scores["fde_m"],
        "stage_ms": {name: percentiles(values) for name, values in result.stage_ms.items()},
        "bag_seconds": result.bag_s,
        "wall_seconds": result.wall_s,
        "warnings": result.warnings,
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    return {
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "max": float(np.max(values)),
    }


def draw_report(
    result: ReplayResult,
    settings: PlannerSettings,
    bag: BagReader,
    path: Path,
    title: str,
) -> None:
    """overview.png: plans on the front camera at three instants, from above, and the speed."""
    drive = result.scorer.drive
    start_ns = int(drive.stamps_ns[0]) if len(drive.stamps_ns) else bag.start_ns
    shown = _shown(len(result.plans))
    images = _front_images(result, settings, bag, shown)
    instants = [
        instant
        for index in shown
        if (instant := _instant(result, settings, index, images, start_ns)) is not None
    ]
    plans = [
        geometry.apply(pose, plan.xyz_in_rig_t0)
        for plan, pose in zip(result.plans, result.odometry_from_rig)
    ]
    overview = DriveOverview(
        times_s=drive.times_s,
        positions_m=drive.positions_m,
        speeds_mps=drive.speeds_mps,
        plan_times_s=np.array([(plan.t0_ns - start_ns) / NS_PER_S for plan in result.plans]),
        plans_xyz_in_odometry=np.array(plans).reshape(-1, 64, 3),
        rejection_times_s=np.array([(r.due_ns - start_ns) / NS_PER_S for r in result.rejections]),
    )
    subtitle = f"{len(result.plans)} plans, {len(result.rejections)} ticks without one"
    save_png(path, draw_overview(instants, overview, title=title, subtitle=subtitle))


def _shown(count: int) -> list[int]:
    """Indices of the plans whose camera image is shown: spread over the drive."""
    if count == 0:
        return []
    return sorted({round(share * (count - 1)) for share in (0.1, 0.5, 0.9)})[:PANELS]


def _front(settings: PlannerSettings) -> Any:
    cameras = {camera.name: camera for camera in settings.cameras}
    return cameras.get("front_wide", settings.cameras[0])


def _front_images(
    result: ReplayResult, settings: PlannerSettings, bag: BagReader, shown: Sequence[int]
) -> dict[int, np.ndarray]:
    """The front camera's images of the shown plans at their full size, by stamp."""
    camera = _front(settings)
    reader = READERS[bag.topics[camera.topic].type]
    wanted = {result.front_stamps_ns[index] for index in shown}
    images: dict[int, np.ndarray] = {}
    for _, _, message in bag.messages([camera.topic]) if wanted else ():
        stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
        if stamp in wanted:
            try:
                images[stamp] = reader.to_rgb(message)
            except ImageError:
                continue
            if len(images) == len(wanted):
                break
    return images


def _instant(
    result: ReplayResult,
    settings: PlannerSettings,
    index: int,
    images: dict[int, np.ndarray],
    start_ns: int,
) -> Optional[OverviewInstant]:
    plan = result.plans[index]
    image = images.get(result.front_stamps_ns[index])
    if image is None:
        return None
    assert result.transforms is not None
    calibration = result.calibrations.get(_front(settings).name)
    time_s = (plan.t0_ns - start_ns) / NS_PER_S
    return OverviewInstant(
        image_rgb=image,
        path_xyz_in_rig_t0=plan.xyz_in_rig_t0,
        caption=f"{time_s:.1f} s, {plan.speed_t0_mps:.1f} m/s: {plan.reasoning}",
        time_s=time_s,
        camera=camera_model(calibration, result.transforms),
        future_xyz_in_rig_t0=result.scorer.true_future(plan.t0_ns),
    )
