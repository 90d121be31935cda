"""Every fault that the planner is made for, and what it does about each.

README.md shows this table (`alpamayo faults --markdown`); rosbag_tests/test_faults*.py hold the
planner to it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from alpamayo_ros.diagnosis import Level


class Fault(str, enum.Enum):
    """What may go wrong around the planner."""

    CAMERA_LOST = "camera lost"
    CAMERA_FROZEN = "camera frozen: the same pixels"
    CAMERA_SAME_STAMP = "camera frozen: the same stamp"
    CAMERA_LATE = "camera late"
    CAMERA_EARLY = "camera early: stamps ahead of the clock"
    CAMERA_OUT_OF_ORDER = "camera out of order"
    CAMERA_DUPLICATED = "camera duplicated"
    CAMERA_WRONG_SIZE = "camera of another size"
    CAMERA_WRONG_ENCODING = "camera of an unknown encoding"
    CAMERA_CORRUPT = "camera's JPEGs corrupt"
    CAMERA_BLACK = "camera black"
    CAMERA_OVEREXPOSED = "camera overexposed"
    CAMERA_SKEW = "cameras apart in time"
    CAMERA_CALIBRATION = "CameraInfo is not of the model's rig"
    ODOMETRY_LOST = "odometry lost"
    ODOMETRY_JUMP = "odometry jumps"
    ODOMETRY_NAN = "odometry not finite"
    ODOMETRY_QUATERNION = "odometry's quaternion not of unit length"
    ODOMETRY_RATE = "odometry too seldom"
    ODOMETRY_FRAME_ID = "odometry's frame_id changes"
    ODOMETRY_STUCK = "odometry's pose stands still, its speed does not"
    STANDSTILL = "vehicle stands still"
    CLOCK_BACK = "clock jumps back"
    CLOCK_AHEAD = "clock jumps ahead"
    STAMPS_AHEAD = "stamps from the future"
    MODEL_SLOW = "model slow"
    MODEL_HUNG = "model hung"
    MODEL_RAISES = "model raises"
    MODEL_OUT_OF_MEMORY = "model out of memory"
    MODEL_NAN = "model's plan not finite"
    MODEL_SHAPE = "model's plan of another shape"
    PLAN_UNSAFE = "plan breaks a limit, n times"
    NAVIGATION_STALE = "navigation text stale"
    NODE_DEAD = "planner dead (kill -9)"
    DISK_FULL = "disk full while recording"
    PARAMETERS_CHANGED = "parameters changed while it runs"

    def __str__(self) -> str:
        return self.value


class Published(str, enum.Enum):
    """What ~/trajectory has meanwhile."""

    PLANS = "plans"
    STOP = "the stop"
    NOTHING = "nothing; the controller stops by itself"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What is done about one fault."""

    within_ms: int | None  # of the last good stamp until it is told; None: by time of its own
    published: Published
    level: Level  # in /diagnostics
    entry: str  # of /diagnostics that has it
    says: str  # in that entry's text
    recovery: str
    when: str = ""  # in place of within_ms


# A tick (100 ms) may have been planned just before; its successor is refused at its deadline
# (150 ms); a frame may be off its grid (50 ms), the deadlines are looked at every 20 ms. The bar:
# 200 ms after the last good stamp, one period and the tolerance.
NOTICED_MS = 350
_AT_ONCE_MS = 150  # one tick, and a message's way
_PLANS_AGAIN = "3 good plans after it is gone"
_FRAMES_AGAIN = "0.3 s of frames, then 3 good plans"
_HISTORY_AGAIN = "1.5 s of odometry, then 3 good plans"
_NOTHING_TO_DO = "nothing to recover from"


def _camera(says: str, recovery: str = _FRAMES_AGAIN) -> Behaviour:
    return Behaviour(NOTICED_MS, Published.STOP, Level.ERROR, "planning", says, recovery)


def _odometry(says: str, within_ms: int = NOTICED_MS, recovery: str = _PLANS_AGAIN) -> Behaviour:
    return Behaviour(within_ms, Published.STOP, Level.ERROR, "planning", says, recovery)


def _model(says: str) -> Behaviour:
    return Behaviour(_AT_ONCE_MS, Published.STOP, Level.ERROR, "planning", says, _PLANS_AGAIN)


def _harmless(level: Level, entry: str, says: str, when: str, recovery: str) -> Behaviour:
    return Behaviour(None, Published.PLANS, level, entry, says, recovery, when)


BEHAVIOUR: dict[Fault, Behaviour] = {
    Fault.CAMERA_LOST: _camera("camera_missing"),
    Fault.CAMERA_FROZEN: _camera("camera_frozen"),
    Fault.CAMERA_SAME_STAMP: _camera("out_of_order"),
    Fault.CAMERA_LATE: _camera("camera_missing"),
    Fault.CAMERA_EARLY: _camera("future_stamp"),
    Fault.CAMERA_OUT_OF_ORDER: _harmless(
        Level.OK, "planning", "planning", "sorted by stamp", _NOTHING_TO_DO
    ),
    Fault.CAMERA_DUPLICATED: _harmless(
        Level.WARN, "the camera", "out_of_order", "on arrival: dropped", _NOTHING_TO_DO
    ),
    Fault.CAMERA_WRONG_SIZE: _harmless(
        Level.OK, "planning", "planning", "brought to the model's size", _NOTHING_TO_DO
    ),
    Fault.CAMERA_WRONG_ENCODING: _camera("image_unreadable"),
    Fault.CAMERA_CORRUPT: _camera("image_unreadable"),
    Fault.CAMERA_BLACK: _camera("image_blank"),
    Fault.CAMERA_OVEREXPOSED: _camera("image_blank"),
    Fault.CAMERA_SKEW: _camera("camera_skew"),
    Fault.CAMERA_CALIBRATION: Behaviour(
        None, Published.NOTHING, Level.ERROR, "lifecycle", "camera_info",
        "configure again when it is right", "at configure; flagged where it comes later",
    ),
    Fault.ODOMETRY_LOST: _odometry("odometry_missing"),
    Fault.ODOMETRY_JUMP: _odometry("odometry_jump", _AT_ONCE_MS, _HISTORY_AGAIN),
    Fault.ODOMETRY_NAN: _odometry("odometry_invalid"),
    Fault.ODOMETRY_QUATERNION: _odometry("odometry_invalid"),
    Fault.ODOMETRY_RATE: _odometry("odometry_gap", NOTICED_MS, _HISTORY_AGAIN),
    Fault.ODOMETRY_FRAME_ID: _odometry("odometry_jump", _AT_ONCE_MS, _HISTORY_AGAIN),
    Fault.ODOMETRY_STUCK: _odometry("odometry_inconsistent"),
    Fault.STANDSTILL: _harmless(
        Level.OK, "planning", "planning", "no fault", "pulls away when plans do"
    ),
    Fault.CLOCK_BACK: _odometry("clock_jump", _AT_ONCE_MS, _HISTORY_AGAIN),
    Fault.CLOCK_AHEAD: _odometry("clock_jump", _AT_ONCE_MS, _HISTORY_AGAIN),
    Fault.STAMPS_AHEAD: _odometry("future_stamp", NOTICED_MS, _HISTORY_AGAIN),
    Fault.MODEL_SLOW: Behaviour(
        None, Published.STOP, Level.ERROR, "safety", "stopping the vehicle", _PLANS_AGAIN,
        "`plan_age_limit_ms`",
    ),
    Fault.MODEL_HUNG: Behaviour(
        None, Published.STOP, Level.ERROR, "safety", "no plan for", _PLANS_AGAIN,
        "`plan_age_limit_ms`",
    ),
    Fault.MODEL_RAISES: _model("planner_failed"),
    Fault.MODEL_OUT_OF_MEMORY: _model("free memory"),
    Fault.MODEL_NAN: _model("planner_failed"),
    Fault.MODEL_SHAPE: _model("planner_failed"),
    Fault.PLAN_UNSAFE: _model("plan_unsafe"),
    Fault.NAVIGATION_STALE: _harmless(
        Level.WARN, "navigation", "old and forgotten", "`navigation_timeout_s`", "the next text"
    ),
    Fault.NODE_DEAD: Behaviour(
        None, Published.NOTHING, Level.ERROR, "none is published", "", "respawned, it plans again",
        "the controller's `stale_s`",
    ),
    Fault.DISK_FULL: _harmless(
        Level.OK, "planning", "planning", "recorder_node ends with the reason, exit code 1",
        "what was recorded stays readable",
    ),
    Fault.PARAMETERS_CHANGED: _harmless(
        Level.WARN, "lifecycle", "changed since configure", "at once", "configure again"
    ),
}  # fmt: skip


def markdown_table() -> str:
    """As README.md has it."""
    rows = [
        "| fault | noticed within | meanwhile | `/diagnostics` | recovers by |",
        "|---|---|---|---|---|",
    ]
    for fault, done in BEHAVIOUR.items():
        noticed = done.when if done.within_ms is None else f"{done.within_ms} ms"
        told = f"{done.level.name} {done.entry}" + (f": `{done.says}`" if done.says else "")
        rows.append(f"| {fault} | {noticed} | {done.published.value} | {told} | {done.recovery} |")
    return "\n".join(rows)
