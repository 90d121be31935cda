"""Weights in fewer bits: codes, plans on them, and checkpoints that come back as they were."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from vla import small_model as small

from alpamayo_ros import cli
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.fit.verdict import Model, weight_bytes
from alpamayo_ros.fit.weights import shapes
from alpamayo_ros.types import Plan
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.initialise import random_model, write_checkpoint
from alpamayo_ros.vla.load import CheckpointSource, load
from alpamayo_ros.vla.quant.checkpoint import manifest_lines, origin_of, save
from alpamayo_ros.vla.quant.codecs import codec
from alpamayo_ros.vla.quant.linear import QuantisedLinear
from alpamayo_ros.vla.quant.model import quantise
from alpamayo_ros.vla.quant.precisions import FLOATS, PRECISIONS, choice
from alpamayo_ros.vla.sizes import backbone_shape
from alpamayo_ros.vla.token_sampling import TokenSampling

pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: make test installs it")

CODED = [name for name in PRECISIONS if name not in FLOATS]
# Relative errors of normally distributed weights. Known for them: uniform 4 bits 0.107, 2 bits
# 0.345, three levels 0.436 at best; NF4 0.09; a row of 512 in 8 bits 3.2 / 127 / sqrt(12) = 0.007;
# e4m3 rounds by up to 1/16, 0.026 in the root mean square. A tenth more each for how it is fitted.
ERRORS = {"int8": 0.008, "fp8": 0.029, "nf4": 0.099, "int4": 0.118, "int2": 0.38, "ternary": 0.48}


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("columns", [512, 200, 7])
def test_codes(name: str, columns: int) -> None:
    """As near as theory has it, whole groups or not; any block of rows alone; as large as said."""
    weight = torch.randn(96, columns, generator=torch.Generator().manual_seed(1)) * 0.02
    weight[5] = 0.0
    weight[6] *= 1e-4
    one = codec(name)
    code = one.encode(weight)
    decoded = one.decode(code, columns)
    assert decoded.shape == weight.shape
    error = float((decoded - weight).norm() / weight.norm())
    assert error < ERRORS[name]
    assert not decoded[5].abs().max() > 1e-20
    block = {key: value[10:13] for key, value in code.items()}
    assert torch.equal(one.decode(block, columns), decoded[10:13])
    layout = one.layout(96, columns)
    assert {key: (tuple(value.shape), value.dtype) for key, value in code.items()} == layout
    assert sum(value.nbytes for value in code.values()) == one.precision.matrix_bytes(96, columns)


def test_what_a_code_can_say_comes_back() -> None:
    """Values on its grid, exactly: packing and unpacking lose nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, levels in (("int4", 16), ("int2", 4)):
        grid = torch.randint(0, levels, (8, 256), generator=generator).float()
        grid[:, ::128], grid[:, 1::128] = 0.0, levels - 1.0  # every group spans its range
        one = codec(name)
        assert torch.equal(one.decode(one.encode(grid), 256), grid)
    signs = torch.randint(0, 2, (8, 130), generator=generator).float() * 2 - 1
    ternary = codec("ternary")
    assert torch.equal(ternary.decode(ternary.encode(signs), 130), signs)


def test_a_layer_decodes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sums whatever the block's size; the bias is added."""
    weight = torch.randn(50, 64, generator=torch.Generator().manual_seed(2))
    bias = nn.Parameter(torch.arange(50.0), requires_grad=False)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    layer = QuantisedLinear("int8", (50, 64), torch.float32, bias, codec("int8").encode(weight))
    whole = layer(x)
    expected = x @ layer.weight_rows(0, 50).T + bias
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("alpamayo_ros.vla.quant.linear.BLOCK", 64 * 7)
    torch.testing.assert_close(layer(x), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CODED)
def test_both_runtimes_plan_on_it(name: str) -> None:
    """The same tokens and trajectories; the size is what `alpamayo fit` says of it."""
    model = random_model("tiny", "1.5", torch.device("cpu"), torch.float32, seed=3)
    chosen = choice(name, "float32")
    errors = quantise(model, chosen)
    assert set(errors) == {part for part in ("vision", "backbone", "expert", "lm_head")
                           if getattr(chosen, part) not in FLOATS}  # fmt: skip
    prompt, history = small.prompt("1.5", [small.row("1.5", 2)], [2]), small.history()
    options = PlanningOptions(
        n_samples=2, tokens=TokenSampling(top_k=1), max_new_tokens=4, flow_steps=3
    )
    eager = inference.plan(model, prompt, *history, options, seed=2)
    fast = FastRuntime(model).plan(prompt, *history, options, seed=2)
    assert torch.equal(eager.sequences, fast.sequences)
    torch.testing.assert_close(eager.xyz_in_rig_t0, fast.xyz_in_rig_t0, rtol=0, atol=2e-3)
    held = sum(tensor.nbytes for tensor in model.state_dict().values())
    said = Model("tiny", model.config, backbone_shape("tiny"))
    assert held == sum(weight_bytes(shapes(said.config, said.backbone), chosen, "float32").values())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("quant") / "tiny", "tiny", "1.5")


OPTIONS = {"max_new_tokens": 3, "flow_steps": 2}
MIXED = {"vision": "int8", "backbone": "int4", "expert": "nf4", "lm_head": "fp8"}


def quantise_command(manifest: Path, weights: str, out: Path) -> list[str]:
    return ["vla", "quantise", "--model", str(manifest), "--weights", weights, "--out", str(out)]


def planned(manifest: Path, **options: Any) -> Plan:
    backend = create_backend(str(manifest), "", {**OPTIONS, **options})
    backend.load()
    return backend.plan(small.sample(("front_wide",)))


def plan_of(manifest: Path, **options: Any) -> np.ndarray:
    plan = planned(manifest, **options)
    return np.concatenate([plan.xyz_in_rig_t0.ravel(), plan.action.ravel()])


def test_written_and_read_again(manifest: Path, tmp_path: Path) -> None:
    """Identical outputs: of the full checkpoint quantised while it is read, and of what is written;
    to the bit in every tensor and every waypoint."""
    out = tmp_path / "coded"
    arguments = quantise_command(manifest, "int8", out)
    for part, name in MIXED.items():
        arguments += ["--set", f"{part}={name}"]
    assert cli.main([*arguments, "--json", str(tmp_path / "q.json")]) == 0
    said = json.loads((tmp_path / "q.json").read_text())
    assert said["weights"] == MIXED and said["usable_without_training"]
    assert 0 < said["relative_error"]["vision"] < 0.01 < said["relative_error"]["expert"] < 0.15
    at_once, again, plain = (
        planned(manifest, **options)
        for options in ({"weights": MIXED}, {"checkpoint": str(out)}, {})
    )
    assert not np.array_equal(at_once.xyz_in_rig_t0, plain.xyz_in_rig_t0)
    np.testing.assert_array_equal(again.xyz_in_rig_t0, at_once.xyz_in_rig_t0)
    np.testing.assert_array_equal(again.action, at_once.action)
    # The status says how far off they are, whichever way they came.
    assert again.notes == at_once.notes and plain.notes == ()
    assert set(at_once.notes) == {
        f"weights of {part} as {name} are off by {said['relative_error'][part]:.1%}"
        for part, name in MIXED.items()
    }
    with pytest.raises(ModelError, match="is quantised as .* leave it out"):
        plan_of(manifest, checkpoint=str(out), weights="int8")


def test_every_tensor_comes_back(tmp_path: Path) -> None:
    """R1's too, whose checkpoints hold constants; in bfloat16, and of the same type."""
    manifest = write_checkpoint(tmp_path / "r1", "tiny", "r1")
    out = tmp_path / "coded"
    arguments = [*quantise_command(manifest, "nf4", out), "--option", "dtype=bfloat16"]
    assert cli.main(arguments) == 0
    folder = manifest.parent
    source = CheckpointSource(folder, folder / "tokenizer", folder / "backbone", device="cpu",
                              weights="nf4")  # fmt: skip
    first = load(source).model.state_dict()
    again = load(replace(source, checkpoint=out, weights=None)).model.state_dict()
    assert first.keys() == again.keys()
    for name, tensor in first.items():
        assert tensor.dtype == again[name].dtype, name
        assert torch.equal(tensor, again[name]), name


def test_it_says_whose_weights_they_are(manifest: Path, tmp_path: Path) -> None:
    """Licence and files of the source, those of its own as a manifest pins them; another's pins
    are refused with the remedy."""
    folder, out = manifest.parent, tmp_path / "coded"
    (name,) = (path.name for path in folder.glob("*.safetensors"))
    source = CheckpointSource(folder, folder / "tokenizer", folder / "backbone", device="cpu",
                              dtype="float32", weights="int8")  # fmt: skip
    loaded = load(source)
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    head = json.loads((folder / "config.json").read_text())
    origin = origin_of(folder, "no commerce", {})
    sha256 = save(loaded.model, loaded.weights, loaded.errors, out, head, origin=origin)
    said = json.loads((out / "quantisation.json").read_text())
    assert said["licence"] == "no commerce" and said["source_sha256"] == {name: found}
    assert origin_of(folder, "", {name: "as pinned"}).sha256 == {name: "as pinned"}
    assert said["sha256"] == sha256
    pinned = yaml.safe_load("options:\n" + manifest_lines(sha256))["options"]["sha256"]
    load(replace(source, checkpoint=out, weights=None, sha256=pinned))
    with pytest.raises(ModelError, match="none of them, .* quantisation.json"):
        load(replace(source, checkpoint=out, weights=None, sha256={"other.safetensors": found}))


def test_damaged_checkpoints_are_refused(manifest: Path, tmp_path: Path) -> None:
    """A code of another type or shape, scales that are not finite, another format."""
    out = tmp_path / "coded"
    arguments = quantise_command(manifest, "int8", out)
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 2  # the folder is taken
    (shard,) = out.glob("*.safetensors")
    tensors = load_file(shard)
    name = "expert.layers.0.mlp.up_proj"

    def refused(said: str, **changed: torch.Tensor) -> None:
        save_file({**tensors, **{f"{name}.{k}": v for k, v in changed.items()}}, shard)
        with pytest.raises(ModelError, match=said):
            plan_of(manifest, checkpoint=str(out))

    codes, scales = tensors[f"{name}.codes"], tensors[f"{name}.scales"]
    refused("up_proj.codes is stored as uint8, its precision makes it int8",
            codes=codes.to(torch.uint8))  # fmt: skip
    refused("up_proj.codes has shape", codes=codes[:-1].contiguous())
    refused("up_proj.scales has 1 values that are not finite",
            scales=torch.cat((scales[:-1], scales[-1:] * float("nan"))))  # fmt: skip
    description = out / "quantisation.json"
    whole = description.read_text()
    description.write_text(whole.replace('"relative_error": {', '"relative_error": {"wheels": 1,'))
    refused("relative_error is .*wheels.*wanted parts with numbers")
    description.write_text(whole)
    description.write_text(description.read_text().replace('"format": 1', '"format": 2'))
    refused("format 2, this version reads 1")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("int3", "precision 'int3' is none of"),
        ({"backbone": 4}, "wanted a precision, or a mapping"),
        ({"lm_head": "int4"}, "fewer than 8 bits"),
        ({"expert": "float16"}, "expert as float16 in a model whose dtype is float32"),
    ],
)
def test_options_that_are_refused(manifest: Path, weights: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        plan_of(manifest, weights=weights)
