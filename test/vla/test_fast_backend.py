"""The backend on `runtime: fast`: the plans of `eager`, from frames that are encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vla import small_model as small

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import FRAME_STEP_NS
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
    assert fast._fast.frames.hits == 3 + 3  # of the grey warm-up, and of the second tick


def test_without_reasoning(manifest: Path) -> None:
    plan = backend(manifest, runtime="fast", reasoning="off").plan(small.sample(CAMERAS))
    assert np.isfinite(plan.xyz_in_rig_t0).all()
    assert not plan.reasoning.strip(" …")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "quick"}, "runtime is 'quick', wanted eager or fast"),
        ({"reasoning": "after", "runtime": "fast"}, "reasoning is 'after', wanted before or off"),
        ({"reasoning": "off"}, "wanted before, or runtime fast"),
        ({"runtime": "fast", "expert_runtime": "tensorrt", "expert_model": "x.engine"},
         "torch with runtime fast"),
    ],
)  # fmt: skip
def test_wrong_options(manifest: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        backend(manifest, **options)
