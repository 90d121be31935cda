"""The head configuration of a released Alpamayo folder, typed.

Names and defaults are the release's (NVlabs/alpamayo 1cba38c, NVlabs/alpamayo1.5 f42e594).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alpamayo_ros.vla.unicycle import UnicycleConfig
from alpamayo_ros.vla.vocabulary import Vocabulary

ACTION_DIMS = 2


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
