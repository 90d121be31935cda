"""What a teacher said of a recorded instant: the answer to a student without language."""

from __future__ import annotations

from typing import Any

import numpy as np

from alpamayo_ros.distill.shard import LabelError, read_shard
from alpamayo_ros.distill.store import Labels
from alpamayo_ros.types import NS_PER_S

NEAREST_NS = NS_PER_S // 2  # further away, the instant is another one
_SECONDS_DIGITS = 10  # until the year 2286; a whole number with more counts nanoseconds
_TEXTS = ("reasoning", "longitudinal", "lateral", "navigation")


def explain(labels: Labels, t0: str, shard: str = "") -> dict[str, Any]:
    """The label nearest to a stamp of seconds or nanoseconds. Raises LabelError."""
    wanted = stamp_ns(t0)
    best: tuple[int, Any, int] | None = None
    for path in labels.shards:
        if shard and path.stem != shard:
            continue
        stamps = read_shard(path, ("t0_ns",)).arrays["t0_ns"]
        index = int(np.argmin(np.abs(stamps - wanted)))
        away = abs(int(stamps[index]) - wanted)
        if best is None or away < best[0]:
            best = away, path, index
    if best is None or best[0] > NEAREST_NS:
        where = f"shard {shard} of {labels.folder}" if shard else str(labels.folder)
        nearest = "" if best is None else f"; the nearest is {best[0] / NS_PER_S:.1f} s away"
        raise LabelError(f"{where} has no instant at {t0}{nearest}")
    _, path, index = best
    arrays = read_shard(path, ("t0_ns", "confidence", *_TEXTS)).arrays
    return {
        "shard": path.stem,
        "teacher": labels.manifest["teacher"],
        "t0_ns": int(arrays["t0_ns"][index]),
        "confidence": float(arrays["confidence"][index]),
        **{name: str(arrays[name][index]) for name in _TEXTS},
    }


def stamp_ns(text: str) -> int:
    """Seconds with a point, or whole nanoseconds, exactly."""
    whole, point, fraction = text.partition(".")
    if not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        raise LabelError(f"--t0 {text!r} is no time, such as 1700000012.3")
    seconds = bool(point) or len(whole) <= _SECONDS_DIGITS
    stamp = int(whole) * NS_PER_S + int((fraction + "000000000")[:9]) if seconds else int(whole)
    if stamp >= 2**63:
        raise LabelError(f"--t0 {text} is beyond every clock")
    return stamp
