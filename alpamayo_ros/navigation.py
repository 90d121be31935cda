"""The navigation text in force: checked when it comes, forgotten when it grows old."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from alpamayo_ros.model_text import TextRefused, clean
from alpamayo_ros.types import NS_PER_S


@dataclass(frozen=True, slots=True)
class NavigationState:
    """What there is to say of navigation at one time."""

    text: str  # in force; empty where none is
    age_s: float  # of the newest message; NaN where none came
    refusal: str  # why the newest message was refused; empty where it was not, or is forgotten
    last_refusal: str  # of any time; empty where there was none
    is_stale: bool = False  # there was a text, and it grew too old


class NavigationText:
    """The newest text and when it came. Thread-safe."""

    def __init__(self, timeout_s: float, max_length: int) -> None:
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._max_length = max_length
        self._lock = threading.Lock()
        self._text = self._refusal = self._last_refusal = ""
        self._heard_ns: int | None = None

    def hear(self, text: str, now_ns: int) -> str:
        """A text came at ROS time `now_ns`; why it is refused, or "" where it is in force.

        A refused text ends the one before: what it said would no longer be what is meant.
        """
        with self._lock:
            self._heard_ns, self._refusal = now_ns, ""
            try:
                self._text = clean(text, "navigation text", self._max_length)
            except TextRefused as error:
                self._text, self._refusal = "", str(error)
                self._last_refusal = self._refusal
            return self._refusal

    def state(self, now_ns: int) -> NavigationState:
        """What is in force at ROS time `now_ns`."""
        with self._lock:
            if self._heard_ns is None:
                return NavigationState("", float("nan"), "", "")
            if self._heard_ns == 0:  # before the first /clock: it counts from there
                self._heard_ns = now_ns
            age_ns = now_ns - self._heard_ns
            # A negative age: the clock was set back, and the text belongs to the time before.
            fresh = 0 <= age_ns <= self._timeout_ns
            return NavigationState(
                self._text if fresh else "",
                age_ns / NS_PER_S,
                self._refusal if fresh else "",
                self._last_refusal,
                is_stale=bool(self._text) and not fresh,
            )
