"""A student's configuration: from YAML, and part of its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import CAMERA_NAMES, IMAGE_HEIGHT, N_FRAMES, N_WAYPOINTS, Rows
from alpamayo_ros.yaml_text import YamlError, read_yaml

HEADS = ("regression", "flow")
NECKS = ("flatten", "grid")


@dataclass(frozen=True)
class StudentConfig:
    """Architecture A: a timm backbone per camera, ego history, a transformer policy.

    T and D of the features: `tokens` (of the neck flatten) or the map's cells (grid), `width`.
    """

    name: str = "student"
    # In the order of the model's camera table, as samples have them.
    cameras: tuple[str, ...] = ("cross_left", "front_wide", "cross_right", "front_tele")
    # ---- images: rows [first, last) of 320, one pair for each camera (one pair alone: for all),
    # then an area average to input_size
    crop_rows: tuple[Rows, ...] = ((0, IMAGE_HEIGHT),)
    input_size: tuple[int, int] = (160, 288)  # height, width
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    # ---- backbone
    backbone: str = "mobilenetv4_conv_small"
    stride: int = 16  # of the feature map that is taken; later stages are not built
    neck: str = "flatten"
    neck_channels: int = 32  # of the map before it is flattened
    tokens: int = 4  # a camera and frame, of the neck flatten
    # ---- policy
    frames: tuple[int, ...] = (0, 1, 2, 3)  # which of the four it looks at, oldest first
    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 2
    history_tokens: int = 2
    # Channels that every token brings to a summary of all of them, which the queries start from:
    # attention alone takes long to find the few tokens that matter. 0: no summary.
    summary_channels: int = 0
    waypoints_a_query: int = 8
    takes_navigation: bool = True
    # ---- head
    head: str = "regression"
    flow_steps: int = 2
    flow_start_std: float = 0.3  # of the noise around the prior from which the flow starts
    action_scale: tuple[float, float] = (1.0, 0.03)  # m/s^2 and 1/m of one normalised unit
    smooth: int = 1  # waypoints that the planned action is averaged over; 1: none

    def __post_init__(self) -> None:
        """Raises ModelError naming what cannot be built."""
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, list):
                object.__setattr__(self, entry.name, tuple(value))
        object.__setattr__(self, "crop_rows", _each(self.crop_rows, len(self.cameras)))
        height, width = self.input_size
        unknown = [name for name in self.cameras if name not in CAMERA_NAMES]
        order = [CAMERA_NAMES.index(name) for name in self.cameras if name in CAMERA_NAMES]
        faults = {
            f"unknown camera {', '.join(unknown)}": unknown,
            f"cameras want the order {', '.join(CAMERA_NAMES)}": order != sorted(set(order)),
            "it needs a camera": not self.cameras,
            f"crop_rows are {len(self.crop_rows)} pairs for {len(self.cameras)} cameras":
                len(self.crop_rows) != len(self.cameras),
            f"crop_rows {list(map(list, self.crop_rows))} are not within 0 … {IMAGE_HEIGHT}":
                not all(0 <= first < last <= IMAGE_HEIGHT for first, last in self.crop_rows),
            f"input_size {height} x {width} is no multiple of the stride {self.stride}":
                self.stride < 1 or height % self.stride or width % self.stride,
            f"head {self.head!r} is none of {', '.join(HEADS)}": self.head not in HEADS,
            f"neck {self.neck!r} is none of {', '.join(NECKS)}": self.neck not in NECKS,
            f"width {self.width} is no multiple of heads {self.heads}": self.width % self.heads,
            f"waypoints_a_query {self.waypoints_a_query} does not divide {N_WAYPOINTS}":
                N_WAYPOINTS % self.waypoints_a_query,
            f"frames {list(self.frames)} are not rising numbers within 0 … {N_FRAMES - 1}":
                not self.frames or list(self.frames) != sorted(set(self.frames))
                or not set(self.frames) <= set(range(N_FRAMES)),
            f"flow_steps is {self.flow_steps}, wanted 1 or more": self.flow_steps < 1,
            "summary_channels is below 0": self.summary_channels < 0,
            f"smooth is {self.smooth}, wanted an odd number": self.smooth % 2 != 1,
            "action_scale wants two numbers above 0": min(self.action_scale) <= 0,
        }  # fmt: skip
        wrong = [text for text, fault in faults.items() if fault]
        if wrong:
            raise ModelError(f"student {self.name}: {'; '.join(wrong)}")

    @property
    def map_size(self) -> tuple[int, int]:
        """(rows, columns) of the backbone's feature map."""
        return self.input_size[0] // self.stride, self.input_size[1] // self.stride

    @property
    def image_tokens(self) -> int:
        """T: tokens of one camera's frame."""
        rows, columns = self.map_size
        return self.tokens if self.neck == "flatten" else rows * columns

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as YAML and JSON take them."""
        return {name: _lists(value) for name, value in dataclasses.asdict(self).items()}


def _each(rows: Any, cameras: int) -> tuple[Rows, ...]:
    """One pair a camera, from pairs or from the pair of all."""
    flat = len(rows) == 2 and not any(isinstance(entry, (list, tuple)) for entry in rows)
    pairs = tuple(tuple(pair) for pair in ((rows,) if flat else rows))
    return pairs * cameras if len(pairs) == 1 else pairs


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, (list, tuple)) else value


def student_config(content: Any, where: str) -> StudentConfig:
    """A configuration from a mapping. Raises ModelError that names `where` and the key."""
    if not isinstance(content, Mapping):
        raise ModelError(f"{where}: a student wants a mapping, got {content!r}")
    defaults = {entry.name: entry.default for entry in dataclasses.fields(StudentConfig)}
    unknown = [str(key) for key in content if key not in defaults]
    if unknown:
        raise ModelError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(defaults)}")
    for key, value in content.items():
        if not _fits(value, defaults[key], key):
            raise ModelError(f"{where}: {key} is {value!r}, wanted something like {defaults[key]}")
    try:
        return StudentConfig(**content)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


def _fits(value: Any, default: Any, key: str = "") -> bool:
    """Whether a value of YAML has a default's type, item by item."""
    if key == "crop_rows":
        rows = value if isinstance(value, (list, tuple)) and value else [None]
        return _fits(rows, (0, 0)) or all(_fits(pair, (0, 0)) for pair in rows)
    if isinstance(default, tuple):
        fits = isinstance(value, (list, tuple)) and all(_fits(v, default[0]) for v in value)
        # Names and frames may be more or fewer; sizes, rows and colours may not.
        return fits and (key in ("cameras", "frames") or len(value) == len(default))
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))


def load_student_config(path: Path) -> StudentConfig:
    """A configuration file. Raises ModelError."""
    try:
        content = read_yaml(path)
    except (OSError, YamlError) as error:
        raise ModelError(f"cannot read the student's configuration {path}: {error}") from error
    return student_config(content, str(path))
