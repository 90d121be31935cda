"""report.json and overview.png of plans made on a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.bags.context import DriveContext
from alpamayo_ros.bags.inputs import READERS
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import ReplayResult
from alpamayo_ros.cameras.calibration import camera_model
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import CameraInput, PlannerSettings
from alpamayo_ros.types import NS_PER_S, ImageError, Pose3
from alpamayo_ros.viz.canvas import save_picture
from alpamayo_ros.viz.overview import DriveOverview, OverviewInstant, draw_overview

PANELS_AT = (0.1, 0.5, 0.9)  # of the plans: the ones whose camera image is shown


@dataclass(frozen=True, slots=True)
class DrawnPlan:
    """What the picture needs of one plan."""

    t0_ns: int
    xyz_in_rig_t0: NDArray[np.float64]  # (64, 3)
    odometry_from_rig_t0: Pose3
    reasoning: str


def drawn_plans(result: ReplayResult) -> list[DrawnPlan]:
    """The plans of a replay."""
    return [
        DrawnPlan(plan.t0_ns, plan.xyz_in_rig_t0, pose, plan.reasoning)
        for plan, pose in zip(result.plans, result.odometry_from_rig)
    ]


def report(result: ReplayResult, manifest: Manifest, bag: Path) -> dict[str, Any]:
    """The content of report.json; errors in metres, durations in milliseconds."""
    scores = result.context.scorer.scores()
    return {
        "bag": str(bag),
        "model": manifest.name,
        "model_licence": manifest.licence,
        "model_note": manifest.note,
        "instants": len(result.plans) + len(result.rejections),
        "plans": len(result.plans),
        "fallback_plans": result.fallback_plans,
        "rejections": result.reasons(),
        "first_rejections": result.first_rejections(),
        "scored_instants": scores["scored"],
        "unscored_instants": scores["unscored"],
        "ade_m": scores["ade_m"],
        "fde_m": scores["fde_m"],
        "stage_ms": {name: percentiles(values) for name, values in result.stage_ms.items()},
        "view_coverage": result.view_coverage,
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
    plans: Sequence[DrawnPlan],
    rejected_due_ns: Sequence[int],
    context: DriveContext,
    settings: PlannerSettings,
    bag: BagReader,
    path: Path,
    title: str,
) -> None:
    """overview.png: plans on the front camera at three instants, from above, and the speed."""
    drive = context.scorer.drive
    start_ns = int(drive.stamps_ns[0]) if len(drive.stamps_ns) else bag.start_ns
    last = len(plans) - 1
    shown = sorted({round(share * last) for share in PANELS_AT}) if plans else []
    cameras = {camera.name: camera for camera in settings.cameras}
    front = cameras.get("front_wide", settings.cameras[0])
    images = images_at(bag, front, [plans[index].t0_ns for index in shown])
    instants = []
    for index in shown:
        plan = plans[index]
        if plan.t0_ns in images:
            time_s = (plan.t0_ns - start_ns) / NS_PER_S
            instants.append(
                OverviewInstant(
                    image_rgb=images[plan.t0_ns],
                    path_xyz_in_rig_t0=plan.xyz_in_rig_t0,
                    caption=f"{time_s:.1f} s: {plan.reasoning}",
                    time_s=time_s,
                    camera=camera_model(context.calibrations.get(front.name), context.transforms),
                    future_xyz_in_rig_t0=context.scorer.true_future(plan.t0_ns),
                )
            )
    in_odometry = [geometry.apply(p.odometry_from_rig_t0, p.xyz_in_rig_t0) for p in plans]
    overview = DriveOverview(
        times_s=drive.times_s,
        positions_m=drive.positions_m,
        speeds_mps=drive.speeds_mps,
        plan_times_s=np.array([(plan.t0_ns - start_ns) / NS_PER_S for plan in plans]),
        plans_xyz_in_odometry=np.array(in_odometry).reshape(-1, 64, 3),
        rejection_times_s=np.array([(due - start_ns) / NS_PER_S for due in rejected_due_ns]),
    )
    subtitle = f"{len(plans)} plans, {len(rejected_due_ns)} ticks without one"
    save_picture(path, draw_overview(instants, overview, title=title, subtitle=subtitle))


def images_at(
    bag: BagReader, camera: CameraInput, stamps_ns: Sequence[int]
) -> dict[int, NDArray[np.uint8]]:
    """The camera's image nearest to each stamp, at its full size; damaged ones are left out."""
    reader = READERS[bag.topics[camera.topic].type]
    nearest: dict[int, tuple[int, Any]] = {}
    for _, _, message in bag.messages([camera.topic]) if stamps_ns else ():
        stamp = stamp_ns(message.header.stamp) + camera.stamp_offset_ns
        for wanted in stamps_ns:
            distance = abs(stamp - wanted)
            if wanted not in nearest or distance < nearest[wanted][0]:
                nearest[wanted] = (distance, message)
    images = {}
    for wanted, (_, message) in nearest.items():
        try:
            images[wanted] = reader.to_rgb(message)
        except ImageError:
            continue
    return images
