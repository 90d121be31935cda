"""A backend's stand-in in the node's process: the same interface, the work done in another."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from alpamayo_ros.backends.base import ModelHealth, PlannerBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.isolation import requests
from alpamayo_ros.isolation.codec import pack
from alpamayo_ros.isolation.faults import ModelProcessError
from alpamayo_ros.isolation.frames import PLAN_SLOT, QUESTION_SLOT, SharedFrames
from alpamayo_ros.isolation.keeper import Keeper
from alpamayo_ros.isolation.process import ModelProcess
from alpamayo_ros.types import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Answer,
    CameraFrame,
    LateReasoning,
    Plan,
    PlannerSample,
)

PLAN_PARAMETER = "plan_timeout_s"
MODES = ("auto", "process", "thread")


def isolated(
    backend: PlannerBackend,
    mode: str,
    plan_timeout_s: float,
    load_timeout_s: float,
    report: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> PlannerBackend:
    """`backend`, which is not yet loaded, or its stand-in: by `mode`, `auto` as it asks itself.

    `report` hears of lost and restarted processes, on a thread of its own.
    """
    if mode == "thread" or (mode == "auto" and not backend.wants_process):
        return backend
    return IsolatedBackend(backend, plan_timeout_s, load_timeout_s, report)


class IsolatedBackend(PlannerBackend):
    """Calls that fail name why: what the backend raised, or ModelProcessError."""

    def __init__(
        self,
        inner: PlannerBackend,
        plan_timeout_s: float,
        load_timeout_s: float,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(inner.manifest)
        self.resize = inner.resize
        self._plan_timeout_s, self._load_timeout_s = plan_timeout_s, load_timeout_s
        self._report = report
        self._load_request = _load_request(inner)
        self._frames: SharedFrames | None = None
        self._keeper: Keeper | None = None

    def load(self) -> None:
        """Start the process and load the backend there."""
        self._frames = SharedFrames.create(self.manifest.cameras.maximum)
        self._keeper = Keeper(self._frames, self._load_request, self._load_timeout_s, self._report)
        failed = self._try_resize()  # meanwhile
        try:
            self._keeper.wait_loaded()
            self.foresight = self._keeper.foresight
            if failed is not None:
                raise ModelError(f"model {self.manifest.name}: resizing fails: {failed}")
        except Exception:
            self.close()
            raise

    def _try_resize(self) -> Exception | None:
        """Frames are resized here, in decoding threads: pay for the filter's imports now."""
        if self.resize is None:
            return None
        try:
            self.resize(np.zeros((32, 32, 3), np.uint8), IMAGE_WIDTH, IMAGE_HEIGHT)
            return None
        except Exception as error:
            return error

    def warm_up(self, cameras: Sequence[str]) -> None:
        """There, now and after every restart."""
        try:
            self._running.warm_up(cameras)
        except Exception:
            self.close()
            raise

    def forget(self) -> None:
        """There; a process that was lost has forgotten by itself."""
        with contextlib.suppress(ModelProcessError):
            self._call(self._running.current(), {"op": requests.FORGET})

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        """There. A loss of the process is told by who keeps it, and by the plan that misses it."""
        told, arrays = requests.pack_frames(frames)
        with contextlib.suppress(ModelProcessError):
            self._call(self._running.current(), {"op": requests.FORESEE, "frames": told}, arrays)

    def plan(self, sample: PlannerSample) -> Plan:
        """One plan of the other process. Raises ModelProcessError where it is lost or hung."""
        process = self._running.current()
        told, arrays = requests.pack_sample(sample, self._memory, PLAN_SLOT)
        reply = self._call(process, {"op": requests.PLAN, "sample": told}, arrays)
        return requests.plan_of(reply)

    def ask(self, sample: PlannerSample, question: str) -> Generator[None, None, Answer]:
        """Step by step as there; a process that is lost in between ends it."""
        process = self._running.current()
        told, arrays = requests.pack_sample(sample, self._memory, QUESTION_SLOT)
        self._call(process, {"op": requests.ASK, "question": question, "sample": told}, arrays)
        return requests.answer_of((yield from self._steps(process, requests.ASK)))

    def reason(self) -> Generator[None, None, LateReasoning]:
        """As `ask`, with nothing to ask."""
        process = self._running.current()
        self._call(process, {"op": requests.REASON})
        return requests.reasoning_of((yield from self._steps(process, requests.REASON)))

    def _steps(self, process: ModelProcess, what: str) -> Generator[None, None, Any]:
        """Step there until the reply that holds `what`."""
        try:
            while True:
                reply = self._call(process, {"op": requests.STEP, "of": what})
                if what in reply.header:
                    return reply
                yield
        except GeneratorExit:
            self._drop(process, what)
            raise

    def _drop(self, process: ModelProcess, what: str) -> None:
        try:
            self._call(process, {"op": requests.DROP, "of": what})
        except ModelError:
            pass  # with the process the work is gone too

    def _call(
        self, process: ModelProcess, header: dict[str, Any], arrays: Sequence[Any] = ()
    ) -> Any:
        return process.call(header, arrays, self._plan_timeout_s, PLAN_PARAMETER)

    def health(self) -> ModelHealth:
        """Of the process."""
        if self._keeper is None:
            return ModelHealth(isolation="process", is_ready=False)
        return self._keeper.health()

    def abort(self) -> bool:
        """Kill the process."""
        if self._keeper is not None:
            self._keeper.abort()
        return True

    def close(self) -> None:
        """End the process."""
        keeper, self._keeper = self._keeper, None
        frames, self._frames = self._frames, None
        if keeper is not None:
            keeper.close()
        if frames is not None:
            frames.close()

    @property
    def _running(self) -> Keeper:
        if self._keeper is None:
            raise ModelError(f"model {self.manifest.name} is not loaded")
        return self._keeper

    @property
    def _memory(self) -> SharedFrames:
        assert self._frames is not None
        return self._frames


def _load_request(inner: PlannerBackend) -> dict[str, Any]:
    """The class and the manifest of a backend, for another process. Raises ModelError."""
    manifest = inner.manifest
    fields = {
        name: pack(getattr(manifest, name), [])
        for name in manifest.__dataclass_fields__
        if name != "options"
    }
    kind = type(inner)
    options = {}
    for name, value in manifest.options.items():
        try:
            options[name] = pack(value, [])
        except TypeError as error:
            raise ModelError(f"{manifest.path}: option {name}: {error}") from error
    return {
        "op": requests.LOAD,
        "entry": f"{kind.__module__}:{kind.__qualname__}",
        "manifest": fields,
        "options": options,
    }
