"""The expert's file: exported, compared, tied to its checkpoint, and planning as PyTorch does."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vla import small_model as small

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla import VlaBackend
from alpamayo_ros.backends.vla_options import VlaOptions
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.vla import expert_export
from alpamayo_ros.vla.expert import velocity
from alpamayo_ros.vla.expert_check import ATOL_VELOCITY, random_context
from alpamayo_ros.vla.expert_export import Exported, export_expert, load_expert
from alpamayo_ros.vla.expert_file import ExpertIdentity, check_belongs, parse_metadata
from alpamayo_ros.vla.expert_graph import ExpertStep, Shared, graph_shape
from alpamayo_ros.vla.expert_prefix import default_prefix
from alpamayo_ros.vla.expert_runtimes import denoise, open_expert
from alpamayo_ros.vla.initialise import write_checkpoint
from alpamayo_ros.vla.model import AlpamayoModel

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
SAMPLES = 2
# Trajectories of 6.4 s: a difference of 1e-4 in the action, twice integrated. The same bar as
# against the public reference.
ATOL_M = 2e-3
Made = tuple[AlpamayoModel, ExpertIdentity]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Alpamayo 1.5 on disk."""
    return write_checkpoint(tmp_path_factory.mktemp("expert") / "checkpoint", "tiny", "1.5")


def loaded(manifest: Path, precision: str = "fp32") -> Made:
    """Its expert alone."""
    folder = manifest.parent
    return load_expert(
        folder,
        folder / "backbone",
        "float32",
        precision,
        "tiny",
        load_manifest(str(manifest)).licence,
    )


def places(manifest: Path, cameras: int = 1) -> int:
    """A bucket for the plans below."""
    content = load_manifest(str(manifest))
    options = VlaOptions.from_manifest(content)
    return default_prefix(options, content.cameras.allowed, cameras)


@pytest.fixture(scope="module")
def exported(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One velocity a call, fp32, for two samples of one camera."""
    model, identity = loaded(manifest)
    out = tmp_path_factory.mktemp("files") / "expert.onnx"
    return export_expert(model, identity, graph_shape(model, SAMPLES, places(manifest)), out)


def backend(manifest: Path, **options: Any) -> VlaBackend:
    """Loaded, with options over the manifest's."""
    fast = {"max_new_tokens": 3, "flow_steps": 3, "samples": SAMPLES}
    made = create_backend(str(manifest), "", {**fast, **options})
    assert isinstance(made, VlaBackend)
    made.load()
    return made


# ---- exporting -----------------------------------------------------------------------------------


def test_a_file_says_what_it_is(exported: Exported, manifest: Path) -> None:
    """Compared, in one file, with its sizes and owner, and with no path of this machine."""
    import onnx

    assert exported.error <= ATOL_VELOCITY
    model = onnx.load(exported.path)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    file = parse_metadata({e.key: e.value for e in model.metadata_props}, "it")
    assert file == exported.file
    assert (file.shape.samples, file.shape.loop_steps, file.precision) == (SAMPLES, 0, "fp32")
    assert file.identity.licence == load_manifest(str(manifest)).licence
    assert [i.name for i in model.graph.input] == list(file.shape.inputs())
    assert [p.name for p in exported.path.parent.iterdir()] == [exported.path.name]
    content = exported.path.read_bytes()
    assert b"/site-packages/" not in content and str(Path.home()).encode() not in content


def causal(step: ExpertStep, shared: Shared) -> Shared:
    """A fault: waypoints do not see those behind them."""
    mask = torch.full((64, 64), -1e30).triu(1).repeat(step.groups, 1)
    left = torch.zeros(len(mask), shared.mask.shape[-1] - 64)
    added = torch.cat((left, mask), dim=1).to(shared.mask.dtype)
    return replace(shared, mask=shared.mask + added)


def without_gap(step: ExpertStep, shared: Shared) -> Shared:
    """A fault: the prefix is in sight, gaps and the bucket's unused places too."""
    own = shared.mask[..., -64:]
    return replace(shared, mask=torch.cat((shared.mask[..., :-64] * 0, own), dim=-1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", [causal, without_gap])
def test_a_wrong_graph_is_not_written(
    fault: Callable[[ExpertStep, Shared], Shared],
    precision: str,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A causal expert, or no gap mask: the comparison fails, also in half precision and in a bucket
    so large that the fault is small behind a full one; nothing is left behind."""
    right = ExpertStep.shared
    monkeypatch.setattr(ExpertStep, "shared", lambda step, *a: fault(step, right(step, *a)))
    model, identity = loaded(manifest, precision)
    with pytest.raises(ModelError, match=r"differ by \d.*allowed is 0.0001.*not written"):
        export_expert(model, identity, graph_shape(model, 1, 1024), tmp_path / "expert.onnx")
    assert not list(tmp_path.iterdir())


def test_fp16_and_large_files(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights beside the file where they are many; fp16 opens and plans' velocities are close."""
    monkeypatch.setattr(expert_export, "ONE_FILE_BYTES", 1000)
    model, identity = loaded(manifest, "fp16")
    shape = graph_shape(model, 1, 64)
    made = export_expert(model, identity, shape, tmp_path / "expert.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expert.onnx", "expert.onnx.data"]
    assert model.dtype == torch.float16, "the comparison gives the model back as it was"
    expert = open_expert("onnxruntime", made.path, model, identity)
    context = random_context(model, shape, 16)
    x, t = torch.randn(1, 64, 2), torch.tensor([0.3])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.float16):
        wanted = velocity(model, context, x, t)
        ours = expert.prepare(context)(x, t)
    # 0.1 % is rounding (vla/expert_check.py).
    assert (ours - wanted).pow(2).mean().sqrt() < 0.01 * wanted.pow(2).mean().sqrt()


def test_a_file_with_its_steps_inside(manifest: Path, tmp_path: Path) -> None:
    """Noise to action in one call; another number of steps, or guidance, is refused."""
    model, identity = loaded(manifest)
    shape = graph_shape(model, 1, 64, 2)
    made = export_expert(model, identity, shape, tmp_path / "expert.onnx")
    expert = open_expert("onnxruntime", made.path, model, identity)
    torch_expert = open_expert("torch", None, model, None)
    context, noise = random_context(model, shape, 16), torch.randn(1, 64, 2)
    with torch.inference_mode():
        ours, wanted = (denoise(e, context, noise, 2) for e in (expert, torch_expert))
        # Two steps: 1e-5 of rounding, amplified by the second (vla/expert_check.py).
        torch.testing.assert_close(ours, wanted, atol=1e-3, rtol=0)
        with pytest.raises(ModelError, match="2 flow steps inside and 10 are asked for"):
            denoise(expert, context, noise, 10)
        with pytest.raises(ModelError, match="cannot be guided"):
            denoise(expert, context, noise, 2, context, 1.5)


# ---- belonging -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"sha256": "0" * 64}, "sha256"),
        ({"licence": "another"}, "licence 'none.*loaded model's is 'another'"),
        ({"version": "r1"}, "Alpamayo version"),
        ({"rounded_constants": True}, "rounded_constants"),
    ],
)
def test_another_models_file_is_refused(
    exported: Exported, changed: dict[str, Any], named: str
) -> None:
    """Each thing in which it differs is named, with the remedy."""
    identity = replace(exported.file.identity, **changed)
    with pytest.raises(ModelError, match=f"does not belong.*{named}.*export-expert --model"):
        check_belongs(exported.file, identity, "expert.onnx")
    check_belongs(exported.file, replace(exported.file.identity, model="renamed"), "expert.onnx")


def test_one_changed_weight_is_noticed(manifest: Path, exported: Exported, tmp_path: Path) -> None:
    """A checkpoint of the same shape from another seed has another hash."""
    other = write_checkpoint(tmp_path / "other", "tiny", "1.5", seed=1)
    with pytest.raises(ModelError, match="does not belong.*sha256"):
        backend(other, expert_runtime="onnxruntime", expert_model=str(exported.path))


def test_wrong_files_and_runtimes_are_named(manifest: Path, exported: Exported) -> None:
    """At configure, with the remedy; none falls back to PyTorch."""
    onnx = str(exported.path)
    for options, message in (
        ({"expert_runtime": "onnxruntime"}, "needs expert_model"),
        ({"expert_runtime": "onnxruntime", "expert_model": "/no.onnx"}, "does not exist"),
        ({"expert_runtime": "tensorrt", "expert_model": onnx}, "no .engine file.*--to tensorrt"),
        ({"expert_runtime": "onnxruntime", "expert_model": onnx, "samples": 1},
         "exactly 2 samples.*samples is 1.*--samples 1"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            backend(manifest, **options)
    with pytest.raises(ModelError, match="no exported action expert"):
        parse_metadata({}, "some.onnx")
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_metadata({**exported.file.metadata(), "alpamayo.prefix": "many"}, "some.onnx")


# ---- planning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [None, 1.5])
def test_plans_are_pytorch_s(manifest: Path, exported: Exported, guidance: float | None) -> None:
    """One camera to waypoints on both runtimes, guided by navigation text and not."""
    sample = small.sample(("front_wide",), navigation="Turn left in 30m")
    plans = [
        backend(manifest, guidance_weight=guidance, **options).plan(sample)
        for options in (
            {},
            {"expert_runtime": "onnxruntime", "expert_model": str(exported.path)},
        )
    ]
    assert plans[0].reasoning == plans[1].reasoning
    np.testing.assert_allclose(
        plans[1].candidates_xyz_in_rig_t0, plans[0].candidates_xyz_in_rig_t0, rtol=0, atol=ATOL_M
    )
    assert list(plans[1].stage_ms) == list(plans[0].stage_ms)
    assert "flow" in plans[1].stage_ms


def test_a_prompt_that_is_too_long_is_named(manifest: Path, exported: Exported) -> None:
    """Four cameras do not fit the bucket of one."""
    planner = backend(manifest, expert_runtime="onnxruntime", expert_model=str(exported.path))
    cameras = ("front_wide", "front_tele", "cross_left", "cross_right")
    with pytest.raises(ModelError, match=rf"places for {exported.file.shape.prefix}.*--prefix \d+"):
        planner.plan(small.sample(cameras))


def test_the_default_bucket_grows_with_cameras(manifest: Path) -> None:
    """By 192 tokens an image and what is written beside it."""
    one, four = places(manifest, 1), places(manifest, 4)
    assert one % 64 == four % 64 == 0
    assert 3 * 4 * 192 <= four - one


def test_nothing_heavy_is_imported_for_pytorch() -> None:
    """The default runtime needs neither ONNX nor TensorRT."""
    import subprocess

    code = "import sys, alpamayo_ros.vla.inference; print([m for m in sys.modules if m in " \
        "('onnx', 'onnxruntime', 'onnxscript', 'tensorrt', 'tensorrt_rtx')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
