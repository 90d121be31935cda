"""Losses by hand, and trainings that are killed, gone on with, chained and licensed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm: make test installs it", allow_module_level=True)

from student import small  # noqa: E402

from alpamayo_ros import action_space  # noqa: E402
from alpamayo_ros.cli import main  # noqa: E402
from alpamayo_ros.distill import losses  # noqa: E402
from alpamayo_ros.distill.chain import _split, licence_of, run_chain  # noqa: E402
from alpamayo_ros.distill.checkpoint import load_student, read_tensors  # noqa: E402
from alpamayo_ros.distill.data import Batch, BatchMaker, LabelSet  # noqa: E402
from alpamayo_ros.distill.losses import DistillHeads  # noqa: E402
from alpamayo_ros.distill.shard import MISSING, ImageForm, ShardWriter  # noqa: E402
from alpamayo_ros.distill.step import loss_terms, to_tensors  # noqa: E402
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
from alpamayo_ros.student.model import Student  # noqa: E402

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


def test_looking_where_the_teacher_looks() -> None:
    """None off where the energies are alike, whatever their scale; 2 where they share no cell."""
    features = torch.zeros(2, 3, 2, 4)
    features[0, :, 0, 1] = features[1, :, 0, 1] = 5.0
    attention = torch.zeros(2, 2, 4)
    attention[0, 0, 1], attention[1, 1, 2] = 0.01, 0.01
    torch.testing.assert_close(losses.attention_off(features, attention), torch.tensor([0.0, 2.0]))


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


def test_a_student_that_does_not_look_ahead(tmp_path: Path) -> None:
    """All cameras but the first are dropped; then the last clip, and then all, have no frame."""
    config = dataclasses.replace(
        small.CONFIG, cameras=("cross_left", "cross_right"), crop_rows=((64, 320),)
    )
    small.write_labels(tmp_path / "labels", extras=True, form=ImageForm.of(config))
    data = LabelSet(open_labels(tmp_path / "labels").shards, 3)
    student, noise = Student(config), Augmentation(camera_drop=1.0)
    told = {name: data.extra(name) for name in ("features", "logits", "maps")}
    heads = DistillHeads(config, student.encoder.channels, **told)
    for frameless, mask in (((), [1, 1, 1]), ((2,), [1, 1, 0]), ((0, 1), [0, 0, 0])):
        for number in frameless:
            data.shards[number].arrays["frame_index"][:] = MISSING
        clips = [(number, 0) for number in range(3)]
        batch = data.batch(clips, config, noise, np.random.default_rng(1))
        assert batch.camera_mask[::3].tolist() == [[float(there), 0.0] for there in mask]
        tensors = to_tensors(batch, config, CPU, noise, np.random.default_rng(2))
        terms = loss_terms(student, heads, tensors, LossWeights(), torch.Generator())
        assert all(torch.isfinite(term) for term in terms.values())


def test_the_first_camera_that_a_clip_has_is_kept(labels: Path) -> None:
    """Recorded without the one ahead: something is left to learn from."""
    data = LabelSet(open_labels(labels).shards, 3)
    for shard in data.shards:
        shard.arrays["frame_index"][:, :2] = MISSING
    noise = Augmentation(camera_drop=1.0)
    batch = data.batch(data.clips[:1], small.CONFIG, noise, np.random.default_rng(1))
    assert batch.camera_mask.tolist() == [[0.0, 0.0, 1.0, 0.0]] * 3


def test_a_shard_without_any_frame(tmp_path: Path) -> None:
    """Recorded by cameras that the student does not have."""
    writer = ShardWriter(small.FORM)
    for number in range(3):
        writer.add(small.sample(number, cameras=(3,)), small.plan(number), 1.0, None)
    writer.save(tmp_path / "a.npz")
    data = LabelSet([tmp_path / "a.npz"], 3)
    batch = data.batch(data.clips, small.CONFIG, Augmentation(), np.random.default_rng(1))
    assert batch.frames.shape == (2, 32, 64, 3)  # that nobody looks at
    assert (batch.frame_index == 2).all() and not batch.camera_mask.any()


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
    loss = {"attention": 0.1}
    config = config_of(labels, {"name": "middle"}, {"name": "end", "teacher": "middle",
                                                    "student": flow, "loss": loss})  # fmt: skip
    report = run_chain(config, tmp_path)
    assert [stage["name"] for stage in report["stages"]] == ["middle", "end"]
    end = report["stages"][1]["retention"]
    assert end["error_over_teachers"] == pytest.approx(end["student_ade_m"] / end["teacher_ade_m"])
    line = json.loads((tmp_path / "end" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"truth", "teacher", "features", "tokens", "sight", "attention"} <= line.keys()
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


def test_a_starts_licence_stays_with_the_student(labels: Path, tmp_path: Path) -> None:
    """And with who is taught by that student. The report names the start."""
    small.write_labels(tmp_path / "labels", licence="NC", shards=2)
    run_chain(config_of(tmp_path / "labels", {"name": "a", "steps": 1}), tmp_path / "one")
    start = tmp_path / "one" / "a" / "student.safetensors"
    config = config_of(labels, {"name": "b", "steps": 1, "start": str(start)},
                       {"name": "c", "steps": 1, "teacher": "b"},
                       {"name": "d", "steps": 1})  # fmt: skip
    report = run_chain(config, tmp_path / "other")
    assert [stage["licence"] for stage in report["stages"]] == ["NC", "NC", "Apache-2.0"]
    assert report["licence"] == "NC"
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    assert report["stages"][0]["start"]["sha256"] == digest
    for name, licence in (("b", "NC"), ("c", "NC"), ("d", "Apache-2.0")):
        folder = tmp_path / "other" / name
        assert load_student(folder / "student.safetensors")[1] == licence
        assert load_manifest(str(folder / "student.yaml")).licence == licence
    assert licence_of(["B AND A", "MIT", "A"]) == "A AND B"


def test_what_a_training_is_made_of_must_not_change(tmp_path: Path) -> None:
    """Other labels of the same names, another start of the same name, another teacher."""
    for name, licence in (("one", "MIT"), ("other", "NC")):
        small.write_labels(tmp_path / name, licence, extras=name == "other")
    for seed in (1, 2):
        run_chain(config_of(tmp_path / "one", {"name": f"{seed}", "steps": 1, "seed": seed}),
                  tmp_path / "starts")  # fmt: skip
    starts = [tmp_path / "starts" / name / "student.safetensors" for name in "12"]
    (start := tmp_path / "start.safetensors").write_bytes(starts[0].read_bytes())
    stages = {"name": "a", "steps": 1, "start": str(start)}, {"name": "b", "steps": 1,
                                                               "teacher": "a"}  # fmt: skip
    out = tmp_path / "out"
    for _ in range(3):  # the same weights are the same, whatever the order of a file's metadata
        run_chain(config_of(tmp_path / "one", *stages), out)
    with pytest.raises(TrainConfigError, match="out/a holds another training"):
        run_chain(config_of(tmp_path / "other", *stages), out)
    start.write_bytes(starts[1].read_bytes())
    with pytest.raises(TrainConfigError, match="out/a holds another training"):
        run_chain(config_of(tmp_path / "one", *stages), out)
    (out / "a" / "training.safetensors").unlink()
    with pytest.raises(TrainConfigError, match="out/b holds another training"):
        run_chain(config_of(tmp_path / "one", *stages), out)


def test_one_drive_is_divided_by_time(tmp_path: Path) -> None:
    """Instants 2 s apart, in clips of one: the last is judged by, 6.4 s before it are left out."""
    small.write_labels(tmp_path / "labels", shards=1, every=20)
    training, validation, seen = _split([open_labels(tmp_path / "labels")], 0.08, 1)
    assert (training.clips, validation.clips, seen) == ([(0, 0), (0, 1)], [(0, 5)], False)
    elsewhere = pickle.loads(pickle.dumps(validation))  # as another process has it
    assert elsewhere.clips == validation.clips


def test_a_drive_too_short_to_be_divided_is_said_to_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_labels(tmp_path / "labels", shards=1)
    (config := tmp_path / "train.yaml").write_text(
        json.dumps({"stages": [{**STAGE, "name": "a", "steps": 1}], "threads": 1})
    )
    assert main(["distill", "train", str(config), "--labels", str(tmp_path / "labels"),
                 "--out", str(tmp_path / "out")]) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "(seen in training)" in said.out and "6 to judge by (seen in training)" in said.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["stages"][0]["seen_in_training"] is True


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
