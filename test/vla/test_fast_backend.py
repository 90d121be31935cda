"""The backend on `runtime: fast`: the plans of `eager`, from frames that are encoded once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from vla import small_model as small

from alpamayo_ros.backends.base import with_reasoning
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import FRAME_STEP_NS, CameraFrame, ReasoningSource
from alpamayo_ros.vla import generation
from alpamayo_ros.vla.initialise import write_checkpoint

CAMERAS = ("front_wide",)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fast") / "tiny", "tiny", "1.5")


def backend(manifest: Path, **options: Any) -> VlaBackend:
    made = create_backend(str(manifest), "", {"max_new_tokens": 3, "flow_steps": 2, **options})
    assert isinstance(made, VlaBackend)
    made.load()
    return made


def test_plans_of_a_moving_window(manifest: Path) -> None:
    """The same plans and words as eager; three of four frames are known at the second tick."""
    fast, eager = (backend(manifest, runtime=name, samples=2) for name in ("fast", "eager"))
    fast.warm_up(CAMERAS)
    frames = np.random.default_rng(0).integers(0, 256, (1, 5, 320, 576, 3), np.uint8)
    for tick in range(2):
        t0_ns = small.T0_NS + tick * FRAME_STEP_NS
        stamps = t0_ns + np.arange(-3, 1)[None] * FRAME_STEP_NS
        sample = small.sample(
            CAMERAS, t0_ns=t0_ns, images=frames[:, tick : tick + 4], image_stamps_ns=stamps
        )
        ours, theirs = fast.plan(sample), eager.plan(sample)
        assert ours.reasoning == theirs.reasoning
        np.testing.assert_allclose(
            ours.candidates_xyz_in_rig_t0, theirs.candidates_xyz_in_rig_t0, rtol=0, atol=2e-3
        )
        assert set(ours.stage_ms) == set(theirs.stage_ms)
    assert fast._fast is not None
    assert fast._fast.frames.hits == 3  # of the second tick


def test_plans_of_frames_seen_before(manifest: Path) -> None:
    """Bit for bit the plans without foresight, over a moving window with a drop, a gap and a frame
    twice, and another run whose stamps come again with other pictures; `forget` forgets them."""
    ahead, plain = (backend(manifest, runtime="fast", reasoning="off") for _ in range(2))
    assert ahead._fast is not None and plain._fast is not None and ahead.foresight == 1
    pictures = np.random.default_rng(0).integers(0, 256, (11, 320, 576, 3), np.uint8)
    other = pictures.copy()
    other[:, 1::8] ^= 1  # where no print looks

    def stamp(step: int) -> int:
        return small.T0_NS + step * FRAME_STEP_NS

    encoded = []
    for shown, foreseen, window in (
        (pictures, [0], [0, 1, 2, 3]),  # no window yet: its size is not known
        (pictures, [4, 4, 5, 6, 2, 10], [2, 3, 4, 6]),  # 5 is dropped, 10 not yet wanted
        (pictures, [8], [4, 6, 6, 8]),  # a gap; 6 stands twice
        (other, [9], [4, 8, 9, 10]),  # set back behind 10, which no window shows
        (other, [2, 3], [0, 1, 2, 3]),  # set back, and noticed
    ):
        for step in foreseen:
            ahead.foresee([CameraFrame(CAMERAS[0], stamp(step), shown[step])])
        sample = small.sample(
            CAMERAS,
            t0_ns=stamp(window[-1]),
            images=shown[window][None],
            image_stamps_ns=np.array([[stamp(step) for step in window]]),
        )
        counted = [planner._fast.frames.misses for planner in (ahead, plain)]
        ours, theirs = ahead.plan(sample), plain.plan(sample)
        for name in ("xyz_in_rig_t0", "action", "candidates_rot_in_rig_t0"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        counted += [planner._fast.frames.misses for planner in (ahead, plain)]
        encoded.append((counted[2] - counted[0], counted[3] - counted[1]))
    assert encoded == [(4, 4), (0, 2), (0, 1), (1, 2), (4, 4)]
    assert ahead._fast.frames.ahead == 4 + 1 + 1  # known ones are passed over
    ahead.forget()
    assert not len(ahead._fast.frames)


@pytest.mark.parametrize("reasoning", ["before", "after"])
def test_closed_it_holds_no_model(manifest: Path, reasoning: str) -> None:
    """What was captured goes at once, a model in a cycle too: the next one needs the room."""
    planner = backend(manifest, runtime="fast", reasoning=reasoning)
    assert planner._fast is not None
    planner._fast.captures.open = True
    planner.plan(small.sample(CAMERAS))
    if reasoning == "after":
        generation.finish(planner.reason())
        planner.plan(small.sample(CAMERAS))
    planner._model.model.__dict__["names"] = [planner._model.model]
    model = weakref.ref(planner._model.model)
    plans = [weakref.ref(plan) for plan in planner._fast.captures._plans.values()]
    gc.disable()
    try:
        planner._fast.close()
        assert plans and all(plan() is None for plan in plans)
        planner.close()
        assert model() is None
    finally:
        gc.enable()


def test_without_reasoning(manifest: Path) -> None:
    """Said is what the trajectory does."""
    plan = backend(manifest, runtime="fast", reasoning="off").plan(small.sample(CAMERAS))
    assert plan.reasoning_source == ReasoningSource.TRAJECTORY and plan.reasoning
    assert not plan.reasoning_follows


def test_reasoning_after(manifest: Path) -> None:
    """The plan of `off`, then the words of `before`, to the plan that was newest when they began;
    where nobody drives by it, both at once."""
    sample, next_sample = (
        small.sample(CAMERAS, t0_ns=small.T0_NS + tick * FRAME_STEP_NS) for tick in range(2)
    )
    after, off, before = (
        backend(manifest, runtime="fast", reasoning=name) for name in ("after", "off", "before")
    )
    after.warm_up(CAMERAS)
    with pytest.raises(ModelError, match="no plan whose reasoning is to come"):
        next(after.reason())
    plan, said = after.plan(sample), before.plan(sample)
    assert plan.reasoning_follows
    np.testing.assert_array_equal(plan.xyz_in_rig_t0, off.plan(sample).xyz_in_rig_t0)
    steps = after.reason()
    next(steps)
    after.plan(next_sample)
    late = generation.finish(steps)
    assert (late.t0_ns, late.stated.reasoning) == (sample.t0_ns, said.reasoning)
    assert set(late.stage_ms) == {"reasoning"}
    whole = with_reasoning(after, after.plan(sample))
    assert whole.reasoning == said.reasoning and not whole.reasoning_follows
    assert whole.reasoning_source == ReasoningSource.MODEL


def test_forced_start_is_an_option(manifest: Path) -> None:
    """One token of reasoning at most, and a trajectory's start that eager need not have."""
    forced = backend(manifest, runtime="fast", force_start=True, max_new_tokens=1)
    free = backend(manifest, runtime="fast", max_new_tokens=1)
    sample = small.sample(CAMERAS)
    moved = np.abs(forced.plan(sample).xyz_in_rig_t0 - free.plan(sample).xyz_in_rig_t0).max()
    assert moved > 1e-4  # metres: the waypoints see one token more


def test_drafted_reasoning(manifest: Path) -> None:
    """The same plan, and in its status how many guesses were right, from configure on."""
    drafting, plain = (backend(manifest, runtime="fast", draft_tokens=k, top_k=1) for k in (2, 0))
    drafting.warm_up(CAMERAS)
    sample = small.sample(CAMERAS)
    expected = plain.plan(sample)
    for said in ("0 of 0 drafted tokens were right", "1 of 1 drafted tokens were right"):
        plan = drafting.plan(sample)
        assert plan.reasoning == expected.reasoning
        np.testing.assert_allclose(plan.xyz_in_rig_t0, expected.xyz_in_rig_t0, rtol=0, atol=2e-3)
        assert plan.notes == (said,)
    assert expected.notes == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "quick"}, "runtime is 'quick', wanted eager or fast"),
        ({"reasoning": "late", "runtime": "fast"}, "is 'late', wanted before, after, off"),
        ({"reasoning": "off"}, "wanted before, or runtime fast"),
        ({"reasoning": "after"}, "wanted before, or runtime fast"),
        ({"force_start": True}, "wanted false, or runtime fast"),
        ({"force_start": 1, "runtime": "fast"}, "wanted true or false"),
        ({"draft_tokens": 4}, "draft_tokens is 4, wanted 0, or runtime fast"),
        ({"draft_tokens": 4, "runtime": "fast", "samples": 2}, "before or after and samples 1"),
        ({"draft_tokens": 17, "runtime": "fast"}, "draft_tokens is 17, wanted 0 to 16"),
        ({"runtime": "fast", "expert_runtime": "tensorrt", "expert_model": "x.engine"},
         "torch with runtime fast"),
    ],
)  # fmt: skip
def test_wrong_options(manifest: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        backend(manifest, **options)


def test_off_without_quotes(manifest: Path) -> None:
    """`reasoning: off` as people write it: YAML's false."""
    options = yaml.safe_load("{runtime: fast, reasoning: off}")
    made = create_backend(str(manifest), "", options)
    assert isinstance(made, VlaBackend) and made.options.reasoning == "off"
