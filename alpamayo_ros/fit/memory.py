"""What a plan needs beside the weights: keys and values, activations, the process's own.

Sizes of the tensors that are alive together in the widest moment of each stage, by the shapes of
the code that makes them. An allocator's gaps come on top: `MARGIN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alpamayo_ros.fit.devices import GIB
from alpamayo_ros.types import N_FRAMES, N_WAYPOINTS
from alpamayo_ros.vla.config import AlpamayoConfig
from alpamayo_ros.vla.fast import FRAME_CAPACITY

RUNTIMES = ("eager", "fast")
CONTEXT_BYTES = int(0.5 * GIB)  # CUDA's own in a process with PyTorch's and cuBLAS's kernels
MARGIN = 0.05  # of what a plan needs, for gaps between blocks
# By the one peak that is published, 10.44 GiB while NF4 plans on `eager`: what it has over the sums
# here. Of quantised weights alone: in bfloat16 the release is said to plan on cards of 24 GB.
QUANTISED_BYTES = int(1.27 * GIB)
TEXT_TOKENS = 206  # of a 1.5 prompt, but for its images: 3086 - 16 * 180
TAIL_TOKENS = 100  # behind its history: with navigation text; `fast` holds them for every sample
DECODED_WEIGHTS = 2**25  # of a quantised matrix at once, see quant.linear
_FP32, _WIDE = 4, 2


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the model."""

    runtime: str = "eager"
    samples: int = 1
    new_tokens: int = 256
    cameras: int = 4
    image_tokens: int = 180  # of a frame of 576 x 320
    reasoning: str = "before"
    guidance: bool = False
    streaming: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Of a 1.5 prompt."""
        return self.cameras * N_FRAMES * self.image_tokens + TEXT_TOKENS


def plan_bytes(
    config: AlpamayoConfig, backbone: Mapping[str, Any], load: Load, quantised: bool
) -> dict[str, int]:
    """Bytes by use; stages follow one another, so that the widest counts."""
    text, vision = backbone["text_config"], backbone["vision_config"]
    fast, n, length = load.runtime == "fast", load.samples, load.prompt_tokens
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    place = 2 * text["num_hidden_layers"] * text["num_key_value_heads"] * text["head_dim"] * _WIDE
    cache = place * (_fast_places(load) if fast else _eager_places(load))
    # eager's grows by copying: one layer exists twice.
    copied = 0 if fast else cache // text["num_hidden_layers"]
    frames = load.cameras * N_FRAMES
    layers = 1 + len(vision["deepstack_visual_indexes"])
    features = frames * load.image_tokens * vision["out_hidden_size"] * layers * _WIDE
    kept = 0 if not fast else FRAME_CAPACITY * features // frames
    seen = min(4, frames) if fast else frames  # images that go through the encoder together
    patches = seen * load.image_tokens * vision["spatial_merge_size"] ** 2
    patch = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    wide = vision["hidden_size"]
    encoder = patches * (patch * _FP32 + (6 * wide + 2 * vision["intermediate_size"]) * _WIDE)
    prefill = length * (4 * hidden + 3 * inner) * _WIDE
    heads = config.expert.get("num_attention_heads", text["num_attention_heads"])
    # eager repeats a layer's keys and values for the expert's heads, and masks them in fp32.
    repeated = 0 if fast else n * (length + N_WAYPOINTS) * heads * text["head_dim"] * 2 * _WIDE
    logits = n * config.vocab_size * _FP32 * 4  # scaled, sorted, summed and masked copies
    decoded = DECODED_WEIGHTS * _WIDE + QUANTISED_BYTES if quantised else 0
    return {
        "keys and values": cache + copied,
        "frame features": features + kept,
        "widest stage": max(encoder, prefill, repeated, logits) + decoded,
        "CUDA": CONTEXT_BYTES,
    }


def _eager_places(load: Load) -> int:
    """Places of keys and values: a prompt and what is behind it for every sample, and as much
    without its navigation text where guidance compares."""
    each = load.prompt_tokens + load.new_tokens + N_WAYPOINTS
    return load.samples * each * (2 if load.guidance else 1)


def _fast_places(load: Load) -> int:
    """A prompt stands as it was read and where graphs look: the plan's, and late reasoning's.
    Streaming keeps the last one that was read."""
    behind = TAIL_TOKENS + load.new_tokens + N_WAYPOINTS
    own = load.samples * behind * (2 if load.guidance else 1)
    prompts, late = 2, load.reasoning == "after"
    return (prompts + late + load.streaming) * load.prompt_tokens + own + late * behind
