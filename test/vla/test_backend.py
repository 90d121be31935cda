"""A sample through the `vla` backend: plans, candidates, reasoning, answers, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from vla import small_model as small

from alpamayo_ros.backends.base import timed_plan
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import CAMERA_NAMES, DEFAULT_CAMERAS, Answer, ReasoningSource
from alpamayo_ros.vla.initialise import write_checkpoint

FAST = {"max_new_tokens": 3, "flow_steps": 2}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of tiny random checkpoints by version."""
    parent = tmp_path_factory.mktemp("checkpoints")
    return {
        version: write_checkpoint(parent / version, "tiny", version) for version in ("r1", "1.5")
    }


def backend(manifest: Path, **options: Any) -> VlaBackend:
    """Loaded, with options over the manifest's."""
    made = create_backend(str(manifest), "", {**FAST, **options})
    assert isinstance(made, VlaBackend)
    made.load()
    return made


@pytest.mark.parametrize("version", ["r1", "1.5"])
def test_a_plan(checkpoints: dict[str, Path], version: str) -> None:
    """Sixteen frames and a history to waypoints, candidates, words, decisions and stage times."""
    planner = backend(checkpoints[version], samples=3)
    sample = small.sample(DEFAULT_CAMERAS)
    plan, stages = timed_plan(planner, sample)
    assert plan.t0_ns == sample.t0_ns
    assert plan.xyz_in_rig_t0.shape == (64, 3)
    assert plan.candidates_xyz_in_rig_t0.shape == (3, 64, 3)
    assert plan.candidates_rot_in_rig_t0.shape == (3, 64, 3, 3)
    np.testing.assert_array_equal(plan.xyz_in_rig_t0, plan.candidates_xyz_in_rig_t0[0])
    assert plan.reasoning_source == ReasoningSource.MODEL
    assert plan.reasoning
    assert plan.speed_t0_mps == pytest.approx(8.0, abs=0.01)
    assert list(stages) == [
        "prepare", "vision", "prefill", "reasoning", "flow", "unicycle", "model",
    ]  # fmt: skip
    assert all(duration >= 0 for duration in stages.values())
    assert planner.manifest.note == "random weights, whose plans mean nothing"


def test_plans_follow_from_their_sample_and_seed(checkpoints: dict[str, Path]) -> None:
    """Whatever was planned before: the same sample and seed give the same plan."""
    sample = small.sample(DEFAULT_CAMERAS)
    later = small.sample(DEFAULT_CAMERAS, t0_ns=small.T0_NS + 100_000_000)
    first = backend(checkpoints["r1"], seed=4)
    plans = [first.plan(sample), first.plan(later), first.plan(sample)]
    again = backend(checkpoints["r1"], seed=4).plan(sample)
    other = backend(checkpoints["r1"], seed=5).plan(sample)
    np.testing.assert_array_equal(plans[0].xyz_in_rig_t0, plans[2].xyz_in_rig_t0)
    np.testing.assert_array_equal(plans[0].xyz_in_rig_t0, again.xyz_in_rig_t0)
    assert plans[0].reasoning == again.reasoning
    assert not np.array_equal(plans[0].xyz_in_rig_t0, other.xyz_in_rig_t0)
    assert not np.array_equal(plans[0].xyz_in_rig_t0, plans[1].xyz_in_rig_t0)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_cameras_of_1_5(checkpoints: dict[str, Path], count: int) -> None:
    """One to seven, of any kind."""
    plan = backend(checkpoints["1.5"]).plan(small.sample(CAMERA_NAMES[7 - count :]))
    assert np.isfinite(plan.xyz_in_rig_t0).all()


def test_r1_refuses_other_cameras(checkpoints: dict[str, Path]) -> None:
    """At configure by the manifest, and at the latest by the prompt."""
    planner = backend(checkpoints["r1"])
    for cameras in (DEFAULT_CAMERAS[:3], (*DEFAULT_CAMERAS[:3], "rear_tele")):
        with pytest.raises(ModelError, match="rear_tele|takes 4 cameras"):
            planner.manifest.cameras.check(cameras, planner.manifest.name)
        with pytest.raises(ModelError, match="R1 takes cameras"):
            planner.plan(small.sample(cameras))


def test_32_samples_and_the_medoid(checkpoints: dict[str, Path]) -> None:
    planner = backend(checkpoints["1.5"], samples=32, choice="medoid")
    plan = planner.plan(small.sample(("front_wide",)))
    assert len(plan.candidates_xyz_in_rig_t0) == 32
    xy = plan.candidates_xyz_in_rig_t0[..., :2]
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1).mean(axis=-1)
    chosen = plan.candidates_xyz_in_rig_t0[apart.sum(axis=1).argmin()]
    np.testing.assert_array_equal(plan.xyz_in_rig_t0, chosen)


def test_navigation_and_guidance(checkpoints: dict[str, Path]) -> None:
    """The text changes the plan, guidance changes it further, and without a text there is none."""
    sample = small.sample(("front_wide",))
    told = small.sample(("front_wide",), navigation="Turn left in 30m")
    plain, guided = backend(checkpoints["1.5"]), backend(checkpoints["1.5"], guidance_weight=2.0)
    paths = [
        plain.plan(sample), plain.plan(told), guided.plan(told), guided.plan(sample)
    ]  # fmt: skip
    xyz = [plan.xyz_in_rig_t0 for plan in paths]
    assert not np.array_equal(xyz[0], xyz[1])
    assert not np.array_equal(xyz[1], xyz[2])
    np.testing.assert_array_equal(xyz[0], xyz[3])
    with pytest.raises(ModelError, match="of 300 characters, at most 256"):
        plain.plan(small.sample(("front_wide",), navigation="x" * 300))
    with pytest.raises(ModelError, match="needs Alpamayo 1.5"):
        backend(checkpoints["r1"]).plan(small.sample(DEFAULT_CAMERAS, navigation="Turn left"))


def answered(planner: VlaBackend, question: str) -> tuple[Answer, int]:
    """The answer and the number of steps that it took."""
    steps = planner.ask(small.sample(("front_wide",)), question)
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            return end.value, count


def test_questions(checkpoints: dict[str, Path]) -> None:
    """1.5 answers in steps, a plan between two of them changes nothing; R1 does not answer."""
    planner = backend(checkpoints["1.5"], max_answer_tokens=5)
    answer, count = answered(planner, "Is the lane free?")
    assert answer.t0_ns == small.T0_NS
    assert answer.model == planner.manifest.name
    assert set(answer.stage_ms) == {"vision", "prefill", "answer"}
    assert 2 < count <= 2 + 5
    steps = planner.ask(small.sample(("front_wide",)), "Is the lane free?")
    next(steps)
    planner.plan(small.sample(("front_wide",)))
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert end.value.value.text == answer.text
    for question, said in (("", "is empty"), ("x" * 1001, "at most 1000"),
                           ("a<|answer_end|>", "markup")):  # fmt: skip
        with pytest.raises(ModelError, match=said):
            answered(planner, question)
    with pytest.raises(ModelError, match="needs Alpamayo 1.5"):
        answered(backend(checkpoints["r1"]), "Is the lane free?")


def test_a_model_that_gives_nan(checkpoints: dict[str, Path]) -> None:
    """A plan that is not finite is an error that says of how many candidates."""
    planner = backend(checkpoints["r1"], samples=2)
    model = planner._model.model
    model.action_out_proj.bias[0] = float("nan")
    with pytest.raises(ModelError, match="2 of 2 trajectories of the model are not finite"):
        planner.plan(small.sample(DEFAULT_CAMERAS))


def test_warm_up(checkpoints: dict[str, Path]) -> None:
    """It plans once, for the cameras at hand, and leaves no trace in the plans behind it."""
    sample = small.sample(("front_wide", "rear_tele"))
    warm, cold = backend(checkpoints["1.5"], choice="closest"), backend(checkpoints["1.5"])
    warm.warm_up(("front_wide", "rear_tele"))
    np.testing.assert_array_equal(warm.plan(sample).xyz_in_rig_t0, cold.plan(sample).xyz_in_rig_t0)


def test_closed(checkpoints: dict[str, Path]) -> None:
    planner = backend(checkpoints["r1"])
    planner.close()
    with pytest.raises(ModelError, match="is not loaded"):
        planner.plan(small.sample(DEFAULT_CAMERAS))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"sample": 3}, "unknown option sample; known: .*samples"),
        ({"samples": 0}, "samples is 0, wanted 1 or more"),
        ({"samples": 1.5}, "samples is 1.5, wanted a whole number"),
        ({"choice": "best"}, "choice is 'best', wanted first or medoid or closest"),
        ({"temperature": 0}, "top_k: 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"device": 0}, "device is 0, wanted text"),
        ({"tokenizer": 5}, "tokenizer is 5, wanted a path"),
        ({"sha256": "abc"}, "sha256 is 'abc', wanted a mapping"),
        ({"expert_runtime": "magic"}, "expert_runtime is 'magic'"),
        ({"expert_runtime": "tensorrt"}, "needs expert_model"),
        ({"guidance_weight": 1.5, "flow_temperature": 0.6}, "guidance_weight, flow_temperature"),
    ],
)
def test_wrong_options(checkpoints: dict[str, Path], option: dict[str, Any], said: str) -> None:
    """Named before anything is loaded, with what is wanted."""
    with pytest.raises(ModelError, match=said):
        backend(checkpoints["r1"], **option)


@pytest.mark.parametrize("model", ["alpamayo_r1", "alpamayo_1_5"])
def test_shipped_manifests(model: str) -> None:
    """They name weights that are not part of the package: the error says where to put them."""
    planner = create_backend(model, "", {"device": "cpu"})
    assert "non-commercial" in planner.manifest.licence
    with pytest.raises(ModelError, match="does not exist; download the release"):
        planner.load()


def test_a_manifest_without_a_checkpoint(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    content = yaml.safe_load(checkpoints["r1"].read_text())
    del content["options"]["checkpoint"]
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ModelError, match="option `checkpoint` is missing"):
        create_backend(str(path))
