"""A teacher's labels of a recording, through the node's own pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.backends.base import PlannerBackend, with_reasoning
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.distill.shard import MAP_CELL, ImageForm, ShardWriter
from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation.scoring import Drive, Scorer
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import UnreadableFrame, materialise
from alpamayo_ros.types import (
    CAMERA_NAMES,
    IMAGE_HEIGHT,
    N_WAYPOINTS,
    NS_PER_S,
    WAYPOINT_STEP_S,
    Plan,
    PlannerSample,
    Rejection,
)

_STANDSTILL_M = 0.02  # in a step: below it a turn has no curvature


@runtime_checkable
class SoftTeacher(Protocol):
    """A backend that tells more of a plan than the plan."""

    def soft_labels(self, sample: PlannerSample) -> Mapping[str, NDArray[Any]]:
        """Of the last plan, which was of this sample: `logits` (tokens, vocabulary), `features`
        (F,) and `attention` (the sample's cameras, rows, columns), over whole newest pictures."""


def label_bag(
    path: Path,
    settings: PlannerSettings,
    teacher: PlannerBackend,
    form: ImageForm,
    every: int = 1,
    store: Sequence[str] = (),
) -> ShardWriter:
    """Every `every`-th due instant, with those soft labels of the teacher that `store` names.

    What the node would refuse is left out. Raises UserError where the teacher tells none.
    """
    if store and not isinstance(teacher, SoftTeacher):
        raise UserError(
            f"model {teacher.manifest.name} tells no {', '.join(store)}: label without --store, or "
            "by a teacher that does (alpamayo_r1, alpamayo_1_5)"
        )
    shard, due = ShardWriter(form), 0
    with BagReader(path) as bag:
        context = read_context(bag, settings)
        ticks = Ticks(bag, settings, context, teacher.resize)
        for tick in ticks.all():
            if isinstance(tick, Rejection):
                continue
            due += 1
            if (due - 1) % every:
                continue
            try:
                sample = materialise(tick)
            except UnreadableFrame as unreadable:
                ticks.discard(unreadable)
                continue
            plan = with_reasoning(teacher, teacher.plan(sample))
            truth = driven_action(context.scorer, sample.t0_ns)
            extras = None
            if store and isinstance(teacher, SoftTeacher):
                told = dict(teacher.soft_labels(sample))
                if "attention" in told:
                    told["attention"] = in_form(told["attention"], sample.camera_indices, form)
                extras = {name: told[name] for name in store}
            shard.add(sample, plan, agreement(plan), truth, extras)
    return shard


def in_form(
    attention: NDArray[Any], camera_indices: NDArray[np.int64], form: ImageForm
) -> NDArray[np.float16]:
    """A teacher's attention (its cameras, rows, columns) over the rows that the student is given
    of each of its own cameras, (C, rows, columns) in cells of MAP_CELL pixels; NaN: not there."""
    rows, columns = (size // MAP_CELL for size in form.input_size)
    cells = np.full((len(form.cameras), rows, columns), np.nan, np.float16)
    for index, seen in zip(camera_indices, attention):
        name = CAMERA_NAMES[int(index)]
        if name in form.cameras:
            place = form.cameras.index(name)
            scale = seen.shape[0] / IMAGE_HEIGHT
            first, last = (round(row * scale) for row in form.crop_rows[place])
            part = np.ascontiguousarray(seen[first:last], np.float32)
            cells[place] = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    return cells


def agreement(plan: Plan) -> float:
    """Confidence 0 … 1 of a teacher that gives none: 1 where its candidates end together, less
    the further they lie apart, in parts of the way that they go."""
    ends = plan.candidates_xyz_in_rig_t0[:, -1, :2]
    if len(ends) < 2:
        return 1.0
    apart = float(np.linalg.norm(ends - plan.xyz_in_rig_t0[-1, :2], axis=1).mean())
    way = float(np.linalg.norm(plan.xyz_in_rig_t0[-1, :2]))
    return float(np.exp(-apart / max(0.2 * way, 2.0)))


def driven_action(scorer: Scorer, t0_ns: int) -> NDArray[np.float64] | None:
    """(64, 2) accelerations and curvatures that odometry shows after t0; None without 6.4 s."""
    if scorer.true_future(t0_ns) is None:
        return None
    drive: Drive = scorer.drive
    start = (t0_ns - drive.stamps_ns[0]) / NS_PER_S
    at = start + np.arange(N_WAYPOINTS + 1) * WAYPOINT_STEP_S
    yaws = np.unwrap(geometry.yaw_of(geometry.quaternion_to_rotation(drive.quaternions_xyzw)))
    speed = np.interp(at, drive.times_s, drive.speeds_mps)
    yaw = np.interp(at, drive.times_s, yaws)
    distance = 0.5 * (speed[1:] + speed[:-1]) * WAYPOINT_STEP_S
    moved = np.abs(distance) > _STANDSTILL_M
    curvature = np.where(moved, np.diff(yaw) / np.where(moved, distance, 1.0), 0.0)
    return np.stack([np.diff(speed) / WAYPOINT_STEP_S, curvature], axis=1)
