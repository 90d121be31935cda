"""Frames that wait to be looked at before a tick wants them: what its plan then need not do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.sampling import FRAME_SPAN_NS, Selection
from alpamayo_ros.types import CAMERA_NAMES, N_FRAMES, CameraFrame

CAPACITY = N_FRAMES * len(CAMERA_NAMES)  # a window of every camera


class Foresight:
    """Of one worker. `put` and `clear` from any thread, the rest from the worker's.

    A call takes as many frames as the backend encodes at once, or none: a call that is not full
    costs the same and saves the plan nothing. The newest go first: they are in the windows of the
    next four ticks, the oldest perhaps in none.
    """

    def __init__(self, backend: PlannerBackend, on_fault: Callable[[str], None]) -> None:
        self._backend, self._on_fault = backend, on_fault
        self._waiting: deque[CameraFrame] = deque(maxlen=CAPACITY)
        self._lock = threading.Lock()
        self._spent_ms = 0.0
        self.faults = 0  # calls that failed; the first one is told

    def put(self, frame: CameraFrame) -> bool:
        """Queue a frame; whether there is something to do now.

        Waiting frames further than a window from it, in either direction, are forgotten: they are
        of another time, or too old for any window to come.
        """
        if not self._backend.foresight:
            return False
        with self._lock:
            self._keep(lambda old: abs(old.stamp_ns - frame.stamp_ns) <= FRAME_SPAN_NS)
            self._waiting.append(frame)
        return self.pending

    @property
    def pending(self) -> bool:
        """Whether there is a step to take."""
        return len(self._waiting) >= max(self._backend.foresight, 1)

    def step(self) -> None:
        """One call of the backend. What goes wrong costs the plan nothing but the time saved."""
        with self._lock:
            count = min(self._backend.foresight, len(self._waiting))
            frames = [self._waiting.pop() for _ in range(count)]
        if not frames:
            return  # forgotten meanwhile
        started = time.perf_counter()
        try:
            self._backend.foresee(frames)
        except Exception as error:  # a model may raise anything
            self.faults += 1
            if self.faults == 1:
                self._on_fault(
                    "frames are not encoded ahead of their tick, but in it: "
                    f"{type(error).__name__}: {error} (told once)"
                )
        self._spent_ms += (time.perf_counter() - started) * 1e3

    def planned(self, selection: Selection) -> float:
        """A plan was made: frames that it had or passed over are forgotten.

        Milliseconds spent on frames since the last plan.
        """
        newest = {row[-1].camera: row[-1].stamp_ns for row in selection.slots}
        with self._lock:
            self._keep(lambda old: old.stamp_ns > newest.get(old.camera, selection.t0_ns))
        spent_ms, self._spent_ms = self._spent_ms, 0.0
        return spent_ms

    def clear(self) -> None:
        """Forget what waits."""
        with self._lock:
            self._waiting.clear()

    def _keep(self, is_wanted: Callable[[CameraFrame], bool]) -> None:
        kept = [frame for frame in self._waiting if is_wanted(frame)]
        if len(kept) < len(self._waiting):
            self._waiting.clear()
            self._waiting.extend(kept)
