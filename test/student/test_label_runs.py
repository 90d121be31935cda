"""Runs of `distill label` over many recordings: names, going on, what fails, who labels what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from student import small

from alpamayo_ros import jobs
from alpamayo_ros.backends import placement
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.candidates import PreviousPlan
from alpamayo_ros.cli import main
from alpamayo_ros.distill import bags
from alpamayo_ros.distill.makers import BagMaker
from alpamayo_ros.distill.shard import LabelError, ShardWriter
from alpamayo_ros.distill.store import open_labels
from alpamayo_ros.errors import BagError, UserError
from alpamayo_ros.manifest import Manifest, load_manifest
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.types import Pose3


@pytest.fixture
def drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in folders a and b, each of its own length in instants; `bad` ones cannot be read."""
    for number, name in enumerate(("a/drive", "b/drive", "a/other", "a/bad", "b/bad2"), start=1):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))

    def label_bag(path: Path, *_: Any) -> ShardWriter:
        if path.stem.startswith("bad") and path.read_text() != "1":
            raise BagError(f"{path.name} is cut short")
        writer = ShardWriter(small.FORM)
        for number in range(int(path.read_text())):
            writer.add(small.sample(number), small.plan(number), 1.0, None)
        return writer

    monkeypatch.setattr(bags, "label_bag", label_bag)
    return tmp_path


def label(folder: Path, *names: str, more: tuple[str, ...] = ()) -> int:
    return main(["distill", "label", "--teacher", "kinematic", "--jobs", "1", *more,
                 "--out", str(folder / "labels"), "--bags",
                 *(str(folder / name) for name in names)])  # fmt: skip


def lengths(folder: Path) -> dict[str, int]:
    """By recording, each once."""
    shards = open_labels(folder / "labels").manifest["shards"].values()
    assert len({shard["recording"] for shard in shards}) == len(shards)
    return {
        str(Path(shard["recording"]).relative_to(folder)): shard["instants"] for shard in shards
    }


# ---- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [("a/drive",), ("b/drive", "a/drive")], ids=["one", "turned"])
def test_recordings_of_one_name_are_labelled_once_each(
    drives: Path, first: tuple[str, ...]
) -> None:
    """Gone on with in another order, with more and with one given twice."""
    assert label(drives, *first) == 0
    assert label(drives, "a/drive", "b/drive", "a/../a/drive", "a/other") == 0
    assert lengths(drives) == {"a/drive": 1, "b/drive": 2, "a/other": 3}


def test_another_recording_under_a_name_that_is_done_is_refused(
    drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(drives, "a/drive") == 0
    assert label(drives, "b/drive") == 2
    assert "a/drive, and" in capsys.readouterr().err
    assert lengths(drives) == {"a/drive": 1}


def test_other_parameters_and_options_do_not_mix(
    drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a recording is read by counts; how the node is run does not."""
    params = drives / "params.yaml"

    def given(**values: Any) -> tuple[str, ...]:
        params.write_text(json.dumps({"planner": {"ros__parameters": values}}))
        return "--params", str(params)

    option = ("--option", "max_curvature_1pm=0.1")
    assert label(drives, "a/drive", more=option) == 0
    assert label(drives, "a/drive", more=(*option, *given(autostart=False))) == 0
    others: tuple[tuple[str, ...], ...] = (
        (*option, *given(odometry_topic="/other")),
        (*option, *given(camera_stamp_offsets_ms=[5.0])),
        (*option, *given(rig_views="alpamayo")),
        (),
    )
    for more in others:
        assert label(drives, "a/drive", more=more) == 2
        assert "settings differ" in capsys.readouterr().err
    settings = open_labels(drives / "labels").manifest["settings"]
    assert settings["options"] == {"max_curvature_1pm": 0.1}


# ---- failures -------------------------------------------------------------------------------


def test_a_bad_recording_is_left_out_and_tried_again(
    drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(drives, "a/bad", "a/drive", "b/bad2", "a/other") == 1
    said = capsys.readouterr().err
    assert "2 of 4 left out" in said
    assert "  bad: bad is cut short\n  bad2: bad2 is cut short" in said
    assert lengths(drives) == {"a/drive": 1, "a/other": 3}
    failed = open_labels(drives / "labels").manifest["failed"]
    assert failed == {"bad": "bad is cut short", "bad2": "bad2 is cut short"}
    for name in ("a/bad", "b/bad2"):
        (drives / name).write_text("1")
    assert label(drives, "a/bad", "a/drive", "b/bad2", "a/other") == 0
    assert lengths(drives) == {"a/drive": 1, "a/other": 3, "a/bad": 1, "b/bad2": 1}
    assert "failed" not in open_labels(drives / "labels").manifest


def test_where_all_are_bad_there_are_no_labels(
    drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(drives, "a/bad", "b/bad2") == 2
    assert "no recording can be labelled:\n  bad: bad is cut short" in capsys.readouterr().err
    with pytest.raises(LabelError, match="not finished"):
        open_labels(drives / "labels")


def test_a_worker_that_is_killed(
    drives: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_all(*_: Any) -> Any:
        raise jobs.WorkerLost
        yield

    monkeypatch.setattr(jobs, "run_all", run_all)
    assert label(drives, "a/drive") == 2
    assert "(--jobs); the same command goes on where it was" in capsys.readouterr().err


PROGRAM = """
import os, signal, sys
from alpamayo_ros.errors import UserError
from alpamayo_ros.jobs import Machines, WorkerLost, run_all

class Task:
    def open(self):
        if sys.argv[1] == "unopened": raise UserError("no such model")
    def do(self, opened, item): os.kill(os.getpid(), signal.SIGKILL)
    def close(self, opened): pass

if __name__ == "__main__":
    try:
        list(run_all(Task(), [0, 1, 2], Machines(workers=2)))
    except UserError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("how", "said"), [("killed", "WorkerLost a worker process was killed"),
                      ("unopened", "UserError no such model")]
)  # fmt: skip
def test_why_workers_cannot_go_on(tmp_path: Path, how: str, said: str) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(program), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(said)


# ---- teachers -------------------------------------------------------------------------------


def vla(**options: Any) -> VlaBackend:
    manifest = Manifest(
        "vla", "vla", "NC", load_manifest("kinematic").cameras, True,
        {"checkpoint": "none", **options}, Path("vla.yaml"),
    )  # fmt: skip
    return VlaBackend(manifest)


def test_a_teacher_forgets_between_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose plans depend on those before: labels do not depend on the recordings' order."""

    class Counting(KinematicBackend):
        made = 0

        def forget(self) -> None:
            self.made = 0

    seen: dict[str, int] = {}

    def label_bag(path: Path, settings: Any, teacher: Counting, *_: Any) -> ShardWriter:
        seen[path.name] = teacher.made
        teacher.made += 1
        return ShardWriter(small.FORM)

    monkeypatch.setattr(bags, "label_bag", label_bag)
    (tmp_path / "shards").mkdir()
    paths = (("a", Path("a")), ("b", Path("b")))
    settings = settings_from({})
    maker = BagMaker("kinematic", "kinematic", (), paths, settings, small.FORM, 1, tmp_path)
    teacher = Counting(load_manifest("kinematic"))
    for name in "ab":
        maker.do(teacher, name)
    assert seen == {"a": 0, "b": 0}


def test_the_vla_forgets_its_previous_plan() -> None:
    backend = vla()
    backend._previous = PreviousPlan(0, np.zeros((64, 3)), Pose3(np.zeros(3), np.eye(3)), "odom")
    backend.forget()
    assert backend._previous is None


@pytest.mark.parametrize(
    ("alone", "given", "workers"), [(True, "0", 1), (False, "0", 3), (True, "2", 2)]
)
def test_one_process_for_such_a_teacher(
    drives: Path, monkeypatch: pytest.MonkeyPatch, alone: bool, given: str, workers: int
) -> None:
    """Unless another number is asked for."""
    asked: list[int] = []

    def run_all(maker: BagMaker, items: Any, machines: jobs.Machines) -> Any:
        asked.append(machines.workers)
        raise UserError("enough")
        yield

    monkeypatch.setattr(jobs, "run_all", run_all)
    monkeypatch.setattr(placement, "cores", lambda: 3)
    monkeypatch.setattr(KinematicBackend, "wants_process", alone)
    assert label(drives, "a/drive", more=("--jobs", given)) == 2
    assert asked == [workers]


def test_options_reach_the_teacher(
    drives: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Any] = []
    load = KinematicBackend.load
    monkeypatch.setattr(
        KinematicBackend, "load", lambda self: (opened.append(self.manifest.options), load(self))[1]
    )
    assert label(drives, "a/drive", more=("--option", "max_curvature_1pm=0.1")) == 0
    assert opened[0]["max_curvature_1pm"] == 0.1
    assert label(drives, "a/drive", more=("--option", "max_curvature_1pm")) == 2
    assert "wanted key=value" in capsys.readouterr().err
