"""What labels tell beside the trajectory: features, maps, and pictures of no known camera."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm: make test installs it", allow_module_level=True)

from student import small  # noqa: E402

from alpamayo_ros.distill import losses  # noqa: E402
from alpamayo_ros.distill.data import LabelSet  # noqa: E402
from alpamayo_ros.distill.foreign import make_foreign  # noqa: E402
from alpamayo_ros.distill.shard import UNKNOWN, LabelError  # noqa: E402
from alpamayo_ros.distill.step import loss_terms, to_tensors  # noqa: E402
from alpamayo_ros.distill.store import open_labels  # noqa: E402
from alpamayo_ros.distill.train_config import (  # noqa: E402
    Augmentation,
    LossWeights,
)
from alpamayo_ros.student.model import Student  # noqa: E402

CPU = torch.device("cpu")


def test_pictures_of_no_known_camera_are_answered_by_the_prior(labels: Path) -> None:
    data = LabelSet(open_labels(labels).shards, 3)
    batch = data.batch(data.clips[:4], small.CONFIG)
    plain, foreign = (
        to_tensors(
            batch, small.CONFIG, CPU,
            Augmentation(foreign=share, colour=0.0, noise=0.0), np.random.default_rng(6),
        )
        for share in (0.0, 0.5)
    )  # fmt: skip
    changed = (foreign.images != plain.images).flatten(1).any(dim=1).numpy()
    strange = np.array([changed[batch.frame_clip == clip].all() for clip in range(4)])
    assert strange.any() and not strange.all()
    assert not changed[~strange[batch.frame_clip]].any()
    rows = np.repeat(strange, 3)
    for one, other in ((plain.truth, foreign.truth), (plain.teacher, foreign.teacher)):
        assert torch.equal(other[rows], plain.prior[rows])
        assert torch.equal(other[~rows], one[~rows])
    assert foreign.features is not None
    assert torch.isnan(foreign.features).all(dim=1).tolist() == rows.tolist()
    assert foreign.maps is not None
    assert (foreign.maps == UNKNOWN).flatten(1).all(dim=1).tolist() == rows.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_foreign_pictures_keep_their_range_and_differ(seed: int) -> None:
    images = torch.rand((3, 3, 32, 64), generator=torch.Generator().manual_seed(1))
    of_clip = torch.tensor([0, 0, 1])
    made = make_foreign(images, of_clip, torch.tensor([0]), torch.Generator().manual_seed(seed))
    assert made.min() >= 0.0 and made.max() <= 1.0
    assert torch.equal(made[2], images[2])
    assert (made[:2] - images[:2]).abs().mean() > 0.05  # of 1: nobody takes it for the same


def test_labels_without_a_teachers_features_count_nothing_there(
    labels: Path, tmp_path: Path
) -> None:
    small.write_labels(tmp_path / "plain")
    paths = [open_labels(folder).shards[0] for folder in (labels, tmp_path / "plain")]
    data = LabelSet(paths, 3)
    batch = data.batch([(0, 0), (1, 0)], small.CONFIG)
    assert batch.features is not None and batch.logits is not None and batch.maps is not None
    assert (batch.maps[:3] != UNKNOWN).all() and (batch.maps[3:] == UNKNOWN).all()
    for extra in (batch.features, batch.logits):
        assert np.isfinite(extra[:3]).all() and np.isnan(extra[3:]).all()
    wanted, told = losses.known(torch.from_numpy(batch.features))
    assert told.tolist() == [True] * 3 + [False] * 3 and torch.isfinite(wanted).all()
    torch.manual_seed(1)
    student = Student(small.CONFIG)
    told = {name: data.extra(name) for name in ("features", "logits", "maps")}
    heads = losses.DistillHeads(small.CONFIG, student.encoder.channels, **told)
    both, one = (
        loss_terms(
            student, heads, to_tensors(data.batch(clips, small.CONFIG), small.CONFIG, CPU),
            LossWeights(), torch.Generator(),
        )
        for clips in ([(0, 0), (1, 0)], [(0, 0)])
    )  # fmt: skip
    for name in ("features", "tokens", "sight"):
        assert both[name].item() == pytest.approx(one[name].item(), rel=1e-4)  # float32 sums


def test_what_stands_where_is_learned_cell_by_cell() -> None:
    """Twice the cells of the labels, pooled; UNKNOWN counts nothing; the one cell of the first
    class is worth the seven that are empty, all four of the second no more than four."""
    heads = losses.DistillHeads(small.CONFIG, 3, maps=(1, 2, 2, 4))
    assert heads.sight is not None
    with torch.no_grad():
        heads.sight.weight.zero_()
        heads.sight.bias.copy_(torch.tensor([1.0, -1.0]))
    features, maps = torch.randn(1, 3, 4, 8), torch.zeros((1, 2, 2, 4), dtype=torch.uint8)
    maps[0, 0, 0, 0], maps[0, 1, 0], maps[0, 1, 1] = 1, UNKNOWN, 1
    right, wrong = math.log1p(math.exp(-1.0)), math.log1p(math.exp(1.0))  # of logits of 1 and -1
    assert heads.sight_off(features, maps).item() == pytest.approx(
        (7 * right + 7 * wrong + 4 * wrong) / 12, rel=1e-5
    )
    assert heads.sight_off(features, torch.full_like(maps, UNKNOWN)).item() == 0.0


def test_features_count_by_their_spread(labels: Path) -> None:
    data = LabelSet(open_labels(labels).shards, 3)
    mean, spread = data.moments("features")
    values = np.concatenate([shard.arrays["features"] for shard in data.shards])
    values = values.astype(np.float64)
    np.testing.assert_allclose((mean, spread), (values.mean(axis=0), values.std(axis=0)), rtol=1e-5)
    for shard in data.shards:
        shard.arrays["features"][:, 1] = 7.0  # type: ignore[index]
    assert data.moments("features")[1][1] == pytest.approx(0.05 * spread.max(), rel=0.2)
    for summary in (0, 4):
        config = dataclasses.replace(small.CONFIG, summary_channels=summary)
        student, heads = Student(config), losses.DistillHeads(config, 0, mean.shape)
        heads.mean.copy_(torch.from_numpy(mean))
        heads.spread.copy_(torch.from_numpy(2.0 * spread))
        with torch.no_grad():
            for parameter in heads.features.parameters():
                parameter.zero_()
            batch = to_tensors(data.batch(data.clips[:1], config), config, CPU)
            context = student.context(
                student.encoder(batch.images)[batch.frame_index], batch.history,
                batch.history_yaw, batch.speed, batch.command, batch.camera_mask,
            )  # fmt: skip
            off = heads.features_off(context, torch.from_numpy(mean + spread)[None])
        np.testing.assert_allclose(off.numpy(), -0.5, rtol=1e-5)


def test_labels_of_teachers_that_do_not_fit_together_are_refused(labels: Path) -> None:
    data = LabelSet(open_labels(labels).shards, 3)
    arrays = {**data.shards[0].arrays, "features": np.zeros((6, 3))}
    data.shards[0] = dataclasses.replace(data.shards[0], arrays=arrays)
    with pytest.raises(LabelError, match="features are of different shapes"):
        data.extra("features")
