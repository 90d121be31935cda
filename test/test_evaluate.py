"""`alpamayo evaluate`: figures against closed forms, rows against each other, files as promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpamayo_ros import cli
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.errors import UserError
from alpamayo_ros.evaluation import agreement, journal, shards, summary, tables
from alpamayo_ros.evaluation.campaign import Evaluation, entrants
from alpamayo_ros.evaluation.figures import (
    BASELINES,
    ScoredPath,
    Truth,
    baseline_paths,
    figures,
)
from alpamayo_ros.evaluation.html import took
from alpamayo_ros.evaluation.metrics import EVALUATION_HORIZONS, min_ade, min_fde
from alpamayo_ros.evaluation.results import pictured
from alpamayo_ros.evaluation.scores import scores_of
from alpamayo_ros.jobs import Machines, run_all
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.resources import resource
from alpamayo_ros.types import Decisions

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: make test installs it")
SHARED = Path(__file__).resolve().parents[2] / "shared"
KITTI = SHARED / "data" / "kitti06"
GOLDEN = SHARED / "golden" / "parts_metrics.npz"
needs_kitti = pytest.mark.skipif(not KITTI.is_dir(), reason=f"no {KITTI}")


def straight(speed_mps: float = 10.0) -> Truth:
    return Truth(np.outer(np.arange(1, 65) * 0.1, (speed_mps, 0, 0)), np.zeros(64), speed_mps)


def evaluated(out: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """summary.json of a run that ended with `code`."""
    assert cli.main(["evaluate", "--out", str(out), *options]) == code
    return json.loads((out / "summary.json").read_text())


def other_odometry(target: Path, change: Callable[[Any], None]) -> None:
    """KITTI's bag with each of its odometry messages changed."""
    with BagReader(KITTI) as bag, BagWriter(target) as writer:
        for topic, info in bag.topics.items():
            writer.add_topic(topic, info.type, latched=info.latched)
        for topic, log_ns, message in bag.messages():
            if topic == "/odom":
                change(message)
            writer.write(topic, log_ns, message)


def shorter(source: Path, target: Path, seconds: float, damage_s: float | None = None) -> Path:
    """The first seconds of a bag's images, with all of its odometry.

    `damage_s`: from then on for 120 ms, images that look whole and cannot be decoded.
    """
    with BagReader(source) as bag, BagWriter(target) as writer:
        for topic, info in bag.topics.items():
            writer.add_topic(topic, info.type, latched=info.latched)
        stop_ns = bag.start_ns + round(seconds * 1e9)
        for topic, _, log_ns, data in bag.raw_messages():
            if "camera" in topic and log_ns >= stop_ns:
                continue
            since_s = (log_ns - bag.start_ns) / 1e9
            if "camera" in topic and damage_s is not None and 0 <= since_s - damage_s < 0.12:
                tables_at = data.index(b"\xff\xc4") + 4  # Huffman's, without which no pixel is read
                data = data[:tables_at] + b"\xff" * 16 + data[tables_at + 16 :]
            writer.write_raw(topic, log_ns, data)
    return target


def test_a_path_beside_the_road() -> None:
    """1 m to the left, 2 m ahead at the end, 10 degrees turned: along, across and heading apart."""
    truth = straight()
    xyz = truth.xyz_m + np.outer(np.arange(1, 65) / 64, (2, 0, 0)) + np.array([0, 1, 0])
    heading = np.full(64, np.deg2rad(10))
    path = ScoredPath(xyz, heading, np.full(65, 10.0), np.zeros((64, 2)), xyz[None])
    row = figures(path, truth)
    assert row["across_m@6.4"] == pytest.approx(1.0)
    assert row["along_m@6.4"] == pytest.approx(2 * 65 / 128)
    assert row["heading_deg@1"] == pytest.approx(10.0)
    assert row["fde_m@6.4"] == pytest.approx(np.hypot(1, 2))
    assert (row["miss@1"], row["miss@6.4"]) == (0.0, 1.0)
    assert row["min_ade_1_m@3"] == row["ade_m@3"]
    assert np.isnan(row["min_ade_6_m@3"]) and row["comfortable"] == 1.0


def test_along_and_across_turn_with_the_road() -> None:
    """On an arc an error along the road at each waypoint has nothing across."""
    arc = baseline_paths(10.0, 0.3)["constant_turn_rate"]
    direction = np.stack([np.cos(arc.headings_rad), np.sin(arc.headings_rad), 0 * arc.headings_rad])
    row = figures(arc, Truth(arc.xyz_m + direction.T, arc.headings_rad, 10.0))
    assert row["along_m@6.4"] == pytest.approx(1.0) and row["across_m@6.4"] < 1e-9
    assert row["heading_deg@6.4"] < 1e-9
    assert row["max_lateral_mps2"] == pytest.approx(3.0)  # v * yaw rate


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no {GOLDEN}")
def test_candidates_as_in_the_reference() -> None:
    """minADE_6 of a row is the reference's, to the last digits of float32."""
    golden = np.load(GOLDEN)
    for sample, true, wanted in zip(golden["pred"][:, 0], golden["gt"], golden["minade__min_ade"]):
        path = ScoredPath(sample[0], np.zeros(64), np.zeros(65), np.zeros((64, 2)), sample)
        row = figures(path, Truth(true, np.zeros(64), 0.0))
        assert row["min_ade_6_m@6.4"] == pytest.approx(wanted, rel=1e-5)
        assert row["min_ade_6_m@6.4"] == pytest.approx(float(min_ade(sample, true)), rel=1e-6)
        ends = np.linalg.norm(sample[:, -1, :2] - true[-1, :2], axis=-1)
        assert float(min_fde(sample, true)) == pytest.approx(ends.min(), rel=1e-6)


@pytest.mark.parametrize(
    ("stated", "last_mps", "turn_deg", "verdicts"),
    [
        (Decisions("stop for static constraints", "lane keeping and centring"), 0.0, 0, (1, 1)),
        (Decisions("stop for static constraints", "turn"), 10.0, 0, (0, 0)),
        (Decisions("set-speed tracking", "turn"), 10.0, 60, (1, 1)),
        (Decisions("lead-obstacle following", "in-lane nudge"), 10.0, 0, (None, None)),
    ],
)
def test_agreement(
    stated: Decisions, last_mps: float, turn_deg: float, verdicts: tuple[int | None, ...]
) -> None:
    """Stated decisions against speeds from 10 m/s to `last_mps` and a turn."""
    headings = np.linspace(0, np.deg2rad(turn_deg), 64)
    speeds = np.linspace(10.0, last_mps, 65)
    found = agreement.agreement(stated, speeds, straight().xyz_m, headings)
    assert [None if np.isnan(v) else v for v in found] == list(verdicts)


def test_intervals_are_seeded_and_hold_the_mean() -> None:
    """The mean of 300 s whose errors last as long as a future does lies in its interval, as wide as
    that of 37.5 independent values; the same seed gives the same one."""
    rng = np.random.default_rng(5)
    blank = {
        **dict.fromkeys((*tables.COLUMNS, tables.TIMING), float("nan")),
        **dict.fromkeys(tables.TEXTS, ""),
        **dict.fromkeys(tables.PATHS),
        "candidates": 0,
    }
    lasting = np.repeat(rng.normal(3.0, 1.0, 38), 80)[:3000]
    rows = [
        {**blank, "bag": "b", "t0_ns": k * 100_000_000, "planner": "p", "outcome": "planned",
         "ade_m@2": float(error)}
        for k, error in enumerate(lasting)
    ]  # fmt: skip
    scores = scores_of([tables.columns_of(rows)])
    instants = summary.shared_instants(scores, ["p"])
    assert instants == [("b", row["t0_ns"]) for row in rows]

    def entry_of(seed: int) -> dict[str, float]:
        entry: dict[str, float] = summary.summarise(scores, ["p"], instants, seed)["p"]["ade_m"][
            "2"
        ]
        return entry

    entry = entry_of(3)
    assert entry["low"] < entry["value"] < entry["high"]
    # A deviation estimated from 38 values is itself off by up to a third.
    assert entry["high"] - entry["low"] == pytest.approx(2 * 1.96 / np.sqrt(37.5), rel=0.35)
    assert entry == entry_of(3)
    assert entry != entry_of(4)
    assert "38 stretches" in summary.resampling(instants, 0).description
    short = instants[:40]
    assert "2 stretches of 2 s" in summary.resampling(short, 0).description
    assert "no more than 2 stretches" in summary.doubts(short, 0)[0]


@needs_kitti
def test_kitti06(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Constant velocity has the figures that others computed; every file is there and whole."""
    found = evaluated(tmp_path, "--bags", str(KITTI), "--jobs", "1")
    assert list(found) == sorted(["kinematic", *BASELINES])
    line = found["constant_velocity"]
    assert line["ade_m"]["2"]["value"] == pytest.approx(0.066, abs=0.01)
    assert line["ade_m"]["6.4"]["value"] == pytest.approx(0.546, abs=0.03)
    assert line["fde_m"]["6.4"]["value"] == pytest.approx(1.526, abs=0.05)
    assert list(line["ade_m"]) == list(EVALUATION_HORIZONS)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["instants"] == 36 and "kinematic" in report["latency_ms"]
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.num_rows == 36 * 4 and tables.TIMING not in table.column_names
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") >= 5 and "data:image/jpeg" in page
    assert "http" not in page  # self-contained
    assert "report.html" in capsys.readouterr().out


@needs_kitti
def test_same_rows_in_processes_and_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bags: one process killed after its first result and resumed, against two processes.

    With a model that looks, whose reading of a bag the others use, or not: where frames do not
    decode it has other instants than they.
    """
    bags = [str(shorter(KITTI, tmp_path / "one", 2.5)),
            str(shorter(KITTI, tmp_path / "two", 2.8, damage_s=2.2))]  # fmt: skip
    asked = ["--bags", *bags, "--planners", "student_light"]
    whole = evaluated(tmp_path / "two_jobs", *asked, "--jobs", "2")
    report = json.loads((tmp_path / "two_jobs" / "report.json").read_text())
    assert list(report["without_plan"]) == ["student_light"]
    assert set(report["without_plan"]["student_light"]) == {"image_unreadable"}
    evaluate, calls = shards.Evaluator.evaluate, []

    def killed(evaluator: shards.Evaluator, job: shards.Job) -> tables.Shard:
        calls.append(job)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(evaluator, job)

    monkeypatch.setattr(shards.Evaluator, "evaluate", killed)
    resumed = tmp_path / "resumed"
    assert cli.main(["evaluate", *asked, "--out", str(resumed), "--jobs", "1"]) == 130
    assert len(list((resumed / "shards").glob("*.parquet"))) == 1
    assert evaluated(resumed, *asked, "--jobs", "1") == whole
    assert len(calls) == 2 + 5  # of six jobs one was kept
    assert json.loads((resumed / "report.json").read_text())["duration"]["kept_shards"] == 1
    same = [(tmp_path / name / "rows.parquet").read_bytes() for name in ("two_jobs", "resumed")]
    assert same[0] == same[1]


@needs_kitti
def test_a_kill_in_the_middle_of_a_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that were made are not made again, whatever a second kill stops, and the rows are those
    of a run that was not killed."""
    asked = ["--bags", str(shorter(KITTI, tmp_path / "one", 2.5)), "--jobs", "1"]
    whole = evaluated(tmp_path / "whole", *asked)
    planned: list[int] = []
    limit = 4

    def counted(backend: Any, selection: Any) -> Any:
        if len(planned) == limit:
            raise KeyboardInterrupt
        planned.append(selection.t0_ns)
        return run(backend, selection)

    run = shards.run
    monkeypatch.setattr(shards, "run", counted)
    monkeypatch.setattr(journal, "EVERY_S", 0.0)
    monkeypatch.setattr(journal, "_SHARE", 0.0)
    resumed = tmp_path / "resumed"
    assert cli.main(["evaluate", *asked, "--out", str(resumed)]) == 130
    taken, plan_at = [], journal.Journal.plan_at

    def killed(self: journal.Journal, t0_ns: int) -> Any:
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(t0_ns)
        return plan_at(self, t0_ns)

    with monkeypatch.context() as soon:  # before all that was planned is taken up
        soon.setattr(journal.Journal, "plan_at", killed)
        assert cli.main(["evaluate", *asked, "--out", str(resumed)]) == 130
    limit = 1000
    assert evaluated(resumed, *asked) == whole
    assert len(planned) == len(set(planned))
    same = [(tmp_path / name / "rows.parquet").read_bytes() for name in ("whole", "resumed")]
    assert same[0] == same[1]
    assert [path.suffix for path in (resumed / "shards").iterdir()] == [".parquet"] * 2


def test_a_part_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a cluster without the caller's folder goes on without."""
    monkeypatch.setattr(journal, "EVERY_S", 0.0)
    kept = journal.Journal(tmp_path / "of the caller" / "a.part")
    kept.keep([])
    kept.keep([])
    assert not list(tmp_path.iterdir())


@needs_kitti
def test_same_rows_on_ray(tmp_path: Path) -> None:
    """Two Ray workers on this machine against one process, byte for byte."""
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    bags = [str(shorter(KITTI, tmp_path / name, 2.5)) for name in ("one", "two")]
    evaluated(tmp_path / "alone", "--bags", *bags, "--jobs", "1")
    evaluated(tmp_path / "ray", "--bags", *bags, "--jobs", "2", "--ray", "local")
    for name in ("rows.parquet", "summary.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@needs_kitti
def test_a_damaged_bag_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are evaluated all the same; exit code 1 says that not all is well."""
    (tmp_path / "broken.mcap").write_bytes(b"no recording")
    bags = [str(shorter(KITTI, tmp_path / "good", 2.5)), str(tmp_path / "broken.mcap")]
    evaluated(tmp_path / "out", "--bags", *bags, "--jobs", "1", code=1)
    assert "broken.mcap left out" in capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["bags"]) == ["good"] and list(report["failed_bags"]) == ["broken.mcap"]
    assert cli.main(["evaluate", "--bags", bags[1], "--out", str(tmp_path / "none")]) == 2


@needs_kitti
def test_a_bag_whose_odometry_nothing_relates_to_the_rig(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of one bag, though a parameter would mend it: the others are evaluated."""

    def renamed(message: Any) -> None:
        message.child_frame_id = "imu"

    other_odometry(tmp_path / "odd", renamed)
    bags = [str(tmp_path / "odd"), str(shorter(KITTI, tmp_path / "good", 2.5))]
    evaluated(tmp_path / "out", "--bags", *bags, "--jobs", "1", code=1)
    told = capsys.readouterr()
    assert "odd left out" in told.err and "odometry_child_from_rig" in told.err
    assert "good, instants not scored: 15 warming_up" in told.out


@needs_kitti
def test_a_bag_without_any_instant_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Odometry of poses alone, as many SLAM systems publish it: which input, by how much."""

    def without_twist(message: Any) -> None:
        message.twist.twist.linear.x = 0.0

    other_odometry(tmp_path / "slam", without_twist)
    evaluated(tmp_path / "out", "--bags", str(tmp_path / "slam"), "--jobs", "1", code=1)
    told = capsys.readouterr().out
    assert "odometry_inconsistent [odometry]: " in told and "its twist says 0.0 m/s" in told


def test_how_long_it_took_is_set_beside_the_models() -> None:
    """Where they took long enough to be compared with; a resumed run says so."""
    duration = {"run_s": 12.0, "models_s": 8.0, "shards_s": 11.0, "kept_shards": 0}
    assert took(duration) == "took 12.0 s, 1.50 times the 8.0 s of the models' own plans"
    assert took({**duration, "models_s": 0.01, "kept_shards": 2}).endswith("kept: 2")
    assert "times" not in took({**duration, "models_s": 0.0})


def test_whose_worst_instants_are_shown() -> None:
    """Those of the models that look, wherever they stand in the list; else the first's."""
    assert pictured(["kinematic", "student", "student_black", "stand_still"]) == ["student"]
    assert pictured(["kinematic", "stand_still"]) == ["kinematic"]


def test_a_manifest_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a cluster starts somewhere else."""
    monkeypatch.chdir(resource("models"))
    found = entrants(["./kinematic.yaml"], settings_from({}))
    assert found[0].settings.model == str(resource("models", "kinematic.yaml").resolve())


def test_options_of_models() -> None:
    """Of one model, of all; of one that is not asked for."""
    settings = settings_from({})
    given = [("", "seed", 3), ("student_light", "threads", 1)]
    student, black, baselines = entrants(["student_light"], settings, given)
    assert student.settings.model_options == {"seed": 3, "threads": 1}
    assert black.settings.model_options == student.settings.model_options
    assert not baselines.settings.model_options
    with pytest.raises(UserError, match="--option of alpamayo_r1: the planners are student_light"):
        entrants(["student_light"], settings, [("alpamayo_r1", "samples", 6)])


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow or Ray: the extra that brings it."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"alpamayo_ros\[evaluate\]"):
        tables.need_pyarrow()
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"alpamayo_ros\[ray\]"):
        list(run_all(Evaluation(), [None], Machines(ray="local")))  # type: ignore[list-item]
