"""Losses by hand, and trainings that are killed, gone on with, chained and licensed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm: make test installs it", allow_module_level=True)

from student import small  # noqa: E402

from alpamayo_ros import action_space  # noqa: E402
from alpamayo_ros.distill import losses  # noqa: E402
from alpamayo_ros.distill.chain import licence_of, run_chain  # noqa: E402
from alpamayo_ros.distill.checkpoint import load_student, read_tensors  # noqa: E402
from alpamayo_ros.distill.data import Batch, BatchMaker, LabelSet  # noqa: E402
from alpamayo_ros.distill.store import open_labels  # noqa: E402
from alpamayo_ros.distill.train_config import (  # noqa: E402
    Augmentation,
    LossWeights,
    TrainConfigError,
    load_train_config,
    train_config,
)
from alpamayo_ros.distill.trainer import Trainer  # noqa: E402
from alpamayo_ros.errors import UserError  # noqa: E402
from alpamayo_ros.jobs import Machines, in_order  # noqa: E402
from alpamayo_ros.manifest import load_manifest  # noqa: E402

CPU = torch.device("cpu")
STAGE = {"student": small.CONFIG.to_dict(), "steps": 4, "clips": 2, "clip_length": 3,
         "warm_up": 1, "validate_every": 2, "checkpoint_every": 2}  # fmt: skip


def config_of(labels: Path, *stages: dict):
    content = {"stages": [{**STAGE, **stage} for stage in stages], "threads": 1}
    return train_config(content, "test", [labels])


# ---- losses ---------------------------------------------------------------------------------


def test_positions_are_the_action_spaces() -> None:
    action = np.random.default_rng(1).normal(size=(3, 64, 2)) * (1.0, 0.02)
    speed = np.array([2.0, 8.0, 0.5])
    scale = torch.tensor([1.0, 0.03], dtype=torch.float64)
    path = losses.positions(torch.from_numpy(action) / scale, torch.from_numpy(speed), scale)
    for row in range(3):
        xyz, _ = action_space.integrate(action[row], speed[row])
        np.testing.assert_allclose(path[row].numpy(), xyz[:, :2], atol=1e-9)


def test_truth_and_teacher_by_hand() -> None:
    """Off by 0.5 and by 3: Huber 0.125 and 2.5, squares 0.25 and 9; the second row weighs 3."""
    zeros, scale = torch.zeros(2, 64, 2), torch.tensor([1.0, 1.0])
    action = torch.stack([torch.full((64, 2), 0.5), torch.full((64, 2), 3.0)])
    weights = LossWeights(waypoints=0.0)
    confidence = torch.tensor([1.0, 3.0])
    terms = losses.trajectory_terms(action, zeros, zeros, torch.ones(2), confidence, scale, weights)
    assert terms["truth"].item() == pytest.approx((0.125 + 3 * 2.5) / 4)
    assert terms["teacher"].item() == pytest.approx((0.25 + 3 * 9.0) / 4)
    unknown = zeros.clone()
    unknown[1, 5, 0] = math.nan
    terms = losses.trajectory_terms(
        action, unknown, zeros, torch.ones(2), confidence, scale, weights
    )
    assert terms["truth"].item() == pytest.approx(0.125)


def test_softened_kl_by_hand() -> None:
    """Two tokens' worth of (0.8, 0.2) against (0.5, 0.5), at T = 2 of doubled logits."""
    teacher = 2.0 * torch.tensor([[[math.log(0.8), math.log(0.2)]] * 2])
    wanted = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    found = losses.softened_kl(torch.zeros(1, 2, 2), teacher, 2.0)
    assert found.item() == pytest.approx(4.0 * wanted, rel=1e-5)


def test_the_weights_of_the_sum() -> None:
    terms = {name: torch.tensor(1.0) for name in ("truth", "teacher", "features", "tokens")}
    assert losses.total(terms, LossWeights()).item() == pytest.approx(1.0 + 0.5 + 0.1 + 0.3)


# ---- data -----------------------------------------------------------------------------------


def test_a_wrong_speed_is_made_good_within_a_second(labels: Path) -> None:
    data = LabelSet(open_labels(labels).shards, 3)
    noise = Augmentation(speed_mps=1.0, camera_drop=1.0, shift=0)
    plain = data.batch(data.clips[:2], small.CONFIG)
    noisy = data.batch(data.clips[:2], small.CONFIG, noise, np.random.default_rng(1))
    assert np.abs(noisy.speed - plain.speed).max() > 0.1
    for one, other in ((plain.truth, noisy.truth), (plain.teacher, noisy.teacher)):
        after = plain.speed + 0.1 * one[:, :10, 0].sum(axis=1)
        same = noisy.speed + 0.1 * other[:, :10, 0].sum(axis=1)
        np.testing.assert_allclose(same, after, atol=1e-4)
        np.testing.assert_array_equal(one[:, 10:], other[:, 10:])
    assert noisy.camera_mask.tolist() == [[0.0, 1.0, 0.0, 0.0]] * 6
    assert len(plain.frames) == 2 * 4 * 6  # clips x cameras x frames of three instants
    assert len(noisy.frames) == 2 * 6  # cameras that are dropped are not encoded either


def test_every_clip_comes_once_an_epoch(labels: Path) -> None:
    data = LabelSet(open_labels(labels).shards, 3)
    drawn = [clip for step in range(3) for clip in data.draw(1, step, 2)]
    assert sorted(drawn) == sorted(data.clips)


@pytest.mark.parametrize("machines", [Machines(2), Machines(2, "local")], ids=["processes", "ray"])
def test_batches_do_not_depend_on_who_makes_them(labels: Path, machines: Machines) -> None:
    """Two workers that open the labels themselves, and this process."""
    if machines.ray:
        pytest.importorskip("ray", reason="needs Ray: pip install ray")
    data = LabelSet(open_labels(labels).shards, 3)
    maker = BatchMaker(data, small.CONFIG, Augmentation(), seed=5, clips=2)
    here, there = (list(in_order(maker, range(4), where)) for where in (Machines(), machines))
    assert len(here) == len(there) == 4
    for one, other in zip(here, there):
        for field in dataclasses.fields(Batch):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


# ---- training -------------------------------------------------------------------------------


def test_killed_and_gone_on_gives_the_same_weights(labels: Path, tmp_path: Path) -> None:
    """Stopped after the state of step 2 was written, in the middle of step 4."""
    config = config_of(labels, {"name": "a"})
    run_chain(config, tmp_path / "whole")

    class Killed(Exception):
        pass

    data = LabelSet(open_labels(labels).shards[:2], 3)
    trainers = [
        Trainer(config.stages[0], data, data, tmp_path / where, torch.device("cpu"))
        for where in ("one", "other", "other")
    ]
    trainers[0].run()

    def kill(step: int) -> None:
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        trainers[1].run(kill)
    trainers[2].run()
    one, _ = read_tensors(tmp_path / "one" / "training.safetensors")
    other, _ = read_tensors(tmp_path / "other" / "training.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    metrics = [(tmp_path / where / "metrics.jsonl").read_text() for where in ("one", "other")]
    steps = [[json.loads(line)["step"] for line in text.splitlines()] for text in metrics]
    assert steps == [[2, 4], [2, 4]]


def test_a_chain_with_every_loss(labels: Path, tmp_path: Path) -> None:
    """A flow student taught by a regression student; retention over it is reported."""
    flow = dataclasses.replace(small.CONFIG, name="small_flow", head="flow").to_dict()
    config = config_of(labels, {"name": "middle"}, {"name": "end", "teacher": "middle",
                                                    "student": flow})  # fmt: skip
    report = run_chain(config, tmp_path)
    assert [stage["name"] for stage in report["stages"]] == ["middle", "end"]
    end = report["stages"][1]["retention"]
    assert end["error_over_teachers"] == pytest.approx(end["student_ade_m"] / end["teacher_ade_m"])
    line = json.loads((tmp_path / "end" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"truth", "teacher", "features", "tokens"} <= line.keys()
    assert (tmp_path / "end" / "curve.png").stat().st_size > 1000
    student, licence = load_student(tmp_path / "end" / "student.safetensors")
    assert (student.config.head, licence) == ("flow", "Apache-2.0")


def test_a_teachers_licence_stays_with_the_student(tmp_path: Path) -> None:
    """Non-commercial labels -> weights' metadata and the model's manifest."""
    small.write_labels(tmp_path / "labels", licence="NVIDIA non-commercial", shards=2)
    run_chain(config_of(tmp_path / "labels", {"name": "a", "steps": 1}), tmp_path / "out")
    manifest = load_manifest(str(tmp_path / "out" / "a" / "student.yaml"))
    assert manifest.licence == "NVIDIA non-commercial"
    _, metadata = read_tensors(tmp_path / "out" / "a" / "student.safetensors")
    assert metadata["licence"] == "NVIDIA non-commercial"
    assert licence_of(["Apache-2.0", "MIT"]) == "Apache-2.0"
    assert licence_of(["NC", "Apache-2.0", "CC-BY-NC-4.0"]) == "CC-BY-NC-4.0 AND NC"


def test_another_training_is_not_gone_on_with(labels: Path, tmp_path: Path) -> None:
    run_chain(config_of(labels, {"name": "a", "steps": 2}), tmp_path)
    with pytest.raises(TrainConfigError, match="another training"):
        run_chain(config_of(labels, {"name": "a", "steps": 2, "learning_rate": 1e-3}), tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: []", "wants a list"),
        ("stages: [{student: student_light, stepz: 3}]", "unknown stepz"),
        ("stages: [{student: student_light, steps: many}]", "steps is 'many'"),
        ("stages: [{student: student_light, loss: {alfa: 1}}]", "unknown alfa"),
        ("stages: [{student: student_light, teacher: x}]", "teacher x is not before"),
        ("stages: [{student: student_none}]", "student_none.yaml"),
        ("stages: &all [*all]", "[*]all names nothing before it"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load_train_config(path, [tmp_path])


def test_stages_of_a_chain_may_share(tmp_path: Path) -> None:
    """By anchors and merge keys."""
    path = tmp_path / "train.yaml"
    path.write_text(
        "stages:\n"
        "  - &first {name: first, student: student_light, steps: 30, loss: &loss {alpha: 2.0}}\n"
        "  - {<<: *first, name: second, teacher: first, loss: {<<: *loss, beta: 0.25}}\n"
    )
    first, second = load_train_config(path, [tmp_path]).stages
    assert (second.name, second.teacher, second.steps) == ("second", "first", 30)
    assert second.student == first.student
    assert (second.loss.alpha, second.loss.beta) == (2.0, 0.25)


def test_the_labels_images_have_to_be_the_students(labels: Path, tmp_path: Path) -> None:
    larger = dataclasses.replace(small.CONFIG, input_size=(64, 64)).to_dict()
    with pytest.raises(TrainConfigError, match="label with --student small"):
        run_chain(config_of(labels, {"name": "a", "student": larger}), tmp_path)
