"""What the teacher tells of a plan beside the plan: against one plain pass over the whole text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from vla import small_model as small

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.distill.bags import in_form, label_bag
from alpamayo_ros.distill.shard import ImageForm, read_shard
from alpamayo_ros.errors import ModelError, UserError
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.resources import resource
from alpamayo_ros.student.config import load_student_config
from alpamayo_ros.types import DEFAULT_CAMERAS
from alpamayo_ros.vla import generation, prepare
from alpamayo_ros.vla.inference import inference_precision
from alpamayo_ros.vla.initialise import write_checkpoint
from alpamayo_ros.vla.trajectory_tokens import FutureTokenizer
from alpamayo_ros.world.record import RecordOptions, record

FORM = ImageForm.of(load_student_config(resource("config", "student_light.yaml")))
CELLS = (FORM.input_size[0] // 16, FORM.input_size[1] // 16)


@pytest.fixture(scope="module", params=["eager", "fast"])
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VlaBackend:
    """A tiny random model."""
    manifest = write_checkpoint(tmp_path_factory.mktemp("soft") / "tiny", "tiny", "1.5")
    options = {"max_new_tokens": 3, "flow_steps": 2, "runtime": request.param}
    made = create_backend(str(manifest), "", options)
    assert isinstance(made, VlaBackend)
    made.load()
    return made


def test_they_are_those_of_one_plain_pass(teacher: VlaBackend) -> None:
    """Logits and state of the text read at once, without a cache; attention is a share of a whole.
    Half precision is stored, hence 2e-3 of the largest."""
    sample = small.sample(DEFAULT_CAMERAS)
    before = teacher.plan(sample)
    told = teacher.soft_labels(sample)
    assert told["logits"].shape == (128, 3000) and told["attention"].shape == (4, 10, 18)
    model = teacher._model.model
    history = prepare.history_tensors(model, sample)
    prompt = prepare.planning_prompt(
        model, teacher._model.tokenizer, teacher._prompt_config(), sample, *history
    )
    assert teacher._said is not None
    _, said, action = teacher._said
    vocabulary = model.vocabulary
    said = said[(said == vocabulary.traj_future_start).cumsum(0) == 0]
    said = said[said != vocabulary.pad]
    future = vocabulary.traj_token_start + FutureTokenizer().encode(action[None])[0]
    start = torch.tensor([vocabulary.traj_future_start])
    for behind, wanted in ((start, "features"), (torch.cat((start, future[:-1])), "logits")):
        ids = torch.cat((prompt.input_ids[0], said, behind))[None]
        whole = dataclasses.replace(prompt, input_ids=ids, attention_mask=torch.ones_like(ids))
        with inference_precision(model):
            seen = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
            state = generation.prefill(model, whole, seen).last_hidden[0]
            rows = slice(vocabulary.traj_token_start, vocabulary.traj_token_start + 3000)
            expected = (state if wanted == "features" else model.vlm.lm_head(state)[rows]).numpy()
        found = told[wanted] if wanted == "features" else told[wanted][-1]
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    attention = told["attention"].astype(float)
    assert (attention >= 0).all() and 0 < attention.sum() < 1
    after = teacher.plan(sample)  # the usual kernel is back
    np.testing.assert_array_equal(after.xyz_in_rig_t0, before.xyz_in_rig_t0)
    with pytest.raises(ModelError, match="of another instant"):
        teacher.soft_labels(small.sample(DEFAULT_CAMERAS, t0_ns=small.T0_NS + 100_000_000))


def test_a_recording_with_all_of_them(teacher: VlaBackend, tmp_path: Path) -> None:
    """Stored as asked; a teacher that tells none says so before anything is planned."""
    record(tmp_path / "drive", RecordOptions(seconds=2.2, seed=5, width_px=144, height_px=80))
    settings = settings_from({})
    names = ("logits", "features", "attention")
    shard = label_bag(tmp_path / "drive", settings, teacher, FORM, 3, names)
    shard.save(tmp_path / "drive.npz")
    arrays = read_shard(tmp_path / "drive.npz").arrays
    count = len(shard)
    assert count >= 1 and arrays["logits"].shape == (count, 128, 3000)
    assert arrays["features"].shape[0] == count
    assert arrays["attention"].shape == (count, 4, *CELLS)
    assert np.isfinite(arrays["attention"]).all()
    with pytest.raises(UserError, match="kinematic tells no logits"):
        kinematic = create_backend("kinematic")
        label_bag(tmp_path / "drive", settings, kinematic, FORM, 3, ("logits",))


def test_attention_over_what_the_student_is_given() -> None:
    """The rows of its crop, in its order of cameras; a camera that was not there is not told."""
    seen = np.zeros((2, 10, 18), np.float32)
    seen[0, 3:9, 0] = 1.0  # rows 96 to 288 of 320
    seen[1, 0] = 1.0  # row 0 to 32, which nobody is given
    cells = in_form(seen, np.array([1, 6]), FORM)
    wide, tele = FORM.cameras.index("front_wide"), FORM.cameras.index("front_tele")
    assert (cells[wide, :, 0] > 0.5).all() and (cells[wide, :, 1:] < 0.51).all()
    assert not cells[tele].any()
    others = [k for k in range(4) if k not in (wide, tele)]
    assert np.isnan(cells[others].astype(float)).all()
