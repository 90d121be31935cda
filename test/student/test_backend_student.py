"""The student in the planner's process: frames encoded once, files checked, nothing else taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from student import exported as small

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.student import StudentBackend
from alpamayo_ros.deployment.frames import KEPT, FeatureCache
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.planner import StudentPlanner
from alpamayo_ros.deployment.runtimes import open_runtime
from alpamayo_ros.distill.shard import REQUIRED
from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import FRAME_STEP_NS, N_FRAMES, PlannerSample, ReasoningSource

STEP, START = FRAME_STEP_NS, small.START_NS


def planner(manifest: Path, **options: Any) -> StudentPlanner:
    """A loaded student."""
    chosen = small.manifest_of(manifest, **options)
    return StudentPlanner(open_runtime(chosen, StudentOptions.from_manifest(chosen)))


def refusal(manifest: Path, **options: Any) -> str:
    """What loading says where it is refused."""
    with pytest.raises(ModelError) as caught:
        backend = StudentBackend(small.manifest_of(manifest, **options))
        backend.load()
    return str(caught.value)


# ---- the cache ------------------------------------------------------------------------------


def irregular() -> list[PlannerSample]:
    """A drive with all that moves a window: jitter, a drop, a repeated frame, a missing camera, a
    gap, and a clock that is set back to stamps whose pictures are others."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(6):
        t0 = START + index * STEP
        jitter = (np.arange(4)[:, None] * 1000 + np.arange(4) - 3 + index) * 1_000_000
        stamps = t0 + (np.arange(4) - 3) * STEP + jitter % 7_000_000
        if index == 2:
            stamps[1, -1] = stamps[1, -2]  # the newest frame was dropped, the one before repeated
        if index == 3:
            stamps[3] += 5_000_000  # a 30 Hz camera's neighbours
        samples.append(small.sample(t0, stamps=np.maximum.accumulate(stamps, axis=1)))
    samples.append(small.sample(START + 7 * STEP, cameras=("front_wide", "front_tele")))
    samples.append(small.sample(START + 9 * STEP))
    samples.append(small.sample(START + 60 * STEP))
    back = small.sample(START + 30 * STEP)
    others = rng.integers(0, 256, back.images.shape, np.uint8)
    samples.append(back)
    samples.append(small.sample(START + 2 * STEP, images=others))
    return samples


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_features_are_those_of_encoding_all_four(manifests: dict[str, Path], runtime: str) -> None:
    """Bit for bit, over windows that overlap, skip, repeat and go back."""
    kept = planner(manifests[runtime])
    fresh = planner(manifests[runtime])
    for sample in irregular():
        fresh.cache.clear()
        expected = fresh.plan(sample)
        planned = kept.plan(sample)
        np.testing.assert_array_equal(planned.inputs["features"], expected.inputs["features"])
        np.testing.assert_array_equal(planned.normalised, expected.normalised)
        assert len(kept.cache) <= KEPT * len(small.CAMERAS)
    assert kept.cache.encoded < fresh.cache.encoded


def test_each_frame_is_encoded_once(manifests: dict[str, Path]) -> None:
    """Four frames of four cameras at first, then one of each."""
    student = planner(manifests["onnxruntime"])
    counts = []
    for sample in small.drive(5):
        before = student.cache.encoded
        student.plan(sample)
        counts.append(student.cache.encoded - before)
    assert counts == [N_FRAMES * 4, 4, 4, 4, 4]


def test_another_drives_frames_are_not_taken_for_its_own(manifests: dict[str, Path]) -> None:
    """Two drives whose stamps meet, as those of converted videos do: the second is planned as if
    there had been no first."""
    backend, fresh = (StudentBackend(small.manifest_of(manifests["torch"])) for _ in range(2))
    backend.load()
    fresh.load()
    rng = np.random.default_rng(1)
    first = small.sample(START)
    other = small.sample(START, images=rng.integers(0, 256, first.images.shape, np.uint8))
    backend.plan(first)
    backend.forget()
    second = backend.plan(other).action
    np.testing.assert_array_equal(second, fresh.plan(other).action)
    fresh.forget()
    assert not np.array_equal(second, fresh.plan(first).action)


def test_one_encoder_call_a_tick(manifests: dict[str, Path]) -> None:
    """The cameras' newest frames go through together."""
    runtime = planner(manifests["onnxruntime"]).runtime
    calls = []

    def encode(images: np.ndarray) -> np.ndarray:
        calls.append(images.shape)
        return runtime.run("encoder", {"images": images})

    cache = FeatureCache(runtime.spec, encode)
    for sample in small.drive(3):
        cache.features(sample)
    assert len(calls) == N_FRAMES + 2


def test_a_camera_it_was_not_trained_with(manifests: dict[str, Path]) -> None:
    """Refused with its name, never left out in silence."""
    with pytest.raises(ModelError, match="does not know rear_left: it was trained with cross_left"):
        planner(manifests["onnxruntime"]).plan(small.sample(START, cameras=("rear_left",)))


# ---- plans ----------------------------------------------------------------------------------


def test_a_plan_starts_from_the_speed_and_says_what_it_does(manifests: dict[str, Path]) -> None:
    """Waypoints by the unicycle from the speed at t0; reasoning and decisions of the trajectory."""
    backend = create_backend(str(manifests["onnxruntime"]), options={"threads": 1})
    backend.load()
    backend.warm_up(small.CAMERAS)
    sample = small.sample(START)
    plan = backend.plan(sample)
    assert plan.speed_t0_mps == sample.speed_mps
    assert plan.xyz_in_rig_t0[0, 0] == pytest.approx(0.8, abs=0.05)
    assert plan.reasoning_source is ReasoningSource.TRAJECTORY
    assert plan.reasoning and plan.decisions.longitudinal
    assert set(plan.stage_ms) == {"encode", "prepare", "policy", "unicycle"}
    assert backend.manifest.licence == small.LICENCE
    again = backend.plan(sample)
    np.testing.assert_array_equal(again.action, plan.action)
    backend.close()
    with pytest.raises(ModelError, match="is not loaded"):
        backend.plan(sample)


def test_the_teachers_words_for_a_labelled_instant(
    manifests: dict[str, Path], tmp_path: Path
) -> None:
    """Looked up by the stamp, marked as the teacher's; elsewhere the trajectory speaks."""
    shard = tmp_path / "drive.npz"
    words = {"reasoning": "Nudge left since a car is parked.", "longitudinal": "set-speed tracking",
             "lateral": "in-lane nudge"}  # fmt: skip
    rows = {name: np.zeros(1) for name in REQUIRED}
    stamps = np.array([START + 20_000_000])
    np.savez(shard, **{**rows, **{k: np.array([v]) for k, v in words.items()}, "t0_ns": stamps})
    backend = StudentBackend(
        small.manifest_of(manifests["onnxruntime"], explanations=str(shard), threads=1)
    )
    backend.load()
    plan = backend.plan(small.sample(START))
    assert plan.reasoning_source is ReasoningSource.TEACHER
    assert plan.reasoning == words["reasoning"] and plan.decisions.lateral == "in-lane nudge"
    later = backend.plan(small.sample(START + STEP))
    assert later.reasoning_source is ReasoningSource.TRAJECTORY
    np.savez(shard, **{name: np.zeros(2) for name in REQUIRED})
    assert "shards of the same time" in refusal(manifests["onnxruntime"], explanations=str(shard))
    assert "option explanations" in refusal(manifests["onnxruntime"], explanations="/nowhere")


def test_navigation_and_missing_cameras_matter(manifests: dict[str, Path]) -> None:
    """The command and the mask reach the policy."""
    student = planner(manifests["onnxruntime"])
    plans = [
        student.plan(small.sample(START, **changes)).normalised
        for changes in (
            {},
            {"navigation": "Turn left in 30m"},
            {"navigation": "keep going"},
            {"cameras": ("front_wide",)},
        )
    ]
    assert np.abs(plans[1] - plans[0]).max() > 1e-5
    np.testing.assert_array_equal(plans[2], plans[0])
    assert np.abs(plans[3] - plans[0]).max() > 1e-5


def test_a_flow_starts_from_the_samples_own_noise(manifests: dict[str, Path]) -> None:
    """The same sample and seed give the same plan whatever was planned before; seeds differ."""
    first, second = planner(manifests["flow"]), planner(manifests["flow"])
    second.plan(small.sample(START))
    sample = small.sample(START + STEP)
    plan = first.plan(sample).normalised
    np.testing.assert_array_equal(plan, second.plan(sample).normalised)
    chosen = small.manifest_of(manifests["flow"])
    other = StudentPlanner(open_runtime(chosen, StudentOptions.from_manifest(chosen)), seed=1)
    assert np.abs(plan - other.plan(sample).normalised).max() > 1e-3


def test_it_runs_without_torch_and_onnx(manifests: dict[str, Path]) -> None:
    """A vehicle has ONNX Runtime alone."""
    program = f"""
import sys
for name in ("torch", "timm", "onnx", "onnxscript", "safetensors", "tensorrt", "tensorrt_rtx"):
    sys.modules[name] = None
from alpamayo_ros.backends.registry import create_backend
backend = create_backend({str(manifests["onnxruntime"])!r})
backend.load()
backend.warm_up({list(small.CAMERAS)!r})
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


# ---- what cannot be had ----------------------------------------------------------------------


def test_a_changed_file_is_refused(manifests: dict[str, Path], tmp_path: Path) -> None:
    """Each file's sha256 is checked, and a missing one named with the remedy."""
    folder = small.copy_of(manifests["onnxruntime"], tmp_path)
    manifest = folder / "manifest.yaml"
    policy = folder / "policy.onnx"
    content = policy.read_bytes()
    policy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = refusal(manifest)
    assert str(policy) in said and "sha256" in said and "export again" in said
    policy.unlink()
    said = refusal(manifest)
    assert f"{policy} does not exist" in said and "alpamayo export" in said
    assert "sha256 lacks" in refusal(manifests["onnxruntime"], sha256={})


def test_a_rewritten_licence_is_refused(manifests: dict[str, Path], tmp_path: Path) -> None:
    """The licence is the weights': the ONNX files say it, whatever the manifest does."""
    folder = small.copy_of(manifests["onnxruntime"], tmp_path)
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace(small.LICENCE, "Apache-2.0"))
    said = refusal(manifest)
    assert "'Apache-2.0'" in said and repr(small.LICENCE) in said
    folder = small.copy_of(manifests["torch"], tmp_path / "torch")
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace(small.LICENCE, "Apache-2.0"))
    assert f"its weights bear {small.LICENCE!r}" in refusal(manifest)


def test_two_exports_do_not_mix(manifests: dict[str, Path], tmp_path: Path) -> None:
    """An encoder of one student with the policy of another."""
    folder = small.copy_of(manifests["onnxruntime"], tmp_path)
    other = small.copy_of(manifests["flow"], tmp_path / "flow")
    (other / "policy.onnx").rename(folder / "policy.onnx")
    hashes = {name: small.file_sha256(folder / name) for name in ("encoder.onnx", "policy.onnx")}
    assert "not of one export" in refusal(folder / "manifest.yaml", sha256=hashes)
    swapped = {"encoder": "policy.onnx", "policy": "encoder.onnx"}
    assert "is no exported student's encoder but its policy" in refusal(
        folder / "manifest.yaml", sha256=hashes, **swapped
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"provider": "cuda"}, "has no CUDAExecutionProvider: pip install onnxruntime-gpu"),
        ({"provider": "tensorrt"}, "has no TensorrtExecutionProvider"),
        ({"provider": "npu"}, "option provider is 'npu', wanted one of cpu, cuda, tensorrt"),
        ({"runtime": "openvino"}, "wanted one of torch, onnxruntime, tensorrt"),
        ({"runtime": "torch"}, "runtime torch needs option weights"),
        ({"runtime": "tensorrt", "provider": "cuda"}, "option provider is onnxruntime's"),
        ({"device": "cuda"}, "device=cpu and provider=cuda"),
        ({"runtime": "tensorrt", "device": "cuda:1"}, "choose by CUDA_VISIBLE_DEVICES"),
        ({"precision": "int8"}, "option precision is int8, its files are fp32: set precision=fp32"),
        ({"encoder": "nowhere.onnx"}, "nowhere.onnx does not exist"),
        ({"encoder": "a.engine"}, "runtime onnxruntime reads .onnx"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": "two"}, "threads is 'two', wanted a whole number"),
        ({"colour": "red"}, "unknown option colour; known: architecture"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had(
    manifests: dict[str, Path], options: dict[str, Any], said: str
) -> None:
    """Refused at configure with the remedy; no other runtime or provider takes over."""
    import onnxruntime

    providers = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
    if providers.get(options.get("provider", "")) in onnxruntime.get_available_providers():
        pytest.skip("this machine has that provider")
    assert said in refusal(manifests["onnxruntime"], **options)


def test_tensorrt_without_a_gpu_says_what_to_do(manifests: dict[str, Path]) -> None:
    """Neither another runtime nor a late failure."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    said = refusal(manifests["onnxruntime"], runtime="tensorrt")
    assert "needs an NVIDIA GPU" in said or "is not installed" in said
    assert "onnxruntime" in said or "pip install" in said
    assert "its files are fp32" in refusal(manifests["torch"], precision="fp16")
    said = refusal(manifests["torch"], device="cuda")
    assert "sees no GPU: set device=cpu" in said


def test_an_action_that_is_not_finite(manifests: dict[str, Path]) -> None:
    """Becomes an error that the worker reports, never a path."""
    student = planner(manifests["onnxruntime"])
    with pytest.raises(ModelError, match="of its actions are not finite"):
        student.plan(small.sample(START, speed_mps=float("nan")))
