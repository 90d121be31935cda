"""Folders as released, and every way in which one can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alpamayo_ros import cli
from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.backbone import QWEN3_VL_8B, read_backbone
from alpamayo_ros.vla.checkpoint import INDEX, find_shards
from alpamayo_ros.vla.config_reader import parse_config, read_config
from alpamayo_ros.vla.initialise import random_model, write_checkpoint
from alpamayo_ros.vla.load import CheckpointSource, find_device, load
from alpamayo_ros.vla.model import constants, parameter_counts
from alpamayo_ros.vla.sizes import backbone_shape, head_config

SHARDS = 3
GAIN = "expert.norm.weight"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An R1 checkpoint in three shards. Never changed: see `folder`."""
    path = tmp_path_factory.mktemp("checkpoint") / "r1"
    write_checkpoint(path, "tiny", "r1", seed=5, shard_bytes=2_000_000)
    return path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "r1"))


def source(folder: Path, **changed: Any) -> CheckpointSource:
    fields: dict[str, Any] = {
        "checkpoint": folder,
        "tokenizer": folder / "tokenizer",
        "backbone": folder / "backbone",
        "device": "cpu",
        "dtype": "float32",
    }
    return CheckpointSource(**{**fields, **changed})


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of the shard that holds the expert's last gain, index and all."""
    index = json.loads((folder / INDEX).read_text())
    file = folder / index["weight_map"][GAIN]
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    kept = {k: v for k, v in index["weight_map"].items() if v != file.name}
    index["weight_map"] = kept | dict.fromkeys(tensors, file.name)
    (folder / INDEX).write_text(json.dumps(index))


def test_a_folder_as_released(written: Path) -> None:
    """Head config, sharded safetensors with an index; R1 with its seven constants, 1.5 without."""
    assert len(find_shards(written).tensors) == SHARDS
    loaded = load(source(written))
    same = random_model("tiny", "r1", torch.device("cpu"), torch.float32, seed=5)
    for (name, ours), theirs in zip(loaded.model.state_dict().items(), same.state_dict().values()):
        assert torch.equal(ours, theirs), name
    assert len(loaded.model.state_dict()) == 146
    assert loaded.tokenizer.encode("<|cot_start|>") == [loaded.model.vocabulary.id_of("cot_start")]


def test_names_and_counts_of_the_release() -> None:
    """416 tensors of R1 beside the VLM's 750, 409 of 1.5; 11,078,526,194 parameters."""
    for version, beside in (("r1", 416), ("1.5", 409)):
        from alpamayo_ros.vla.model import empty_model

        config = parse_config(head_config("full", version), "test")
        names = list(empty_model(config, read_backbone(None)).state_dict())
        assert sum(name.startswith("vlm.") for name in names) == 750
        assert sum(not name.startswith("vlm.") for name in names) == beside
        counts = parameter_counts(config, read_backbone(None))
        vlm = counts["vision"] + counts["language"] + counts["lm_head"]
        assert vlm == 8_797_933_808
        assert counts["expert"] == 2_279_238_656
        assert counts["action_in_proj"] == 1_349_632
        assert counts["action_out_proj"] == 4_098
        assert sum(counts.values()) == 11_078_526_194


def test_count_on_the_command_line(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vla", "count", "--size", "full", "--version", "r1"]) == 0
    assert "11,078,526,194" in capsys.readouterr().out
    assert cli.main(["vla", "count", str(written)]) == 0
    assert "all                     1,140,338" in capsys.readouterr().out


def test_constants_are_rounded_as_the_release_loads_them(tmp_path: Path) -> None:
    """model_dtype bfloat16 rounds them in both versions, whatever the weights run in."""
    for version in ("r1", "1.5"):
        folder = tmp_path / version
        write_checkpoint(folder, "tiny", version)
        head = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**head, "model_dtype": "bfloat16"}))
        held = dict(constants(load(source(folder)).model))
        assert held["action_space.accel_std"].item() == 0.6796875
        assert held["action_space.accel_mean"].item() == pytest.approx(0.029052734375)
        assert held["action_space.curvature_std"].item() == pytest.approx(0.026123046875)
        assert held["action_in_proj.sinus.1.freqs"][0, 1].item() == 1.671875
        assert held["action_in_proj.sinus.1.freqs"].dtype == torch.float32


# ---- wrong folders ---------------------------------------------------------------------------


def fails(what: CheckpointSource, *said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(what)
    for part in said:
        assert part in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    fails(source(tmp_path / "none"), "does not exist", "README, Weights")
    fails(source(tmp_path), "holds neither", "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    fails(source(tmp_path), "pytorch_model.bin may run code when read")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    fails(source(folder), "no config.json")
    (folder / "config.json").write_text("{")
    fails(source(folder), "is not JSON")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    fails(source(folder), "model_type is 'llama'", "alpamayo_r1")


def test_no_tokenizer(folder: Path) -> None:
    fails(source(folder, tokenizer=None), "names no `tokenizer`", "README, Weights")
    fails(source(folder, tokenizer=folder / "none"), "no tokenizer folder")


def test_tokenizer_of_another_base(folder: Path) -> None:
    """A vocabulary that is not Qwen's with this size: named with what was found."""
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"] = content["added_tokens"][:-3]
    path.write_text(json.dumps(content))
    fails(source(folder), "not Qwen3-VL's", "</tool_response>", "is missing")


def test_wrong_backbone(folder: Path) -> None:
    """The default is the 8B's shape: a tiny checkpoint does not fit it, and says where."""
    fails(source(folder, backbone=None), "head_dim is 32", "is 128", "option `backbone`")
    shape = backbone_shape("tiny")
    shape["text_config"]["hidden_size"] = 96
    (folder / "backbone" / "config.json").write_text(json.dumps(shape))
    fails(source(folder), "has shape", "the configuration makes it")
    (folder / "backbone" / "config.json").write_text('{"model_type": "qwen2_vl"}')
    fails(source(folder), "model_type is 'qwen2_vl'")


def test_shards_missing_or_truncated(folder: Path) -> None:
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    fails(source(folder), shard.name, "truncated")
    shard.write_bytes(b"")
    fails(source(folder), shard.name)
    shard.unlink()
    fails(source(folder), f"lacks {shard.name}", "not complete")


def test_index_that_leads_elsewhere(folder: Path) -> None:
    """A file name with folders in it, and an index that does not match its shards."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][GAIN] = "../../secret.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    fails(source(folder), "'../../secret.safetensors'")
    index["weight_map"][GAIN] = sorted(folder.glob("model-*"))[0].name
    (folder / INDEX).write_text(json.dumps(index))
    fails(source(folder), "disagree on", GAIN)
    (folder / INDEX).write_text("[]")
    fails(source(folder), "no index with a weight_map")


def test_tensors_missing_extra_misshapen(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop(GAIN))
    fails(source(folder), f"lacks {GAIN}")
    rewrite_extra = {"vlm.extra": torch.zeros(2), "expert.extra": torch.zeros(2)}
    index = json.loads((folder / INDEX).read_text())
    file = index["weight_map"]["action_out_proj.bias"]
    tensors = load_file(folder / file) | rewrite_extra | {GAIN: torch.ones(48)}
    save_file(tensors, folder / file)
    index["weight_map"] |= dict.fromkeys(tensors, file)
    (folder / INDEX).write_text(json.dumps(index))
    fails(source(folder), "holds", "vlm.extra", "does not have")


def test_misshapen_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({GAIN: torch.ones(47)}))
    fails(source(folder), GAIN, "(47,)", "(48,)")


def test_weights_that_are_not_finite(folder: Path) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors[GAIN][3] = float("nan")

    rewrite(folder, damage)
    fails(source(folder), f"{GAIN} has 1 values that are not finite")


def test_weights_beyond_half_precision(folder: Path) -> None:
    """Too large for float16 is not damage; the type that holds them is named."""
    rewrite(folder, lambda tensors: tensors.update({GAIN: torch.full((48,), 1e6)}))
    fails(source(folder, dtype="float16"), f"{GAIN} has values up to 1e+06", "dtype=bfloat16")
    load(source(folder))


def test_quantised_export(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({GAIN: torch.ones(48, dtype=torch.int8)}))
    fails(source(folder), GAIN, "int8", "quantised")


def test_sha256(folder: Path) -> None:
    """What the manifest hashes must match; a name that is not there is an error too."""
    name = sorted(folder.glob("model-*.safetensors"))[0].name
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    load(source(folder, sha256={name: digest.upper()}))
    fails(source(folder, sha256={name: "0" * 64}), name, digest)
    fails(source(folder, sha256={"other.safetensors": digest}), "other.safetensors")


def test_devices_and_types(folder: Path) -> None:
    fails(source(folder, dtype="int4"), "dtype 'int4'", "bfloat16")
    fails(source(folder, device="tpu9"), "tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="device cuda is not there.*device=cpu"):
            find_device("cuda")


def test_init_on_a_device_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is written."""
    out = tmp_path / "new"
    assert cli.main(["vla", "init", "--out", str(out), "--device", "tpu"]) == 2
    assert "tpu" in capsys.readouterr().err
    assert not out.exists()


def test_init_refuses_a_folder_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vla", "init", "--out", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err


# ---- configurations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"diffusion_cfg": {"_target_": "x.Ddpm"}}, "diffusion_cfg names x.Ddpm"),
        ({"diffusion_cfg": {"int_method": "heun"}}, "int_method is 'heun'"),
        ({"diffusion_cfg": {"num_inference_steps": 0}}, "num_inference_steps is 0"),
        ({"expert_non_causal_attention": False}, "expert_non_causal_attention"),
        ({"expert_cfg": {"hidden_size": 48}}, "expert_cfg lacks num_attention_heads"),
        ({"tokens_per_history_traj": 16}, "tokens_per_history_traj is 16"),
        ({"traj_vocab_size": 768}, "768"),
        ({"vocab_size": 5000}, "vocab_size is 5000"),
        ({"vocab_size": "5078"}, "wanted int"),
        ({"traj_token_ids": {"history": 5064}}, "traj_token_ids.history is 5064"),
        ({"hist_traj_tokenizer_cfg": {"predict_yaw": True}}, "predict_yaw"),
        ({"action_in_proj_cfg": {"mystery": 1}}, "action_in_proj_cfg has mystery"),
        ({"action_space_cfg": {"n_waypoints": 32}}, "n_waypoints is 32"),
        ({"action_space_cfg": {"dt": 0.2}}, "dt is 0.2, wanted 0.1 s"),
        ({"action_space_cfg": {"accel_std": "x"}}, "accel_std is 'x', wanted a finite number"),
        ({"action_space_cfg": {"accel_bounds": [1]}}, "accel_bounds is [1], wanted 2 numbers"),
        ({"action_in_proj_cfg": {"num_enc_layers": "2"}}, "num_enc_layers is '2', wanted int"),
        ({"action_in_proj_cfg": {"max_freq": -1}}, "max_freq is -1"),
        ({"action_in_proj_cfg": {"hidden_size": 64.5}}, "hidden_size is 64.5, wanted int"),
        ({"hist_traj_tokenizer_cfg": {"num_bins": 0}}, "num_bins is 0, wanted 2 or more"),
        ({"expert_cfg": {"hidden_size": "48"}}, "expert_cfg lacks"),
        ({"max_pixels": 0}, "min_pixels is 163840, wanted 1 to max_pixels"),
        ({"vocab_size": 10**30}, "vocab_size is"),
        ({"model_dtype": "bf16"}, "model_dtype is 'bf16', wanted float32 or bfloat16"),
    ],
)
def test_a_config_that_cannot_be_computed(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_config({**head_config("tiny", "r1"), **change}, "config.json")
    assert said in str(caught.value)
    assert "config.json" in str(caught.value)


def test_an_expert_that_does_not_line_up() -> None:
    """Its keys stand beside the language model's: heads of keys, sizes and layers must agree."""
    head = head_config("tiny", "r1")
    head["expert_cfg"]["head_dim"] = 16
    with pytest.raises(ModelError, match="expert_cfg.head_dim is 16, the language model's is 32"):
        parameter_counts(parse_config(head, "test"), backbone_shape("tiny"))


@pytest.mark.parametrize("file", ["config.json", INDEX, "backbone/config.json"])
def test_json_nested_too_deeply(folder: Path, file: str) -> None:
    (folder / file).write_text("[" * 100_000)
    fails(source(folder), Path(file).name)


def test_expert_widths_that_are_none(tmp_path: Path) -> None:
    """Of the wrong type, none at all, or with a vocabulary that an expert does not have."""
    for change, said in (({"hidden_size": "48"}, "wanted int"), ({"head_dim": 0}, "wanted 1 or"),
                         ({"vocab_size": 5}, "has no vocabulary")):  # fmt: skip
        head = head_config("tiny", "r1")
        head["expert_cfg"] |= change
        with pytest.raises(ModelError, match=said):
            parse_config(head, "config.json")


def test_dtype_as_torch_prints_it() -> None:
    """`torch.bfloat16` says bfloat16: the constants are rounded by it."""
    head = {**head_config("tiny", "r1"), "model_dtype": "torch.bfloat16"}
    assert parse_config(head, "config.json").model_dtype == "bfloat16"


def test_heads_that_cannot_share_keys() -> None:
    head = head_config("tiny", "r1")
    head["expert_cfg"]["num_attention_heads"] = 3
    with pytest.raises(ModelError, match="num_attention_heads is 3, no multiple of the 2"):
        parameter_counts(parse_config(head, "test"), backbone_shape("tiny"))


def test_backbone_of_transformers_5(tmp_path: Path) -> None:
    """`rope_parameters`, as version 5 writes it, says the same as version 4's two entries."""
    shape = backbone_shape("full")
    text = shape["text_config"]
    text["rope_parameters"] = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    assert read_backbone(tmp_path) == read_backbone(None)
    assert read_backbone(None)["text_config"] == QWEN3_VL_8B["text_config"]


def test_head_configs_are_the_releases(tmp_path: Path) -> None:
    """What `init` writes reads back; 1.5 says camera names and frame numbers."""
    for version in ("r1", "1.5"):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(head_config("full", version)))
        config = read_config(path)
        assert config.version == version
        assert config.vocabulary.size == config.vocab_size == 155_697
        assert config.vocabulary.history_token_start == 154_669
        assert config.include_camera_ids is (version == "1.5")
        assert config.model_dtype == "bfloat16"
