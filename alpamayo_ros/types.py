"""The central types: what enters a planner, what leaves it, and why something did not.

Stamps are integer nanoseconds of ROS time, units SI, arrays read-only. A field's name carries its
frame: `_in_odometry` is the odometry message's `frame_id`, `_in_rig_t0` the rig frame (rear axle
centre on the ground, x forward, y left, z up) at the plan's time t0.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

N_FRAMES = 4  # frames a camera, oldest first, the last at t0
FRAME_STEP_NS = 100 * NS_PER_MS
N_HISTORY = 16  # ego poses, the last at t0: a span of 1.5 s
HISTORY_STEP_NS = 100 * NS_PER_MS
N_WAYPOINTS = 64
WAYPOINT_STEP_S = 0.1
IMAGE_HEIGHT, IMAGE_WIDTH = 320, 576  # the model's image, after resizing
Rows = tuple[int, int]  # [first, last) of IMAGE_HEIGHT

# The model's camera table: position in this tuple is the camera index of the checkpoint.
CAMERA_NAMES = (
    "cross_left",
    "front_wide",
    "cross_right",
    "rear_left",
    "rear_tele",
    "rear_right",
    "front_tele",
)
DEFAULT_CAMERAS = ("front_wide", "front_tele", "cross_left", "cross_right")


def readonly(array: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """`array` as a read-only array of `dtype`; ValueError naming it unless `shape` fits.

    None in `shape` matches any length. Copies only where the dtype differs, so that a frame of
    pixels is never copied for the sake of a check.
    """
    result = np.asarray(array, dtype=dtype)
    if result.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(result.shape, shape)
    ):
        wanted = "(" + ", ".join("n" if want is None else str(want) for want in shape) + ")"
        raise ValueError(f"{name} has shape {result.shape}, wanted {wanted}")
    view = result.view()
    view.flags.writeable = False
    return view


class RejectionReason(str, enum.Enum):
    """Why a tick gave no sample, or a message no place in a buffer."""

    WARMING_UP = "warming_up"  # the buffers do not yet reach back far enough
    CAMERA_MISSING = "camera_missing"  # no frame of a camera within tolerance of its grid time
    CAMERA_SKEW = "camera_skew"  # frames of one instant lie too far apart
    IMAGE_UNREADABLE = "image_unreadable"  # the frame's bytes do not decode
    IMAGE_BLANK = "image_blank"  # black, or overexposed
    CAMERA_FROZEN = "camera_frozen"  # the same pixels again while the vehicle moves
    CAMERA_UNCALIBRATED = "camera_uncalibrated"  # rig_views needs what the camera lacks
    ODOMETRY_MISSING = "odometry_missing"  # no odometry, or it ends too long before t0
    ODOMETRY_GAP = "odometry_gap"  # poses too far apart to interpolate between
    ODOMETRY_INVALID = "odometry_invalid"  # not finite, or a quaternion that is not a rotation
    ODOMETRY_FRAME = "odometry_frame"  # child_frame_id is not the rig and no offset is known
    ODOMETRY_INCONSISTENT = "odometry_inconsistent"  # poses and speeds contradict each other
    ODOMETRY_JUMP = "odometry_jump"  # elsewhere, or in another frame_id: history begins anew
    OUT_OF_ORDER = "out_of_order"  # a stamp not newer than the newest of its source
    FUTURE_STAMP = "future_stamp"  # a stamp ahead of the clock
    CLOCK_MISMATCH = "clock_mismatch"  # stamps and the node's clock are not the same clock
    CLOCK_JUMP = "clock_jump"  # time went backwards or leapt: the buffers were cleared
    PLANNER_BUSY = "planner_busy"  # a newer sample took this one's place before inference
    PLANNER_FAILED = "planner_failed"  # the backend raised, or returned a plan that is none
    PLAN_UNSAFE = "plan_unsafe"  # a plan that broke a limit of the safety stage
    RECOVERING = "recovering"  # a good plan, while the fallback waits for more of them

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Rejection:
    """A tick or a message refused: what, where, by how much."""

    reason: RejectionReason
    source: str  # the camera's name, "odometry", "clock" or "planner"
    value: float = float("nan")  # what was measured
    limit: float = float("nan")  # what it may be
    unit: str = ""
    due_ns: int = 0  # the tick's due time; 0 where no tick is concerned
    detail: str = ""

    def __str__(self) -> str:
        numbers = ""
        if np.isfinite(self.value):
            numbers = f": {self.value:.4g} {self.unit}".rstrip()
            if np.isfinite(self.limit):
                numbers += f" (limit {self.limit:.4g} {self.unit})".replace(" )", ")")
        detail = f"; {self.detail}" if self.detail else ""
        return f"{self.reason.value} [{self.source}]{numbers}{detail}"


class ImageError(ValueError):
    """An image that cannot be decoded; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One decoded picture, at the model's size."""

    camera: str
    stamp_ns: int
    image: NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True)
class EgoPose:
    """The rig's pose and motion at one stamp."""

    stamp_ns: int
    position_m: NDArray[np.float64]  # (3,) of the rig in the odometry frame
    quaternion_xyzw: NDArray[np.float64]  # (4,) odometry from rig, unit length
    speed_mps: float  # along the rig's x axis; negative in reverse; NaN: not known (yet)
    yaw_rate_rps: float  # about the rig's z axis, left positive; NaN with the speed
    frame_id: str = "odom"

    def __post_init__(self) -> None:
        for name, length in (("position_m", 3), ("quaternion_xyzw", 4)):
            array = readonly(getattr(self, name), np.float64, (length,), name)
            object.__setattr__(self, name, array)

    @property
    def is_motion_known(self) -> bool:
        """Whether it has a speed and a yaw rate."""
        return not math.isnan(self.speed_mps)


@dataclass(frozen=True, slots=True)
class Pose3:
    """A rigid transform: `target from source` as its user names it."""

    translation_m: NDArray[np.float64]  # (3,)
    rotation: NDArray[np.float64]  # (3, 3)

    def __post_init__(self) -> None:
        for name, shape in (("translation_m", (3,)), ("rotation", (3, 3))):
            object.__setattr__(self, name, readonly(getattr(self, name), np.float64, shape, name))


@dataclass(frozen=True, slots=True)
class PlannerSample:
    """Everything a planner sees of one instant t0."""

    t0_ns: int
    images: NDArray[np.uint8]  # (C, 4, H, W, 3) RGB, oldest first, cameras by rising index
    image_stamps_ns: NDArray[np.int64]  # (C, 4)
    camera_indices: NDArray[np.int64]  # (C,) rising; see CAMERA_NAMES
    history_xyz_in_rig_t0: NDArray[np.float64]  # (16, 3) m, oldest first, ends at t0 with zeros
    history_rot_in_rig_t0: NDArray[np.float64]  # (16, 3, 3), ends with the identity
    speed_mps: float  # at t0, signed
    acceleration_mps2: float  # at t0, from the last half second of speeds
    yaw_rate_rps: float  # at t0
    odometry_from_rig_t0: Pose3
    odometry_frame_id: str = "odom"
    navigation: str | None = None
    extrapolated_ms: float = 0.0  # how far odometry was carried forward to reach t0

    def __post_init__(self) -> None:
        cameras = len(self.camera_indices)
        for name, dtype, shape in (
            ("images", np.uint8, (cameras, N_FRAMES, None, None, 3)),
            ("image_stamps_ns", np.int64, (cameras, N_FRAMES)),
            ("camera_indices", np.int64, (cameras,)),
            ("history_xyz_in_rig_t0", np.float64, (N_HISTORY, 3)),
            ("history_rot_in_rig_t0", np.float64, (N_HISTORY, 3, 3)),
        ):
            object.__setattr__(self, name, readonly(getattr(self, name), dtype, shape, name))


class ReasoningSource(str, enum.Enum):
    """Who wrote the reasoning: the model, we from the trajectory it planned, or its teacher."""

    MODEL = "model"
    TRAJECTORY = "trajectory"
    TEACHER = "teacher"  # looked up in its labels of a recording

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Decisions:
    """The driving decisions of a plan, by their names in `decisions.py`."""

    longitudinal: str
    lateral: str


@dataclass(frozen=True, slots=True)
class CriticalComponent:
    """Something that a reasoning names as a cause: its category and the words used for it."""

    category: str  # a key of the critical components in `config/chain_of_causation.yaml`
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to a question about one instant."""

    t0_ns: int
    text: str
    model: str  # the manifest's name
    stage_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stated:
    """What a model said with one of its candidates."""

    reasoning: str
    decisions: Decisions
    critical_components: tuple[CriticalComponent, ...] = ()


@dataclass(frozen=True, slots=True)
class LateReasoning:
    """The reasoning to a plan that did not wait for it."""

    t0_ns: int  # the plan's
    stated: Stated
    model: str  # the manifest's name
    stage_ms: Mapping[str, float]


def _no_timings() -> Mapping[str, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """A trajectory of 64 waypoints from t0 + 0.1 s to t0 + 6.4 s, and how it came about."""

    t0_ns: int
    xyz_in_rig_t0: NDArray[np.float64]  # (64, 3) m
    rot_in_rig_t0: NDArray[np.float64]  # (64, 3, 3)
    action: NDArray[np.float64]  # (64, 2) acceleration m/s^2, curvature 1/m; step k leads to pose k
    speed_t0_mps: float  # the speed that the plan starts from
    candidates_xyz_in_rig_t0: NDArray[np.float64]  # (n, 64, 3), the chosen one among them
    candidates_rot_in_rig_t0: NDArray[np.float64]  # (n, 64, 3, 3)
    reasoning: str
    reasoning_source: ReasoningSource
    decisions: Decisions
    model: str  # the manifest's name
    source: str = "planner"  # or "fallback"
    critical_components: tuple[CriticalComponent, ...] = ()
    stage_ms: Mapping[str, float] = field(default_factory=_no_timings)
    # With these a candidate can take the plan's place; None from planners that have but one.
    candidates_action: NDArray[np.float64] | None = None  # (n, 64, 2) as `action`
    candidates_speed_t0_mps: NDArray[np.float64] | None = None  # (n,)
    candidates_stated: tuple[Stated, ...] = ()  # what each came with; empty: all as the plan
    is_scored: bool = False  # the choice among them is left to the safety stage
    reasoning_follows: bool = False  # the model's own comes as LateReasoning
    notes: tuple[str, ...] = ()  # how it was made: what is approximate, and how far off that is

    def __post_init__(self) -> None:
        for name, shape in (
            ("xyz_in_rig_t0", (N_WAYPOINTS, 3)),
            ("rot_in_rig_t0", (N_WAYPOINTS, 3, 3)),
            ("action", (N_WAYPOINTS, 2)),
            ("candidates_xyz_in_rig_t0", (None, N_WAYPOINTS, 3)),
            ("candidates_rot_in_rig_t0", (None, N_WAYPOINTS, 3, 3)),
        ):
            array = readonly(getattr(self, name), np.float64, shape, name)
            if not np.isfinite(array).all():
                bad = int(np.count_nonzero(~np.isfinite(array)))
                raise ValueError(f"{name} has {bad} values that are not finite")
            object.__setattr__(self, name, array)
        self._check_candidates()
        object.__setattr__(self, "stage_ms", MappingProxyType(dict(self.stage_ms)))

    def _check_candidates(self) -> None:
        count = len(self.candidates_xyz_in_rig_t0)
        for name, shape in (
            ("candidates_action", (count, N_WAYPOINTS, 2)),
            ("candidates_speed_t0_mps", (count,)),
        ):
            if getattr(self, name) is not None:
                array = readonly(getattr(self, name), np.float64, shape, name)
                object.__setattr__(self, name, array)
        if (self.candidates_action is None) != (self.candidates_speed_t0_mps is None):
            raise ValueError("candidates_action and candidates_speed_t0_mps come together")
        if len(self.candidates_stated) not in (0, count):
            raise ValueError(f"{len(self.candidates_stated)} statements for {count} candidates")

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(64,) seconds after t0: 0.1 … 6.4."""
        return np.arange(1, N_WAYPOINTS + 1, dtype=np.float64) * WAYPOINT_STEP_S

    @property
    def speeds_mps(self) -> NDArray[np.float64]:
        """(65,) speed at t0 and at every waypoint, from the actions."""
        return speeds_along(self.action, self.speed_t0_mps)


def speeds_along(action: NDArray[np.float64], speed_t0_mps: float) -> NDArray[np.float64]:
    """(65,) m/s at t0 and at every waypoint of actions (64, 2)."""
    steps = np.cumsum(action[:, 0]) * WAYPOINT_STEP_S
    return speed_t0_mps + np.concatenate(([0.0], steps))


# Pixels of a frame, made when first asked for. Raises ImageError.
ImageLoader = Callable[[], NDArray[np.uint8]]
# (H, W, 3) uint8 RGB to (height, width, 3): resize(rgb, width, height).
Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
