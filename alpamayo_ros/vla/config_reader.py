"""A released folder's `config.json` read and checked.

What this code cannot compute is refused here, by name, and not found out by a wrong trajectory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_HISTORY, N_WAYPOINTS, WAYPOINT_STEP_S
from alpamayo_ros.vla.config import (
    ActionProjectionConfig,
    AlpamayoConfig,
    FutureTokensConfig,
    HistoryTokensConfig,
)
from alpamayo_ros.vla.unicycle import UnicycleConfig
from alpamayo_ros.vla.vocabulary import Vocabulary

VERSIONS = {"alpamayo_r1": "r1", "alpamayo1_5": "1.5"}
EXPERT_KEYS = ("hidden_size", "num_attention_heads", "head_dim", "intermediate_size")
BESIDE = {"action_space_cfg"}  # the future tokenizer repeats the action space's
MAX_PIXELS = 1 << 24  # beyond these a number in config.json is damage
MAX_VOCABULARY = 1 << 24
DTYPE_NAMES = ("float32", "bfloat16", "float16")
HISTORY_AXES = 3

Config = TypeVar("Config")


def read_config(path: Path) -> AlpamayoConfig:
    """A `config.json`. Raises ModelError naming the key that cannot be used."""
    return parse_config(read_json(path), str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no configuration: an object is wanted")
    return content


def parse_config(content: Mapping[str, Any], where: str) -> AlpamayoConfig:
    """The head configuration from its JSON object. Raises ModelError."""
    model_type = content.get("model_type")
    version = VERSIONS.get(str(model_type))
    if version is None:
        raise ModelError(
            f"{where}: model_type is {model_type!r}; this code loads {', '.join(VERSIONS)}"
        )
    _refuse_unknown_parts(content, where)
    scalars: dict[str, Any] = {}
    for key, name, kind in (
        ("vocab_size", "vocab_size", int),
        ("traj_token_start_idx", "traj_token_start", int),
        ("traj_vocab_size", "traj_vocab_size", int),
        ("tokens_per_history_traj", "tokens_per_history", int),
        ("tokens_per_future_traj", "tokens_per_future", int),
        ("min_pixels", "min_pixels", int),
        ("max_pixels", "max_pixels", int),
        ("add_special_tokens", "add_special_tokens", bool),
        ("include_camera_ids", "include_camera_ids", bool),
        ("include_frame_nums", "include_frame_nums", bool),
        ("model_dtype", "model_dtype", str),
    ):
        if content.get(key) is not None:
            scalars[name] = _typed(content[key], kind, f"{where}: {key}")
    diffusion = _mapping(content, "diffusion_cfg", where)
    if diffusion.get("num_inference_steps") is not None:
        scalars["flow_steps"] = _typed(
            diffusion["num_inference_steps"], int, f"{where}: diffusion_cfg.num_inference_steps"
        )
    if "model_dtype" in scalars:
        scalars["model_dtype"] = _dtype_name(scalars["model_dtype"], f"{where}: model_dtype")
    config = AlpamayoConfig(
        version=version,
        expert=dict(_mapping(content, "expert_cfg", where)),
        action_projection=_part(ActionProjectionConfig, content, "action_in_proj_cfg", where),
        action_space=_part(UnicycleConfig, content, "action_space_cfg", where),
        future_tokens=_part(FutureTokensConfig, content, "traj_tokenizer_cfg", where),
        history_tokens=_part(HistoryTokensConfig, content, "hist_traj_tokenizer_cfg", where),
        **scalars,
    )
    _check(config, where)
    _check_token_ids(_mapping(content, "traj_token_ids", where), config.vocabulary, where)
    return config


def _dtype_name(name: str, where: str) -> str:
    """A dtype as `load.DTYPES` names it; the release rounds its constants by it."""
    short = name.removeprefix("torch.")
    if short not in DTYPE_NAMES:
        raise ModelError(f"{where} is {name!r}, wanted {' or '.join(DTYPE_NAMES)}")
    return short


def _refuse_unknown_parts(content: Mapping[str, Any], where: str) -> None:
    """Parts are named by `_target_`; another class would be other arithmetic."""
    for key, wanted in (
        ("traj_tokenizer_cfg", "DiscreteTrajectoryTokenizer"),
        ("hist_traj_tokenizer_cfg", "DeltaTrajectoryTokenizer"),
        ("diffusion_cfg", "FlowMatching"),
        ("action_space_cfg", "UnicycleAccelCurvatureActionSpace"),
        ("action_in_proj_cfg", "PerWaypointActionInProjV2"),
        ("action_out_proj_cfg", "Linear"),
    ):
        target = str(_mapping(content, key, where).get("_target_", wanted))
        if target.rpartition(".")[2] != wanted:
            raise ModelError(f"{where}: {key} names {target}; only {wanted} is implemented")
    method = _mapping(content, "diffusion_cfg", where).get("int_method", "euler")
    if method != "euler":
        raise ModelError(f"{where}: diffusion_cfg.int_method is {method!r}; only euler is known")
    if content.get("expert_non_causal_attention", True) is not True:
        raise ModelError(f"{where}: expert_non_causal_attention is false; the releases set it")


def _check(config: AlpamayoConfig, where: str) -> None:
    missing = [name for name in EXPERT_KEYS if name not in config.expert]
    if missing:
        raise ModelError(f"{where}: expert_cfg lacks {', '.join(missing)}")
    for name, value in config.expert.items():
        if name in (*EXPERT_KEYS, "num_hidden_layers", "num_key_value_heads"):
            if _typed(value, int, f"{where}: expert_cfg.{name}") < 1:
                raise ModelError(f"{where}: expert_cfg.{name} is {value}, wanted 1 or more")
    if "vocab_size" in config.expert:
        raise ModelError(f"{where}: expert_cfg.vocab_size; the expert has no vocabulary")
    space, projection = config.action_space, config.action_projection
    for name, value, good, wanted in (
        ("action_space_cfg.dt", space.dt, space.dt == WAYPOINT_STEP_S, f"{WAYPOINT_STEP_S} s"),
        ("action_space_cfg.accel_std", space.accel_std, space.accel_std > 0, "more than 0"),
        ("action_space_cfg.curvature_std", space.curvature_std, space.curvature_std > 0,
         "more than 0"),
        ("action_in_proj_cfg.num_enc_layers", projection.num_enc_layers,
         projection.num_enc_layers > 0, "1 or more"),
        ("action_in_proj_cfg.hidden_size", projection.hidden_size, projection.hidden_size > 0,
         "1 or more"),
        ("action_in_proj_cfg.num_fourier_feats", projection.num_fourier_feats,
         projection.num_fourier_feats >= 2 and projection.num_fourier_feats % 2 == 0,
         "an even number from 2 on"),
        ("action_in_proj_cfg.max_freq", projection.max_freq, projection.max_freq > 0,
         "more than 0"),
        ("traj_tokenizer_cfg.num_bins", config.future_tokens.num_bins,
         config.future_tokens.num_bins > 1, "2 or more"),
        ("hist_traj_tokenizer_cfg.num_bins", config.history_tokens.num_bins,
         config.history_tokens.num_bins > 1, "2 or more"),
        ("min_pixels", config.min_pixels, 0 < config.min_pixels <= config.max_pixels,
         "1 to max_pixels"),
        ("max_pixels", config.max_pixels, config.max_pixels <= MAX_PIXELS, f"at most {MAX_PIXELS}"),
        ("vocab_size", config.vocab_size, config.vocab_size <= MAX_VOCABULARY,
         f"at most {MAX_VOCABULARY}"),
    ):  # fmt: skip
        if not good:
            raise ModelError(f"{where}: {name} is {value}, wanted {wanted}")
    if config.history_tokens.predict_yaw:
        raise ModelError(f"{where}: hist_traj_tokenizer_cfg.predict_yaw; the releases do not")
    if config.tokens_per_history != N_HISTORY * HISTORY_AXES:
        raise ModelError(
            f"{where}: tokens_per_history_traj is {config.tokens_per_history}; {N_HISTORY} poses "
            f"of {HISTORY_AXES} axes make {N_HISTORY * HISTORY_AXES}"
        )
    if config.action_space.n_waypoints != N_WAYPOINTS:
        raise ModelError(
            f"{where}: action_space_cfg.n_waypoints is {config.action_space.n_waypoints}, "
            f"this package plans {N_WAYPOINTS}"
        )
    if config.flow_steps < 1:
        raise ModelError(f"{where}: num_inference_steps is {config.flow_steps}, wanted 1 or more")
    try:
        vocabulary = config.vocabulary
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    if config.vocab_size < vocabulary.size:
        raise ModelError(
            f"{where}: vocab_size is {config.vocab_size}, its tokens make {vocabulary.size}"
        )


def _check_token_ids(stated: Mapping[str, Any], vocabulary: Vocabulary, where: str) -> None:
    """The ids that a released config.json states must be those that we derive."""
    for name, token_id in stated.items():
        try:
            ours = vocabulary.id_of(f"traj_{name}")
        except ModelError as error:
            raise ModelError(f"{where}: traj_token_ids.{name}: {error}") from error
        if token_id != ours:
            raise ModelError(
                f"{where}: traj_token_ids.{name} is {token_id}, its vocabulary makes it {ours}"
            )


def _mapping(content: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, Mapping):
        raise ModelError(f"{where}: {key} is {value!r}, wanted an object")
    return value


def _part(cls: type[Config], content: Mapping[str, Any], key: str, where: str) -> Config:
    """A part's dataclass from the keys that it knows; lists become tuples."""
    values = _mapping(content, key, where)
    known = {entry.name: entry for entry in fields(cls)}  # type: ignore[arg-type]
    # Names with an underscore are for the release's own way of building objects.
    stated = {name: value for name, value in values.items() if not name.startswith("_")}
    unknown = sorted(set(stated) - set(known) - BESIDE)
    if unknown:
        raise ModelError(f"{where}: {key} has {', '.join(unknown)}, which this code does not know")
    chosen = {
        name: _value(value, str(known[name].type), known[name].default, f"{where}: {key}.{name}")
        for name, value in stated.items()
        if name in known and value is not None
    }
    return cls(**chosen)


def _value(value: Any, kind: str, default: Any, where: str) -> Any:
    """A part's number, flag or list of numbers, as its field is annotated."""
    if kind == "bool" or kind == "int":
        return _typed(value, bool if kind == "bool" else int, where)
    if kind == "float":
        return _number(value, where)
    if not isinstance(value, (list, tuple)) or len(value) != len(default):
        raise ModelError(f"{where} is {value!r}, wanted {len(default)} numbers")
    return tuple(_number(entry, where) for entry in value)


def _number(value: Any, where: str) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not abs(value) <= sys.float_info.max:
        raise ModelError(f"{where} is {value!r}, wanted a finite number")
    return float(value)


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelError(f"{where} is {value!r}, wanted {kind.__name__}")
    return value
