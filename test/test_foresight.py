"""Frames looked at before their tick: when, which, and what becomes of what goes wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import isolated_backends
import numpy as np
import pytest
from asking import Asked, Asking, Work, answer, until
from simulate import START_NS, kinematic_manifest, ms, one_sample, pipeline
from test_feed import READER, header, odometry
from test_worker import SELECTIONS, WAIT_S, Outcomes, Scripted, Thoughtful, good

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.feed import Feed, Reader
from alpamayo_ros.foresight import CAPACITY, Foresight
from alpamayo_ros.isolation.backend import isolated
from alpamayo_ros.odometry import RigOffset
from alpamayo_ros.parameters import CameraInput
from alpamayo_ros.sources import Source
from alpamayo_ros.types import CAMERA_NAMES, DEFAULT_CAMERAS, CameraFrame, PlannerSample
from alpamayo_ros.worker import InferenceWorker

PIXELS = np.zeros((2, 2, 3), np.uint8)
NOW_NS = SELECTIONS[-1].t0_ns


def frame(after_ms: float, camera: str = "front_wide") -> CameraFrame:
    """A frame so long after the last selection's t0."""
    return CameraFrame(camera, NOW_NS + ms(after_ms), PIXELS)


class Foreseeing(Asked, Thoughtful):
    """Notes what it does in order: frames to come, plans, steps of an answer and of a reasoning.

    The first frame that it is shown holds it up until `go`.
    """

    def __init__(self, foresight: int = 1, fails: bool = False) -> None:
        super().__init__(at_length, good)
        self.foresight, self._fails = foresight, fails
        self.entered, self.go = threading.Event(), threading.Event()
        self.seen: list[CameraFrame] = []

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        self.done.append("foresee")
        self.seen += frames
        self.entered.set()
        assert self.go.wait(WAIT_S)
        if self._fails:
            raise RuntimeError("no memory for features")

    def reason(self) -> Any:
        for _ in range(3):
            self.done.append("reason")
            yield
        return (yield from super().reason())


def at_length(sample: PlannerSample, question: str) -> Work:
    """In two steps."""
    for _ in range(2):
        yield
    return answer(sample, question)


@pytest.fixture
def told() -> list[str]:
    """What went to `on_fault`."""
    return []


@pytest.fixture
def started(told: list[str]) -> Iterator[Any]:
    """Starts a worker that is closed after the test; with what it hands over."""
    workers = []

    def start(backend: PlannerBackend) -> tuple[InferenceWorker, Outcomes]:
        outcomes = Outcomes()
        workers.append(InferenceWorker(backend, outcomes, told.append))
        return workers[-1], outcomes

    yield start
    assert all(worker.close(WAIT_S) for worker in workers)


def test_precedence(started: Any) -> None:
    """After the frame under way: the selection, then the frame that waits, a question, and the
    reasoning that its plan did not wait for."""
    backend = Foreseeing()
    worker, outcomes = started(backend)
    backend.go.set()
    worker.submit(SELECTIONS[-1])
    until(lambda: backend.done.count("reason") == 3)
    backend.done.clear()
    backend.go.clear()
    backend.entered.clear()
    worker.foresee(frame(100))
    assert backend.entered.wait(WAIT_S)
    worker.foresee(frame(100, "cross_left"))
    asking = Asking(worker)
    until(lambda: worker._question is not None)
    worker.submit(SELECTIONS[-1])
    backend.go.set()
    assert asking.wait().answer is not None
    until(lambda: backend.done.count("reason") == 3)
    steps = ["step"] * 2
    assert backend.done == ["foresee", "plan", "foresee", *steps, *["reason"] * 3]
    outcomes.wait_for(2)
    before, after = (outcome.stage_ms for outcome in outcomes.done)
    assert "foresight" not in before and after["foresight"] > 0


def test_a_plan_waits_for_one_call_at_most(started: Any) -> None:
    """Of many frames that wait one is looked at before the selection, the newest next."""
    backend = Foreseeing()
    worker, outcomes = started(backend)
    frames = [frame(100 + after) for after in range(10)]
    worker.foresee(frames[0])
    assert backend.entered.wait(WAIT_S)
    for later in frames[1:]:
        worker.foresee(later)
    worker.submit(SELECTIONS[-1])
    backend.go.set()
    outcomes.wait_for(1)
    until(lambda: len(backend.seen) == 10)
    assert backend.done[:3] == ["foresee", "plan", "foresee"]
    assert backend.seen == [frames[0], *frames[:0:-1]]


def test_only_full_calls(started: Any) -> None:
    """Where a call takes four frames, three wait for a fourth."""
    backend = Foreseeing(foresight=4)
    backend.go.set()
    worker, outcomes = started(backend)
    for after in range(3):
        worker.foresee(frame(100 + after))
    worker.submit(SELECTIONS[-1])
    outcomes.wait_for(1)
    assert "foresee" not in backend.done
    worker.foresee(frame(103))
    until(lambda: len(backend.seen) == 4)
    assert backend.done.count("foresee") == 1


def test_it_fails(started: Any, told: list[str]) -> None:
    """Told once, counted, and plans are made as if there were none."""
    backend = Foreseeing(fails=True)
    backend.go.set()
    worker, outcomes = started(backend)
    for count in range(1, 4):
        worker.foresee(frame(100 * count))
        until(lambda: worker._ahead.faults == count)  # noqa: B023
        worker.submit(SELECTIONS[-1])
        outcomes.wait_for(count)
    assert all(outcome.plan is not None for outcome in outcomes.done)
    assert len(told) == 1 and "RuntimeError: no memory for features (told once)" in told[0]


def test_what_waits_is_forgotten(started: Any) -> None:
    """By `clear`, by `close`, by a plan that had the frame or passed it over."""
    backend = Foreseeing()
    worker, outcomes = started(backend)
    worker.foresee(frame(100))
    assert backend.entered.wait(WAIT_S)
    worker.foresee(frame(110))
    worker.clear()
    for camera in ("front_wide", "rear_tele"):  # selected, and a camera that is not
        worker.foresee(frame(0, camera))
        worker.foresee(frame(-60, camera))
    worker.foresee(frame(1))
    worker.submit(SELECTIONS[-1])
    backend.go.set()
    outcomes.wait_for(1)
    until(lambda: len(backend.seen) == 2)
    assert [seen.stamp_ns - NOW_NS for seen in backend.seen] == [ms(100), ms(1)]
    backend.go.clear()
    backend.entered.clear()
    worker.foresee(frame(200))
    assert backend.entered.wait(WAIT_S)
    worker.foresee(frame(210))
    assert not worker.close(0.01)
    backend.go.set()
    assert worker.close(WAIT_S) and len(backend.seen) == 3


def test_the_queue_is_bounded() -> None:
    """Frames further than a window from the newest arrival go, whichever way time leapt; of too
    many the oldest."""
    backend = Foreseeing()
    backend.go.set()
    ahead = Foresight(backend, lambda text: None)

    def left() -> list[float]:
        backend.seen.clear()
        while ahead.pending:
            ahead.step()
        return [(seen.stamp_ns - NOW_NS) / ms(1) for seen in backend.seen]

    for after in (0, 100, 350, 400):
        assert ahead.put(frame(after))
    assert left() == [400, 350, 100]
    for after in (5000, 5100, 100, 200):  # set back, as a looped recording is
        ahead.put(frame(after))
    assert left() == [200, 100]
    for camera in CAMERA_NAMES:
        for after in range(8):
            ahead.put(frame(after, camera))
    assert len(left()) == CAPACITY


def test_without_foresight(started: Any) -> None:
    """Nothing is queued, and nobody is woken."""
    backend = Scripted(good)
    ahead = Foresight(backend, lambda text: None)
    assert not ahead.put(frame(100)) and not ahead.pending and not ahead._waiting
    worker, outcomes = started(backend)
    worker.foresee(frame(100))
    worker.submit(SELECTIONS[-1])
    outcomes.wait_for(1)
    assert set(outcomes.done[0].stage_ms) == {"decode", "model"}


def test_in_a_process_of_its_own() -> None:
    """The same frames arrive there and are forgotten there; its errors are told, its loss is not:
    whoever keeps the process tells that."""
    backend = isolated(
        isolated_backends.Foreseeing(kinematic_manifest()), "process", WAIT_S, WAIT_S
    )
    backend.load()
    try:
        assert backend.foresight == 2
        rng = np.random.default_rng(0)
        frames = [
            CameraFrame(camera, NOW_NS, rng.integers(0, 256, (320, 576, 3), np.uint8))
            for camera in ("front_wide", "cross_left")
        ]
        backend.foresee(frames)
        seen = [f"{one.camera} {one.stamp_ns} {one.image.sum()}" for one in frames]
        sample = one_sample()
        assert backend.plan(sample).reasoning == "; ".join(seen)
        backend.forget()
        assert backend.plan(sample).reasoning == ""
        with pytest.raises(Exception, match="a frame of before the clock"):
            backend.foresee([replace(frames[0], stamp_ns=-1)])
        os.kill(backend.health().pid, signal.SIGKILL)
        backend.foresee(frames)
    finally:
        backend.close()


@pytest.mark.parametrize("decode_on_arrival", [True, False])
def test_frames_that_are_wanted(decode_on_arrival: bool) -> None:
    """Of 30 Hz those near the grid of ticks, with camera and stamp; the rest is decoded at most."""
    wanted: list[FrameSlot] = []
    decoded: list[LazyImage] = []
    feed = Feed(
        pipeline(),
        {name: Source(name, f"/{name}") for name in (*DEFAULT_CAMERAS, "odometry")},
        RigOffset("base_link", None),
        "crop",
        decoded.append,
        wanted_soon=wanted.append,
    )
    reader = Reader(READER.check, READER.to_rgb, decode_on_arrival)
    feed.pipeline.start(START_NS)
    for now_ns in range(START_NS, START_NS + ms(3_000), ms(100) // 3):
        feed.add_odometry(odometry(now_ns), 0, now_ns)
        for name in DEFAULT_CAMERAS:
            image = SimpleNamespace(header=header(now_ns), damaged=False)
            feed.add_image(image, CameraInput(name, f"/{name}", "auto", 0), reader, 0, now_ns)
        feed.poll(0, now_ns)
    of_one = [slot.stamp_ns for slot in wanted if slot.camera == DEFAULT_CAMERAS[0]]
    late = [stamp for stamp in of_one if stamp > START_NS + ms(2_000)]
    assert 10 <= len(late) <= 14
    assert bool(decoded) == decode_on_arrival
    assert not {id(slot.image) for slot in wanted} & set(map(id, decoded))
