"""Keys and values that serve again: where they are exact, and that the rest is said to be off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from vla import small_model as small

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bench.vla import VlaOptions, made_up_input, made_up_sample
from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast.cache import Shared
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.inference import Planned, PlanningOptions
from alpamayo_ros.vla.initialise import write_checkpoint
from alpamayo_ros.vla.token_sampling import TokenSampling

OPTIONS = PlanningOptions(tokens=TokenSampling(top_k=1), max_new_tokens=2, flow_steps=2)
WINDOW = VlaOptions(version="1.5", cameras=(1, 6), image_height=160, image_width=288)
ATOL_M = 2e-3  # golden.result's


def plans(runtime: FastRuntime, ticks: Sequence[int]) -> list[Planned]:
    """Of windows that begin at these frames, one after another."""
    made = []
    for tick in ticks:
        sample = made_up_sample(WINDOW, tick)
        prompt, *history = made_up_input(runtime.model, WINDOW, sample, runtime)
        made.append(runtime.plan(prompt, *history, OPTIONS, seed=tick, window=sample))
    return made


def read(runtime: FastRuntime, tick: int) -> Shared:
    """A window's prompt as the runtime reads it."""
    sample = made_up_sample(WINDOW, tick)
    prompt, *_ = made_up_input(runtime.model, WINDOW, sample, runtime)
    arguments = sample.images, sample.image_stamps_ns, sample.camera_indices.tolist()
    with inference.inference_precision(runtime.model):
        frames = runtime.see_each(*arguments)
        return runtime.prefill(prompt, runtime.see(*arguments), OPTIONS, None, frames).shared


def test_the_first_layer_is_exact() -> None:
    """What a token leaves there depends on the token and its place alone: frames that have moved by
    one, two and three places have the keys and values that they would be given anew."""
    model = small.model("1.5")
    streaming, plain = FastRuntime(model, approximate_streaming=True), FastRuntime(model)
    assert streaming.stream is not None
    for tick, reused in enumerate((0, 6, 6, 6)):
        ours, theirs = read(streaming, tick), read(plain, tick)
        assert streaming.stream.reused == reused
        for mine, other in zip(ours.pair(0), theirs.pair(0)):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
        off = (ours.pair(2)[1] - theirs.pair(2)[1]).abs().max()
        # What a frame had seen is another from the second tick on; keys and values are of size 1.
        assert (off < 1e-5) == (tick == 0)
        assert torch.isfinite(ours.last_hidden).all()


def test_exact_where_nothing_is_known() -> None:
    """At first, behind a gap, and where time went back."""
    model = small.model("1.5")
    streaming, plain = FastRuntime(model, approximate_streaming=True), FastRuntime(model)
    assert streaming.stream is not None
    for tick in (10, 20, 5):
        (ours,), (theirs,) = plans(streaming, [tick]), plans(plain, [tick])
        assert streaming.stream.reused == 0
        assert torch.equal(ours.sequences, theirs.sequences)
        torch.testing.assert_close(ours.xyz_in_rig_t0, theirs.xyz_in_rig_t0, rtol=0, atol=ATOL_M)


def test_the_same_window_again() -> None:
    """All frames stand where they stood: text alone is read, and the plan is the same."""
    streaming = FastRuntime(small.model("1.5"), approximate_streaming=True)
    first, again = plans(streaming, [3, 3])
    assert streaming.stream is not None and streaming.stream.reused == 8
    assert torch.equal(first.sequences, again.sequences)
    torch.testing.assert_close(first.xyz_in_rig_t0, again.xyz_in_rig_t0, rtol=0, atol=ATOL_M)


def test_its_deviation_is_in_the_status(tmp_path: Path) -> None:
    """Measured at configure, with this model; off by default, and `eager` has no such option."""
    manifest = str(write_checkpoint(tmp_path / "tiny", "tiny", "1.5"))
    options = {"max_new_tokens": 1, "flow_steps": 1, "approximate_streaming": True}
    with pytest.raises(ModelError, match="approximate_streaming is True, wanted false, or runtime"):
        create_backend(manifest, "", options)
    backend = create_backend(manifest, "", {**options, "runtime": "fast"})
    backend.load()
    sample = small.sample(("front_wide",))
    (note,) = backend.plan(sample).notes
    assert note.endswith("0 frames reused, which was not measured: no warm-up")
    backend.warm_up(("front_wide",))
    (note,) = backend.plan(replace(sample, t0_ns=sample.t0_ns)).notes
    found = re.fullmatch(
        r"approximate: keys of 0 frames reused, which put the path (\S+) m off, on noise at "
        r"configure", note,
    )  # fmt: skip
    assert found and 0.0 < float(found[1]) < 100.0  # of a path of a random model
