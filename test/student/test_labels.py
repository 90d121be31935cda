"""Stores of labels: what is kept, going on after a kill, explaining, licences."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from student import small

from alpamayo_ros.action_space import integrate
from alpamayo_ros.cli import main
from alpamayo_ros.distill.beside import Motion, moved_aside, seen_beside
from alpamayo_ros.distill.explain import explain, stamp_ns
from alpamayo_ros.distill.shard import MISSING, LabelError, ShardWriter, read_shard
from alpamayo_ros.distill.store import LabelStore, Origin, open_labels
from alpamayo_ros.geometry import yaw_of
from alpamayo_ros.student.inputs import reduced
from alpamayo_ros.types import CAMERA_NAMES
from alpamayo_ros.world.closed_loop import ClosedLoop
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.vehicle import Command

COLLECT = ["distill", "collect", "--scenarios", "straight,curvy", "--seeds", "1-2", "--seconds",
           "4", "--keep", "2/6", "--image-width", "144"]  # fmt: skip
BESIDE = ["distill", "collect", "--scenarios", "straight", "--seeds", "1", "--seconds", "4",
          "--keep", "1/2", "--beside", "1", "--disturb", "0", "--image-width", "144"]  # fmt: skip


def test_a_shard_gives_back_what_it_was_given(tmp_path: Path) -> None:
    writer = ShardWriter(small.FORM)
    for number in range(3):
        writer.add(small.sample(number), small.plan(number), 0.5, None)
    writer.save(tmp_path / "a.npz")
    shard = read_shard(tmp_path / "a.npz")
    assert len(shard) == 3
    assert shard.frames.shape == (4 * 6, 32, 64, 3)  # 4 cameras; three instants share frames
    sample, index = small.sample(2), shard.arrays["frame_index"][2]
    for camera in range(4):
        for frame in range(4):
            wanted = reduced(small.CONFIG, camera, sample.images[camera, frame])
            np.testing.assert_array_equal(shard.frames[index[camera, frame]], wanted)
    np.testing.assert_allclose(shard.arrays["action"][1], small.plan(1).action, rtol=1e-6)
    assert np.isnan(shard.arrays["truth"]).all()
    assert shard.commands().tolist() == [1, 1, 1]


def test_a_camera_that_is_missing_has_no_frames(tmp_path: Path) -> None:
    writer = ShardWriter(small.FORM)
    writer.add(small.sample(cameras=(1, 6)), small.plan(), 1.0, None)
    writer.save(tmp_path / "a.npz")
    index = read_shard(tmp_path / "a.npz").arrays["frame_index"][0]
    assert (index[[0, 2]] == -1).all() and (index[[1, 3]] >= 0).all()


def test_the_same_labels_are_the_same_bytes(tmp_path: Path) -> None:
    one = small.write_labels(tmp_path / "one")
    other = small.write_labels(tmp_path / "other")
    assert one.finish() == other.finish()


def test_another_origins_labels_do_not_mix(tmp_path: Path) -> None:
    small.write_labels(tmp_path / "labels")
    with pytest.raises(LabelError, match="licence differ"):
        LabelStore(tmp_path / "labels", Origin("teacher", "MIT", small.FORM, {}))


def test_unfinished_and_damaged_labels_are_refused(tmp_path: Path) -> None:
    LabelStore(tmp_path / "begun", Origin("teacher", "MIT", small.FORM, {}))
    with pytest.raises(LabelError, match="not finished"):
        open_labels(tmp_path / "begun")
    store = small.write_labels(tmp_path / "labels")
    with store.path("drive-1").open("r+b") as file:
        file.seek(500)
        file.write(b"damage")
    with pytest.raises(LabelError, match="drive-1.npz is missing or damaged"):
        open_labels(tmp_path / "labels")


def test_killed_and_gone_on_gives_the_same_labels(tmp_path: Path) -> None:
    """kill -9 after the first shard, with half a file lying about."""
    out, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "alpamayo_ros.cli", *COLLECT, "--jobs", "1", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60.0
        while not list(out.glob("shards/*.npz")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert 1 <= len(list(out.glob("shards/*.npz"))) < 4
    (out / "shards" / "curvy-2.partial").write_bytes(b"half a file")
    assert main([*COLLECT, "--jobs", "2", "--out", str(out)]) == 0
    assert main([*COLLECT, "--jobs", "1", "--out", str(whole)]) == 0
    assert open_labels(out).manifest == open_labels(whole).manifest


def test_explaining_an_instant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_labels(tmp_path / "labels")
    found = explain(open_labels(tmp_path / "labels"), "11.22")
    assert (found["reasoning"], found["shard"]) == ("Slow down, number 12.", "drive-1")
    assert main(["distill", "explain", str(tmp_path / "labels"), "--t0", "11200000000"]) == 0
    assert "Slow down, number 12." in capsys.readouterr().out
    assert main(["distill", "explain", str(tmp_path / "labels"), "--t0", "11.2"]) == 0
    assert "Slow down, number 12." in capsys.readouterr().out
    with pytest.raises(LabelError, match="nearest is"):
        explain(open_labels(tmp_path / "labels"), "99.0")


def test_stamps_are_read_exactly() -> None:
    assert stamp_ns("1700000000.123456789") == 1_700_000_000_123_456_789
    assert stamp_ns("1700000000123456789") == 1_700_000_000_123_456_789
    assert stamp_ns("12") == 12_000_000_000
    for wrong in ("soon", "1e9", "-1", "9999999999"):
        with pytest.raises(LabelError, match="--t0"):
            stamp_ns(wrong)


def test_the_expert_labels_no_recordings(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", "label", "--teacher", "expert", "--bags", "x", "--out", "y"]
    assert main(arguments) == 2
    assert "alpamayo distill collect" in capsys.readouterr().err


def test_without_ray_the_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("ray"):
        pytest.skip("Ray is installed")
    arguments = [*COLLECT, "--out", str(tmp_path / "labels"), "--ray", "local"]
    assert main(arguments) == 2
    assert "pip install 'alpamayo_ros[ray]'" in capsys.readouterr().err


def test_beside_the_way_one_frame_is_labelled(tmp_path: Path) -> None:
    """A straight road: the further to the right, the further to the left the way leads."""
    out = tmp_path / "labels"
    assert main([*BESIDE, "--out", str(out)]) == 0
    shard = read_shard(out / "shards" / "straight-1.npz")
    index = shard.arrays["frame_index"]
    assert (index[:, :, :3] == MISSING).all() and (index[:, :, 3] >= 0).all()
    assert len(np.unique(index[:, :, 3])) == 4 * len(shard)
    # At first the vehicle is where nobody drove; after 6.4 s it is back in its lane.
    action, speed = shard.arrays["truth"].astype(float), shard.arrays["speed"]
    ends = np.array([integrate(a, v)[0][-1, 1] for a, v in zip(action, speed)])
    assert np.ptp(ends) > 1.0
    # The motion so far tells nothing of it: that was driven straight.
    assert np.abs(shard.arrays["history"][:, :, 1]).max() < 0.05


def test_the_motion_that_led_beside_the_way_is_an_arc(tmp_path: Path) -> None:
    """Braked from 8 to 5 m/s on a bend of 50 m radius; and an ego that has just begun to move."""
    images = {name: np.zeros((320, 576, 3), np.uint8) for name in CAMERA_NAMES}
    seen = seen_beside(small.sample(), images, Motion(5.0, -2.0, 0.02))
    way = np.linalg.norm(np.diff(seen.history_xyz_in_rig_t0, axis=0), axis=1)
    # Chords of 0.8 m on a radius of 50 m are 0.01 mm shorter than their arcs.
    speeds = 5.0 + 0.2 * (np.arange(14, -1, -1) + 0.5)
    np.testing.assert_allclose(way, 0.1 * speeds, atol=1e-4)
    centre = np.array((0.0, 50.0, 0.0))
    radius = np.linalg.norm(seen.history_xyz_in_rig_t0 - centre, axis=1)
    np.testing.assert_allclose(radius, 50.0, atol=1e-9)
    yaw = yaw_of(seen.history_rot_in_rig_t0)
    assert seen.yaw_rate_rps == pytest.approx(0.1)
    assert yaw[0] == pytest.approx(-0.02 * way.sum(), rel=1e-3)
    begun = seen_beside(small.sample(), images, Motion(0.5, 1.0, 0.0)).history_xyz_in_rig_t0
    np.testing.assert_allclose(begun[:11, 0], -0.125)  # stood until 0.5 s ago


def test_beside_does_not_disturb_the_drive(tmp_path: Path) -> None:
    """The same drive, with and without the looks from beside."""
    scenario = make_scenario("lead", 3, 4.0)
    drive = ClosedLoop(scenario, None).simulation
    other = ClosedLoop(scenario, None).simulation
    rng = np.random.default_rng(0)
    for _ in range(100):
        with moved_aside(other, rng, 1.0):
            assert other.ego != drive.ego
        drive.step(Command(0.5))
        other.step(Command(0.5))
        assert other.ego == drive.ego and other.s_m == drive.s_m
