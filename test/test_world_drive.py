"""Closed-loop drives without ROS: the node's own samples, the report, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from alpamayo_ros import cli
from alpamayo_ros.pipeline import Pipeline, PipelineSettings
from alpamayo_ros.sampling import Selection, materialise
from alpamayo_ros.types import DEFAULT_CAMERAS, Plan, PlannerSample, Pose3
from alpamayo_ros.world.campaign import Campaign, run_campaign, summarise
from alpamayo_ros.world.closed_loop import WARM_UP_NS, ClosedLoop
from alpamayo_ros.world.planners import load_model
from alpamayo_ros.world.safety_driver import SafetyDriver
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.sensors import EPOCH_NS, FRAME_PERIOD_NS, Sensors, frame_slot, pose_of
from alpamayo_ros.world.simulation import STEP_NS, Simulation


def test_samples_are_the_nodes() -> None:
    """The same frames and poses through the node's pipeline give the same samples, bit for bit."""
    simulation = Simulation(make_scenario("curvy", 2, 10.0))
    driver, sensors = SafetyDriver(simulation), Sensors()
    pipeline = Pipeline(PipelineSettings(DEFAULT_CAMERAS))
    pipeline.start(EPOCH_NS)
    rng = np.random.default_rng(0)
    ours: dict[int, PlannerSample] = {}
    theirs: dict[int, PlannerSample] = {}
    while simulation.time_ns < 5_000_000_000:
        stamp_ns = EPOCH_NS + simulation.time_ns
        pose = pose_of(simulation.ego, stamp_ns)
        sensors.add_pose(pose)
        due = simulation.time_ns % FRAME_PERIOD_NS == 0
        if due:
            images = {name: rng.integers(0, 255, (8, 8, 3), np.uint8) for name in DEFAULT_CAMERAS}
            sensors.add_images(stamp_ns, images)
            for name, image in images.items():
                pipeline.add_frame(frame_slot(name, stamp_ns, image), stamp_ns)
        pipeline.add_pose(pose, stamp_ns)
        for tick in pipeline.poll(stamp_ns):
            if isinstance(tick, Selection):
                theirs[tick.t0_ns] = materialise(tick)
        if due:
            sample = sensors.sample(stamp_ns, None)
            if isinstance(sample, PlannerSample):
                ours[stamp_ns] = sample
        simulation.step(driver.command())
    assert len(ours) > 30 and sorted(ours) == sorted(theirs)
    assert min(ours) <= EPOCH_NS + WARM_UP_NS
    for t0_ns, sample in ours.items():
        for entry in fields(PlannerSample):
            a, b = getattr(sample, entry.name), getattr(theirs[t0_ns], entry.name)
            if isinstance(a, Pose3):
                a, b = (np.column_stack((p.rotation, p.translation_m)) for p in (a, b))
            np.testing.assert_array_equal(a, b, err_msg=entry.name)


def test_a_model_gets_samples_from_the_warm_up_on() -> None:
    """The expert drives 1.6 s, then every 100 ms has a sample and a plan of the model's."""
    backend = load_model("kinematic")
    heard: list[tuple[int, str, bool]] = []

    def observe(simulation: Simulation, plan: Plan, sample: PlannerSample | None) -> None:
        heard.append((simulation.time_ns, plan.model, sample is not None))

    ClosedLoop(make_scenario("straight", 1, 4.0), backend, observe=observe).run()
    assert [time_ns for time_ns, _, _ in heard] == [k * FRAME_PERIOD_NS for k in range(40)]
    for time_ns, model, sampled in heard:
        assert sampled == (time_ns >= WARM_UP_NS)
        assert model == ("kinematic" if sampled else "expert")


def test_plans_come_late_by_the_latency() -> None:
    """0 to 100 ms of age from a plan's own period, and the latency on top."""
    result = ClosedLoop(make_scenario("straight", 1, 10.0), None).run().result()
    assert result["plan_age_max_ms"] == pytest.approx(140.0)
    assert 80.0 < result["plan_age_mean_ms"] < 100.0


def test_results_are_the_same_in_any_number_of_jobs(tmp_path: Path) -> None:
    """Also those of failures."""
    campaign = Campaign("kinematic", ("free", "straight"), (1, 2), 6.0, tmp_path)
    one, two = run_campaign(campaign, 1), run_campaign(campaign, 2)
    assert one == two
    assert [(r["scenario"], r["seed"]) for r in one] == campaign.drives
    rows = summarise(one)
    assert rows["all"]["runs"] == 4 and rows["straight"]["clean"] == 2


def test_failures_are_found_and_drawn(tmp_path: Path) -> None:
    """The kinematic planner leaves a winding road, and a picture shows where."""
    campaign = Campaign("kinematic", ("curvy",), (1,), 20.0, tmp_path)
    (result,) = run_campaign(campaign, 1)
    assert result["lane_departures"] == 1 and result["ended"] == "left the road"
    assert not result["clean"] and result["first_fault_s"] < result["seconds"] < 20.0
    assert (tmp_path / result["picture"]).stat().st_size > 5000


def test_a_collision_ends_the_drive(tmp_path: Path) -> None:
    """A vehicle that keeps its speed runs into one that stops."""
    results = run_campaign(Campaign("kinematic", ("nudge", "lead"), (2, 3), 30.0), 1)
    touched = [result for result in results if result["collisions"]]
    assert touched, results
    for result in touched:
        assert result["closest_gap_m"] == 0.0 and result["ended"].startswith("collision with")


def test_cameras_are_drawn_for_models_that_look() -> None:
    """A camera is called once a plan for a planner that looks, never for one that does not."""
    backend = load_model("kinematic")
    assert backend is not None and not backend.manifest.uses_images
    calls = []

    def camera(simulation: Simulation) -> dict[str, np.ndarray]:
        calls.append(simulation.time_ns)
        return {name: np.full((4, 4, 3), 7, np.uint8) for name in DEFAULT_CAMERAS}

    ClosedLoop(make_scenario("straight", 1, 2.0), backend, camera).run()
    assert calls == []
    looking = ClosedLoop(make_scenario("straight", 1, 2.0), backend, camera)
    looking._planner.needs_images = True
    looking._camera = camera
    looking.run()
    assert len(calls) == 20


def test_cameras_see_what_is_there() -> None:
    """A stopped car before the ego changes the picture; the same state gives the same picture."""
    from alpamayo_ros.world.rig import default_rig
    from alpamayo_ros.world.views import WorldCameras

    scenario = make_scenario("nudge", 1, 20.0)
    loop = ClosedLoop(scenario, None)
    while loop.simulation.s_m < scenario.stopped[0].s_m - 25.0:
        loop.step()
    with WorldCameras(scenario, default_rig(160, 96)) as cameras:
        simulation = loop.simulation
        seen = cameras.images(simulation)
        again = cameras.images(simulation)
        empty = cameras.images_of(simulation.ego, [], simulation.time_ns)
    for name, image in seen.items():
        np.testing.assert_array_equal(image, again[name])
    assert np.abs(seen["front_wide"].astype(int) - empty["front_wide"]).max() > 40


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, the report as JSON, and exit code 1 of --check where a drive failed."""
    out, result = tmp_path / "drives", tmp_path / "result.json"
    words = ["world", "drive", "--seconds", "8", "--jobs", "1", "--out", str(out)]
    arguments = [*words, "--scenarios", "straight,lead", "--seeds", "1-2", "--json", str(result)]
    assert cli.main([*arguments, "--model", "expert", "--check"]) == 0
    printed = capsys.readouterr().out
    assert "straight" in printed and "x real time" in printed
    content = json.loads(result.read_text())
    assert len(content["drives"]) == 4 and content["summary"]["all"]["clean"] == 4
    assert json.loads((out / "report.json").read_text())["drives"] == content["drives"]
    failing = [*words, "--scenarios", "curvy", "--seeds", "1", "--model", "kinematic", "--check"]
    failing[3] = "20"
    assert cli.main(failing) == 1
    assert f"{out / 'curvy-1.png'}" in capsys.readouterr().out


def test_the_installed_command_drives_in_several_processes(tmp_path: Path) -> None:
    """`alpamayo` as a script: what it spawns imports the script, and must not run it."""
    command = Path(sys.executable).with_name("alpamayo")
    if not command.exists():
        pytest.skip("needs the installed command")
    words = ["world", "drive", "--scenarios", "straight", "--seeds", "1-2", "--seconds", "3"]
    done = subprocess.run([command, *words, "--jobs", "2", "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scenarios", "moon"], "no scenario 'moon'"),
        (["--seeds", "5-1"], "no range"),
        (["--seeds", "x"], "no list of seeds"),
        (["--latency-ms", "-1"], "--latency-ms is -1"),
        (["--jobs", "-2"], "--jobs is -2"),
        (["--seconds", "0"], "0 s is not a length"),
        (["--model", "nothing"], "no model 'nothing'"),
    ],
)
def test_wrong_use_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["world", "drive", "--seeds", "1", "--jobs", "1", *words]) == 2
    assert says in capsys.readouterr().err


def test_steps_and_frames_fit() -> None:
    """Frames and plans fall on steps."""
    assert FRAME_PERIOD_NS % STEP_NS == 0 and WARM_UP_NS % FRAME_PERIOD_NS == 0
