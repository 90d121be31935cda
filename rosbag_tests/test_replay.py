"""Recordings through the pure pipeline: `alpamayo replay`, without ROS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from alpamayo_ros import cli
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.resources import resource

HORIZONS = ["1", "2", "4", "6.4"]
TICK_NS = 100_000_000


def replayed(bag: Path, out: Path, *options: str) -> dict[str, Any]:
    """The report of a replay that ended with exit code 0."""
    assert cli.main(["replay", str(bag), "--out", str(out), *options]) == 0
    return report_of(out)


def published(out: Path, topic: str) -> list[Any]:
    """The messages of one planner topic in plans.mcap."""
    with BagReader(out / "plans.mcap") as bag:
        return [message for _, _, message in bag.messages([f"/planner/{topic}"])]


@pytest.fixture(scope="module")
def generated(generated_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a replay of the generated drive wrote; copy.json is what `--json` made."""
    out = tmp_path_factory.mktemp("replay")
    replayed(generated_bag, out, "--json", str(out / "copy.json"))
    return out


def report_of(out: Path) -> dict[str, Any]:
    """The report that a replay wrote."""
    return json.loads((out / "report.json").read_text())


def test_generated_drive(generated: Path) -> None:
    """A plan every 100 ms once 1.5 s of odometry are there; nothing is refused afterwards.

    7 s at 10 Hz are 70 frames; t0 = 1.5 s is the 16th, so 55 plans, give or take the edges.
    """
    report = report_of(generated)
    assert abs(report["plans"] - 55) <= 1
    assert set(report["rejections"]) == {"warming_up"}
    assert report["instants"] == report["plans"] + sum(report["rejections"].values())
    assert report["fallback_plans"] == 0
    stamps = [stamp_ns(path.header.stamp) for path in published(generated, "path")]
    assert len(stamps) == report["plans"]
    assert set(np.diff(stamps)) == {TICK_NS}


def test_messages_are_those_of_the_node(generated: Path) -> None:
    """64 poses stamped ahead of t0 in odometry's frame, 65 points, one status a tick."""
    report = report_of(generated)
    statuses = published(generated, "status")
    assert len(statuses) == report["instants"]
    paths, trajectories = published(generated, "path"), published(generated, "trajectory")
    for path, trajectory in zip(paths, trajectories):
        t0 = stamp_ns(path.header.stamp)
        assert path.header.frame_id == trajectory.header.frame_id == "odom"
        assert [stamp_ns(pose.header.stamp) - t0 for pose in path.poses] == [
            (k + 1) * TICK_NS for k in range(64)
        ]
        assert stamp_ns(trajectory.header.stamp) == t0
        assert [
            p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in trajectory.points
        ] == (pytest.approx([0.1 * k for k in range(65)]))
        # The path's poses and the trajectory's are the same numbers.
        assert path.poses[0].pose.position.x == trajectory.points[1].pose.position.x
    assert [t.sequence for t in trajectories] == list(range(1, len(trajectories) + 1))
    assert {trace.source for trace in published(generated, "reasoning_trace")} == {"trajectory"}


def test_options_and_note_of_a_model(
    generated_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--option` overrides the manifest's and the file's; the manifest's note is told at load and
    in both reports. One trajectory is one candidate, and it is the chosen one."""
    shipped = resource("models", "kinematic.yaml").read_text()
    model, params = tmp_path / "mine.yaml", tmp_path / "params.yaml"
    model.write_text(shipped + "note: only an example\n")
    options = ["max_curvature_1pm=0.1", "turn_time_constant_s=2"]
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"model_options": options}}}))
    report = replayed(
        generated_bag,
        tmp_path / "out",
        *("--model", str(model), "--params", str(params), "--option", "max_curvature_1pm=0.001"),
    )
    assert report["model_note"] == "only an example"
    told = capsys.readouterr()
    assert "note: only an example" in told.out
    assert "loaded model kinematic, licence Apache-2.0; note: only an example" in told.err
    trajectories = published(tmp_path / "out", "trajectory")
    curvatures = [abs(p.curvature_1pm) for message in trajectories for p in message.points]
    assert max(curvatures) <= 0.001 + 1e-12
    for message in published(tmp_path / "out", "candidates"):
        assert [candidate.chosen for candidate in message.candidates] == [True]
    assert {len(t.critical_components) for t in published(tmp_path / "out", "reasoning_trace")} == {
        0
    }


def test_plans_start_at_the_vehicle(generated_bag: Path, generated: Path) -> None:
    """The trajectory's first point is the odometry's pose at t0.

    Odometry lies at 50 Hz beside t0 and is interpolated linearly; on a curve at 2 m/s^2 lateral
    acceleration the chord over 20 ms is 0.1 mm off the arc, so 1 mm is asked for.
    """
    stamps, positions = [], []
    with BagReader(generated_bag) as bag:
        for _, _, message in bag.messages(["/odom"]):
            stamps.append(stamp_ns(message.header.stamp))
            position = message.pose.pose.position
            positions.append([position.x, position.y, position.z])
    origin, track = stamps[0], np.array(positions)
    for trajectory in published(generated, "trajectory"):
        t0_s = (stamp_ns(trajectory.header.stamp) - origin) * 1e-9
        times = (np.array(stamps) - origin) * 1e-9
        expected = [np.interp(t0_s, times, track[:, axis]) for axis in range(3)]
        start = trajectory.points[0].pose.position
        assert [start.x, start.y, start.z] == pytest.approx(expected, abs=1e-3)


def test_report_and_picture(generated: Path) -> None:
    """Every documented key; 7 s hold no plan with a whole future, and no score is made up."""
    report = report_of(generated)
    assert json.loads((generated / "copy.json").read_text()) == report
    for key in ("ade_m", "fde_m"):
        assert set(report[key]) == {"planner", "constant_velocity", "stand_still"}
        for row in report[key].values():
            assert list(row) == HORIZONS
            assert set(row.values()) == {None}
    assert report["scored_instants"] == 0
    assert report["unscored_instants"] == report["plans"]
    assert set(report["stage_ms"]) >= {"decode", "model"}
    picture = cv2.imread(str(generated / "overview.png"))
    assert picture is not None and picture.shape[1] == 1600 and picture.std() > 10


def test_kitti06(kitti06: Path, tmp_path: Path) -> None:
    """A plan for every image from 1.6 s to the last; scores as computed independently.

    51 images at 9.65 Hz, of which t0 = 1.554 s is the first with 1.5 s of odometry before it: 36.
    Constant velocity was computed by others as 0.066 and 0.546 m over a neighbouring set of
    instants; 0.01 and 0.03 m cover the choice of instants.
    """
    report = replayed(kitti06, tmp_path)
    assert abs(report["plans"] - 36) <= 1
    assert set(report["rejections"]) == {"warming_up"}
    assert report["ade_m"]["constant_velocity"]["2"] == pytest.approx(0.066, abs=0.01)
    assert report["ade_m"]["constant_velocity"]["6.4"] == pytest.approx(0.546, abs=0.03)
    assert report["ade_m"]["planner"]["2"] <= 0.10
    images = set()
    with BagReader(kitti06) as bag:
        for _, _, message in bag.messages(["/camera/front_wide/image/compressed"]):
            images.add(stamp_ns(message.header.stamp))
    t0 = [stamp_ns(path.header.stamp) for path in published(tmp_path, "path")]
    assert set(t0) <= images and max(t0) == max(images)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--camera", "front_wide=/nowhere"], "/camera/front_wide/image/compressed"),
        (["--odometry", "/odo"], "/odom"),
        (["--model", "nope"], "kinematic"),
        (["--model", "no/such_manifest.yaml"], "such_manifest.yaml"),
        (["--camera", "front=/camera/front_wide/image/compressed"], "front_wide"),
        (["--params", "no_such_file.yaml"], "no_such_file.yaml"),
    ],
)
def test_wrong_use_names_what_is_there(
    generated_bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    """Exit code 2 and a message that names the remedy; no result is written."""
    out = tmp_path / "out"
    assert cli.main(["replay", str(generated_bag), "--out", str(out), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (out / "plans.mcap").exists()


def test_unreadable_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no recording is refused by name, with exit code 2."""
    path = tmp_path / "noise.mcap"
    path.write_bytes(b"not a recording" * 100)
    assert cli.main(["replay", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "noise.mcap" in capsys.readouterr().err
