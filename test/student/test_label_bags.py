"""Any backend labels recordings, through the node's own pipeline; its licence goes along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from alpamayo_ros.cli import main
from alpamayo_ros.distill.shard import read_shard
from alpamayo_ros.distill.store import open_labels
from alpamayo_ros.resources import resource
from alpamayo_ros.world.record import RecordOptions, record


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A drive with a whole future behind its first instants, and a short one."""
    folder = tmp_path_factory.mktemp("bags")
    lengths = {"long": 8.6, "short": 2.6}
    for name, seconds in lengths.items():
        record(folder / name, RecordOptions(seconds=seconds, seed=5, width_px=144, height_px=80))
    return [folder / name for name in lengths]


def test_labels_of_recordings(bags: list[Path], tmp_path: Path) -> None:
    """Two recordings listed in a file; truth where odometry reaches 6.4 s ahead."""
    listing = tmp_path / "bags.txt"
    listing.write_text("".join(f"{bag}\n" for bag in bags))
    teacher = yaml.safe_load(resource("models", "kinematic.yaml").read_text())
    teacher |= {"name": "strict", "licence": "CC-BY-NC-4.0"}
    manifest = tmp_path / "strict.yaml"
    manifest.write_text(yaml.safe_dump(teacher))
    command = ["distill", "label", "--teacher", str(manifest), "--bags", str(listing),
               "--every", "3", "--jobs", "1", "--out", str(tmp_path / "labels")]  # fmt: skip
    assert main(command) == 0
    labels = open_labels(tmp_path / "labels")
    assert (labels.manifest["teacher"], labels.manifest["licence"]) == ("strict", "CC-BY-NC-4.0")
    assert [path.stem for path in labels.shards] == ["long", "short"]
    shard = read_shard(labels.shards[0])
    assert (np.diff(shard.arrays["t0_ns"]) == 300_000_000).all()
    known = np.isfinite(shard.arrays["truth"]).all(axis=(1, 2))
    assert known[0] and not known[-1]
    # What the rig really did is what its odometry says, and no wild derivative of it.
    assert np.abs(shard.arrays["truth"][0]).max() < 5.0
    assert shard.arrays["reasoning"][0]
    before = [path.read_bytes() for path in labels.shards]
    assert main(command) == 0  # nothing is left to do
    assert [path.read_bytes() for path in labels.shards] == before


def test_the_same_labels_on_ray(bags: list[Path], tmp_path: Path) -> None:
    """Two Ray workers on this machine against this process, byte for byte."""
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    command = ["distill", "label", "--teacher", "kinematic", "--bags", *map(str, bags)]
    for name, where in (("here", ["--jobs", "1"]), ("ray", ["--jobs", "2", "--ray", "local"])):
        assert main([*command, *where, "--out", str(tmp_path / name)]) == 0
    here, there = (open_labels(tmp_path / name).shards for name in ("here", "ray"))
    assert [path.name for path in here] == [path.name for path in there]
    assert [path.read_bytes() for path in here] == [path.read_bytes() for path in there]


def test_a_recording_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["distill", "label", "--teacher", "kinematic", "--bags", str(tmp_path / "none"),
               "--out", str(tmp_path / "labels")]  # fmt: skip
    assert main(command) == 2
    assert "1 recordings do not exist" in capsys.readouterr().err
