"""Models that fail, and cameras that a model can do without, on one good recording.

All times are the bag's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spoil import CAMERA, ODOMETRY, Entry, Recording, Told, grey, ms, planned, spoilt

from alpamayo_ros import action_space
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.diagnosis import Level
from alpamayo_ros.errors import UserError
from alpamayo_ros.manifest import CameraRequirement, load_manifest
from alpamayo_ros.safety.faults import BEHAVIOUR, NOTICED_MS, Fault
from alpamayo_ros.types import CAMERA_NAMES, Plan, PlannerSample

LENGTH_S = 5.0
FAULT_S, GONE_S = 2.4, 3.0
F = Fault
WIDE = "/camera/front_wide/image/compressed"


@pytest.fixture(scope="session")
def drive(generated_bag: Path) -> Recording:
    """The drive that every test plans on."""
    return Recording(generated_bag, LENGTH_S)


class Model(KinematicBackend):
    """The baseline, with a fault at some instants; notes what cameras it was given."""

    def __init__(self, fault: Fault | None = None, first_ns: int = 0, last_ns: int = 0) -> None:
        super().__init__(load_manifest("kinematic"))
        self._fault, self._first_ns, self._last_ns = fault, first_ns, last_ns
        self.seen: dict[int, tuple[str, ...]] = {}

    def plan(self, sample: PlannerSample) -> Plan:
        self.seen[sample.t0_ns] = tuple(CAMERA_NAMES[index] for index in sample.camera_indices)
        assert len(sample.images) == len(sample.camera_indices)
        assert all(image.std() > 5.0 for image in sample.images[:, -1])
        plan = super().plan(sample)
        if not self._first_ns <= sample.t0_ns < self._last_ns:
            return plan
        if self._fault is F.MODEL_RAISES:
            raise ZeroDivisionError("a bug in a model")
        if self._fault is F.MODEL_OUT_OF_MEMORY:
            raise MemoryError
        if self._fault is F.MODEL_SHAPE:
            return replace(plan, xyz_in_rig_t0=plan.xyz_in_rig_t0[:50])
        if self._fault is F.MODEL_NAN:
            return replace(plan, action=np.full((64, 2), np.nan))
        action = plan.action.copy()
        action[:, 1] = 0.4
        xyz, rot = action_space.integrate(action, plan.speed_t0_mps)
        return replace(plan, action=action, xyz_in_rig_t0=xyz, rot_in_rig_t0=rot)


MODELS = [
    F.MODEL_RAISES, F.MODEL_OUT_OF_MEMORY, F.MODEL_NAN, F.MODEL_SHAPE, F.PLAN_UNSAFE,
]  # fmt: skip


@pytest.mark.parametrize("fault", MODELS, ids=lambda fault: fault.name.lower())
def test_a_model_that_fails(drive: Recording, tmp_path: Path, fault: Fault) -> None:
    """At six instants in a row: each is told, the vehicle is being stopped, then plans again."""
    first_ns, last_ns = drive.at(FAULT_S), drive.at(GONE_S)
    told = planned(drive, drive.entries, tmp_path, Model(fault, first_ns, last_ns))
    declared = BEHAVIOUR[fault]
    refused = told.refusals(first_ns)
    assert len(refused) == 6 and all(declared.says in s.detail for _, s in refused)
    assert refused[0][0] - drive.last_good_ns(CAMERA, first_ns) <= ms(declared.within_ms or 0)
    assert told.says(declared.entry, declared.level, declared.says, first_ns)
    # Two more good plans are held back, so that the third is driven.
    meanwhile = told.sources(refused[0][0], last_ns + ms(200))
    assert set(meanwhile) == {"fallback"} and len(meanwhile) >= 6
    assert set(told.sources(last_ns + ms(300))) == {"planner"}
    assert not told.refusals(last_ns + ms(100))


# ---- fewer cameras ---------------------------------------------------------------------------


def drop(entry: Entry) -> Iterable[Entry]:
    return ()


def black(entry: Entry) -> Iterable[Entry]:
    changed = copy.deepcopy(entry.message)
    changed.data = grey(0)
    return (Entry(entry.topic, entry.log_ns, changed),)


def cut_short(entry: Entry) -> Iterable[Entry]:
    changed = copy.deepcopy(entry.message)
    changed.data = np.concatenate((changed.data[:400], changed.data[-2:]))  # ends as a JPEG does
    return (Entry(entry.topic, entry.log_ns, changed),)


def gaps_ms(told: Told, since_ns: int) -> float:
    """The longest time between trajectories."""
    times = [at for at, _ in told.trajectories if at >= since_ns]
    return float(np.diff(times).max()) / 1e6


@pytest.mark.parametrize("spoil", [drop, black, cut_short])
def test_going_on_without_a_camera(drive: Recording, tmp_path: Path, spoil: object) -> None:
    """camera_loss continue: no tick is lost, plans say what they were made without, nothing stands
    in for it, and the camera counts again when it is back."""
    first_ns, last_ns = drive.at(FAULT_S), drive.at(GONE_S)
    model = Model()
    entries = spoilt(drive, {CAMERA}, first_ns, last_ns, spoil)  # type: ignore[arg-type]
    told = planned(drive, entries, tmp_path, model, camera_loss="continue")
    assert not told.refusals(drive.at(1.7))
    assert set(told.sources(drive.at(1.7))) == {"planner"}
    assert gaps_ms(told, drive.at(1.7)) <= NOTICED_MS
    without = {t0: cameras for t0, cameras in model.seen.items() if len(cameras) == 3}
    assert set(without.values()) == {("cross_left", "front_wide", "cross_right")}
    assert all(first_ns <= t0 < last_ns + ms(600) for t0 in without) and len(without) >= 6
    flagged = {
        s.t0.sec * 10**9 + s.t0.nanosec for _, s in told.statuses if s.missing_cameras
    }  # fmt: skip
    assert flagged == set(without)
    noticed = told.says("planning", Level.WARN, "planning without", first_ns)
    assert noticed[0] - drive.last_good_ns(CAMERA, first_ns) <= ms(NOTICED_MS)
    assert "front_tele" in [s for _, s in told.statuses if s.missing_cameras][0].missing_cameras
    assert len(model.seen[max(model.seen)]) == 4
    assert told.diagnostics[-1][1].status[0].level == Level.OK.value


@pytest.mark.parametrize("spoil", [drop, black])
def test_a_camera_that_is_required(drive: Recording, tmp_path: Path, spoil: object) -> None:
    """The vehicle is stopped without front_wide, whatever camera_loss says."""
    first_ns = drive.at(FAULT_S)
    entries = spoilt(drive, {WIDE}, first_ns, drive.at(GONE_S), spoil)  # type: ignore[arg-type]
    told = planned(drive, entries, tmp_path, camera_loss="continue")
    assert {s.source for _, s in told.refusals(first_ns)} == {"front_wide"}
    assert told.says("safety", Level.ERROR, "front_wide", first_ns)
    assert "fallback" in told.sources(first_ns) and told.sources(first_ns)[-1] == "planner"


def test_a_model_that_takes_no_fewer(drive: Recording, tmp_path: Path) -> None:
    """camera_loss continue with a model of four cameras is refused with the remedy."""
    model = Model()
    four = replace(model.manifest, cameras=CameraRequirement(4, 4, CAMERA_NAMES))
    model.manifest = four
    with pytest.raises(UserError, match="takes no fewer than 4 cameras; set camera_loss to stop"):
        planned(drive, drive.entries, tmp_path, model, camera_loss="continue")


# ---- no fault --------------------------------------------------------------------------------


def test_a_vehicle_that_stands(drive: Recording, tmp_path: Path) -> None:
    """Pose and speed stand still, and pictures may too: planned, as ever."""
    first_ns = drive.at(FAULT_S)
    last = {
        topic: [e for e in drive.entries if e.topic == topic and e.stamp_ns < first_ns][-1]
        for topic in drive.types
    }

    def still(entry: Entry) -> Iterable[Entry]:
        if entry.topic != ODOMETRY and entry.stamp_ns < first_ns + ms(500):
            return (entry,)  # what the cameras see changes until it stands
        changed = copy.deepcopy(last[entry.topic].message)
        changed.header = entry.message.header
        if entry.topic == ODOMETRY:
            changed.twist.twist.linear.x = changed.twist.twist.angular.z = 0.0
        return (Entry(entry.topic, entry.log_ns, changed),)

    told = planned(
        drive, spoilt(drive, set(drive.types), first_ns, 2**62, still), tmp_path,
        odometry_speed_tolerance_mps=20.0,  # it stops within one message, as no vehicle can
    )  # fmt: skip
    settled_ns = first_ns + ms(800)  # the jump in speed is a fault of its own
    assert not told.refusals(settled_ns)
    assert set(told.sources(settled_ns)) == {"planner"}
    last_plan = told.trajectories[-1][1]
    assert max(abs(point.velocity_mps) for point in last_plan.points) < 0.05
