"""What is wrong with a message's stamp, and which input keeps a tick from being planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpamayo_ros.types import NS_PER_MS, NS_PER_S, Rejection, RejectionReason

# A source that sends nothing for so long is missing, whatever was wrong with its last messages.
RECENT_NS = 1 * NS_PER_S
# One refused message may be a stray one, the last before a camera died; ticks name what repeats.
REPEATED = 2
# Stamps this far from the clock come from another clock, not from a late sensor.
CLOCK_MISMATCH_NS = 10 * NS_PER_S


@dataclass(slots=True)
class _Refusals:
    """The messages refused since the last that was taken."""

    why: Rejection  # of the newest
    at_ns: int  # ROS time; 0 where the clock had not started
    count: int


class Arrivals:
    """Of each source's newest message: how far behind the clock it came, or why it was refused."""

    def __init__(self) -> None:
        self._behind_ns: dict[str, int] = {}
        self._refusals: dict[str, _Refusals] = {}

    def taken(self, source: str, stamp_ns: int, now_ns: int) -> None:
        """A message was taken in at ROS time `now_ns`; 0 where the clock has not started."""
        self._refusals.pop(source, None)
        self._behind_ns[source] = now_ns - stamp_ns if now_ns else 0

    def refused(self, source: str, why: Rejection, now_ns: int) -> None:
        """A message was refused at ROS time `now_ns`, for its stamp or for what it holds."""
        before = self._refusals.get(source)
        self._refusals[source] = _Refusals(why, now_ns, before.count + 1 if before else 1)

    def fault(self, source: str, now_ns: int, known: bool) -> Rejection | None:
        """What is wrong with a source's messages, where that is what is wrong with it.

        `known` says whether any was ever taken. A clock is judged from the arrival, not from the
        age: a camera that died ages too, and is no clock.
        """
        refusals = self._refusals.get(source)
        if refusals is not None and (
            not known or (refusals.count >= REPEATED and abs(now_ns - refusals.at_ns) <= RECENT_NS)
        ):
            return refusals.why
        behind_ns = self._behind_ns.get(source, 0)
        if behind_ns <= CLOCK_MISMATCH_NS:
            return None
        return Rejection(
            RejectionReason.CLOCK_MISMATCH,
            source,
            behind_ns / NS_PER_S,
            CLOCK_MISMATCH_NS / NS_PER_S,
            "s",
            detail="stamps lie behind the node's clock; for a recording set use_sim_time "
            "and play it with --clock",
        )


def check_against_clock(
    source: str, stamp_ns: int, newest_ns: int | None, now_ns: int, future_tolerance_ns: int
) -> Rejection | None:
    """A stamp ahead of ROS time, or a stray one far behind it; None where it can be taken.

    Stray is a stamp far behind the clock from a source that otherwise keeps to it: a header left
    unset must not pass for time set back. A source that is always behind is named by its ticks.
    """
    ahead_ns = stamp_ns - now_ns
    future = ahead_ns > future_tolerance_ns
    stray = newest_ns is not None and abs(newest_ns - now_ns) < CLOCK_MISMATCH_NS < -ahead_ns
    if not now_ns or not (future or stray):
        return None
    mismatch = abs(ahead_ns) > CLOCK_MISMATCH_NS
    return Rejection(
        RejectionReason.CLOCK_MISMATCH if mismatch else RejectionReason.FUTURE_STAMP,
        source,
        abs(ahead_ns) / NS_PER_MS,
        (future_tolerance_ns if future else CLOCK_MISMATCH_NS) / NS_PER_MS,
        "ms",
        detail=f"stamp {'ahead of' if future else 'behind'} the node's clock; "
        "do both use the same clock?",
    )


def out_of_order(source: str, stamp_ns: int, newest_ns: int | None) -> Rejection:
    """A message that its buffer did not take."""
    return Rejection(
        RejectionReason.OUT_OF_ORDER,
        source,
        ((newest_ns or stamp_ns) - stamp_ns) / NS_PER_MS,
        unit="ms",
        detail="a stamp seen before, or one older than the buffer",
    )


def name_laggard(
    newest_ns: Mapping[str, int | None],
    arrivals: Arrivals,
    needed_ns: Mapping[str, int],
    now_ns: int,
    limit_ns: int,
) -> Rejection | None:
    """The source furthest behind the stamp that is needed of it; None where none is behind.

    `limit_ns` is the age at which a newest stamp can no longer serve the tick.
    """
    absent = [name for name, stamp in newest_ns.items() if stamp is None]
    if absent:
        detail = _listing("no message yet from", absent)
        return arrivals.fault(absent[0], now_ns, known=False) or _missing(absent[0], detail=detail)
    known = {name: stamp for name, stamp in newest_ns.items() if stamp is not None}
    late = sorted(name for name, stamp in known.items() if stamp < needed_ns[name])
    if not late:
        return None
    worst = min(late, key=lambda name: known[name])
    age_ms = (now_ns - known[worst]) / NS_PER_MS
    return arrivals.fault(worst, now_ns, known=True) or _missing(
        worst, age_ms, limit_ns / NS_PER_MS, _listing("late:", late)
    )


def _missing(
    source: str, age_ms: float = float("nan"), limit_ms: float = float("nan"), detail: str = ""
) -> Rejection:
    odometry = source == "odometry"
    return Rejection(
        RejectionReason.ODOMETRY_MISSING if odometry else RejectionReason.CAMERA_MISSING,
        source,
        age_ms,
        limit_ms,
        "ms",
        detail=detail,
    )


def _listing(text: str, names: Sequence[str]) -> str:
    return f"{text} {', '.join(names)}"
