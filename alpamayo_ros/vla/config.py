"""The head `config.json` of a released Alpamayo folder, checked and typed.

Keys and defaults are the release's (NVlabs/alpamayo 1cba38c, NVlabs/alpamayo1.5 f42e594). What this
code cannot compute is refused here, by name, and not found out by a wrong trajectory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_HISTORY, N_WAYPOINTS
from alpamayo_ros.vla.unicycle import UnicycleConfig
from alpamayo_ros.vla.vocabulary import Vocabulary

VERSIONS = {"alpamayo_r1": "r1", "alpamayo1_5": "1.5"}
EXPERT_KEYS = ("hidden_size", "num_attention_heads", "head_dim", "intermediate_size")
BESIDE = {"action_space_cfg"}  # the future tokenizer repeats the action space's
HISTORY_AXES = 3
ACTION_DIMS = 2

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class ActionProjectionConfig:
    """Noisy actions and the flow's time to the expert's width."""

    num_enc_layers: int = 4
    hidden_size: int = 1024
    num_fourier_feats: int = 20
    max_freq: float = 100.0


@dataclass(frozen=True, slots=True)
class FutureTokensConfig:
    """The discrete future tokens: only their number matters here, it offsets the history's."""

    dims_min: tuple[float, ...] = (-10.0, -10.0)
    dims_max: tuple[float, ...] = (10.0, 10.0)
    num_bins: int = 3000


@dataclass(frozen=True, slots=True)
class HistoryTokensConfig:
    """Bins of the displacements between history poses, in metres."""

    ego_xyz_min: tuple[float, float, float] = (-4.0, -4.0, -10.0)
    ego_xyz_max: tuple[float, float, float] = (4.0, 4.0, 10.0)
    num_bins: int = 1000
    predict_yaw: bool = False


@dataclass(frozen=True, slots=True)
class AlpamayoConfig:
    """One checkpoint's head configuration."""

    version: str  # "r1" or "1.5"
    expert: Mapping[str, Any]  # what the expert does not inherit from the language model
    vocab_size: int = 155697
    traj_token_start: int = 151669  # also the size of the base vocabulary
    traj_vocab_size: int = 768
    tokens_per_history: int = 16
    tokens_per_future: int = 64
    min_pixels: int = 163840
    max_pixels: int = 196608
    add_special_tokens: bool = False
    include_camera_ids: bool = False
    include_frame_nums: bool = False
    model_dtype: str = "bfloat16"
    flow_steps: int = 10
    action_projection: ActionProjectionConfig = field(default_factory=ActionProjectionConfig)
    action_space: UnicycleConfig = field(default_factory=UnicycleConfig)
    future_tokens: FutureTokensConfig = field(default_factory=FutureTokensConfig)
    history_tokens: HistoryTokensConfig = field(default_factory=HistoryTokensConfig)

    @property
    def stores_buffers(self) -> bool:
        """Whether the checkpoint holds the action space's and projection's constants (R1 does)."""
        return self.version == "r1"

    @property
    def vocabulary(self) -> Vocabulary:
        """Where the ids of this checkpoint lie."""
        return Vocabulary.for_base(
            self.traj_token_start,
            version=self.version,
            traj_vocab_size=self.traj_vocab_size,
            future_bins=self.future_tokens.num_bins,
            history_bins=self.history_tokens.num_bins,
            add_special_tokens=self.add_special_tokens,
        )


def read_config(path: Path) -> AlpamayoConfig:
    """A `config.json`. Raises ModelError naming the key that cannot be used."""
    return parse_config(read_json(path), str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
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
        ours = vocabulary.id_of(f"traj_{name}")
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
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    # Names with an underscore are for the release's own way of building objects.
    stated = {name: value for name, value in values.items() if not name.startswith("_")}
    unknown = sorted(set(stated) - known - BESIDE)
    if unknown:
        raise ModelError(f"{where}: {key} has {', '.join(unknown)}, which this code does not know")
    chosen = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stated.items()
        if name in known and value is not None
    }
    try:
        return cls(**chosen)
    except TypeError as error:
        raise ModelError(f"{where}: {key}: {error}") from error


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelError(f"{where} is {value!r}, wanted {kind.__name__}")
    return value
