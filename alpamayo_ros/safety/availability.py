"""Whether there is something to drive by: what ~/availability says, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SILENT_S = 0.5  # without a trajectory: a controller's patience is about to end


class State(enum.IntEnum):
    """As msg/PlannerAvailability.msg has them."""

    AVAILABLE = 0
    DEGRADED = 1
    STOPPING = 2
    UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class Availability:
    """One answer."""

    state: State
    reason: str = ""
    missing_cameras: tuple[str, ...] = ()


def availability(
    silent_s: float, stopping_for: str, missing_cameras: tuple[str, ...]
) -> Availability:
    """Of an active planner that sent its last trajectory `silent_s` of steady time ago."""
    if silent_s > SILENT_S:
        why = f"; {stopping_for}" if stopping_for else ""
        never = silent_s == float("inf")
        what = "no trajectory yet" if never else f"no trajectory for {silent_s:.1f} s"
        return Availability(State.UNAVAILABLE, what + why)
    if stopping_for:
        return Availability(State.STOPPING, stopping_for)
    if missing_cameras:
        names = ", ".join(missing_cameras)
        return Availability(State.DEGRADED, f"planning without {names}", missing_cameras)
    return Availability(State.AVAILABLE)


def unavailable(lifecycle_state: str, error: str) -> Availability:
    """Of a planner that is not active."""
    return Availability(
        State.UNAVAILABLE, f"the planner is {lifecycle_state}" + (error and f": {error}")
    )
