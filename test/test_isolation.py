"""A backend in a process of its own: the same answers to the bit, and every loss of it named."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from isolated_backends import Scripted, Thoughtful
from simulate import good_drive, kinematic_manifest, one_sample, pipeline, play, selections

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.kinematic import KinematicBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.isolation import keeper
from alpamayo_ros.isolation.backend import IsolatedBackend, isolated
from alpamayo_ros.isolation.faults import ModelFault, ModelProcessError
from alpamayo_ros.types import Plan, PlannerSample, Pose3
from alpamayo_ros.worker import InferenceWorker, Outcome

WAIT_S = 30.0  # for what takes a second on an idle machine
SAMPLE = one_sample()
Make = Callable[..., IsolatedBackend]


@pytest.fixture
def make() -> Iterator[Make]:
    """Loaded backends in processes of their own, closed in the end."""
    made: list[IsolatedBackend] = []

    def build(
        kind: type[PlannerBackend] = Scripted, limit_s: float = WAIT_S, **options: Any
    ) -> Any:
        manifest = kinematic_manifest().with_options(options) if options else kinematic_manifest()
        backend = isolated(kind(manifest), "process", limit_s, WAIT_S, lambda text: None)
        assert isinstance(backend, IsolatedBackend)
        made.append(backend)
        backend.load()
        return backend

    yield build
    for backend in made:
        backend.close()


def told_to(do: str) -> PlannerSample:
    """A sample that has the scripted backend do something."""
    return dataclasses.replace(SAMPLE, navigation=do)


def wait_ready(backend: PlannerBackend, starts: int) -> None:
    """Until the process was started so many times and is loaded."""
    until = time.monotonic() + WAIT_S
    while not ((health := backend.health()).is_ready and health.starts >= starts):
        assert time.monotonic() < until, health
        time.sleep(0.01)


def fields_of(plan: Plan) -> dict[str, Any]:
    """To compare two plans by: arrays as their bytes."""
    return {
        entry.name: (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        for entry in dataclasses.fields(plan)
        for value in [getattr(plan, entry.name)]
    }


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not yet read of it."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def children() -> set[str]:
    """Process ids of this one's children."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for listed in lists for pid in listed.read_text().split()}


# ---- the same answers ------------------------------------------------------------------------


def test_the_same_plans_to_the_bit(make: Make) -> None:
    """Every field of a sample arrives there, every field of a plan here: pixels, poses, texts."""
    there, here = make(), Scripted(kinematic_manifest())
    here.load()
    for backend in (there, here):
        backend.warm_up(["front_wide", "cross_left"])
    rng = np.random.default_rng(0)
    for k, drawn in enumerate(selections(play(pipeline(), good_drive(3.0)))[-3:]):
        sample = dataclasses.replace(
            SAMPLE,
            t0_ns=drawn.t0_ns,
            images=rng.integers(0, 256, (4, 4, 40, 72, 3), np.uint8),
            navigation=(None, "Turn left in 30m", "ü \U0001f697")[k],
            speed_mps=float(rng.normal(8.0, 1e-9)),
            odometry_from_rig_t0=Pose3(rng.normal(0, 1e6, 3), np.eye(3)),
        )
        got, wanted = there.plan(sample), here.plan(sample)
        assert fields_of(got) == fields_of(wanted)
        assert not got.xyz_in_rig_t0.flags.writeable
        answers = [_answer(backend, sample) for backend in (there, here)]
        assert answers[0] == answers[1]


def _answer(backend: PlannerBackend, sample: PlannerSample) -> Any:
    steps = 0
    work = backend.ask(sample, "what is it?")
    while True:
        try:
            next(work)
            steps += 1
        except StopIteration as stop:
            return steps, stop.value


def test_a_plan_between_two_steps_of_an_answer(make: Make) -> None:
    """The question keeps its own pixels."""
    backend = make()
    work = backend.ask(SAMPLE, "what is it?")
    next(work)
    other = dataclasses.replace(SAMPLE, images=255 - SAMPLE.images)
    backend.plan(other)
    with pytest.raises(StopIteration) as end:
        while True:
            next(work)
    here = Scripted(kinematic_manifest())
    assert end.value.value == _answer(here, SAMPLE)[1]


def test_a_reasoning_beside_an_answer(make: Make) -> None:
    """Both under way at once, and a plan between: each ends as its own."""
    backend = make(Thoughtful)
    assert backend.plan(SAMPLE).reasoning_follows
    reasoning, answer = backend.reason(), backend.ask(SAMPLE, "what is it?")
    next(reasoning)
    next(answer)
    backend.plan(SAMPLE)
    late = _last(reasoning)
    assert (late.t0_ns, late.stated.reasoning) == (5, "to keep distance")
    assert late.stated.decisions.longitudinal == "follow lead"
    assert _last(answer).text.startswith("what is it?")
    with pytest.raises(ModelError, match="nothing more to say about its plans"):
        next(make().reason())


def _last(work: Any) -> Any:
    with pytest.raises(StopIteration) as end:
        while True:
            next(work)
    return end.value.value


def test_an_answer_that_is_given_up(make: Make, tmp_path: Path) -> None:
    """Its work there ends too."""
    marker = tmp_path / "marker"
    backend = make(marker=str(marker))
    work = backend.ask(SAMPLE, "what is it?")
    next(work)
    assert not marker.exists()
    work.close()
    assert marker.read_text() == "dropped"


# ---- what a backend raises -------------------------------------------------------------------


@pytest.mark.parametrize("what", ["raise", "refuse", "nothing"])
def test_errors_are_the_same(make: Make, what: str) -> None:
    """By name and words, as in a thread; the process goes on."""
    there, here = make(), Scripted(kinematic_manifest())
    told = []
    for backend in (there, here):
        if backend is here and what == "nothing":
            continue
        with pytest.raises(Exception) as error:
            backend.plan(told_to(what))
        told.append((type(error.value).__name__, str(error.value)))
    assert told[0] == (
        told[1] if len(told) > 1 else ("TypeError", "the model gave NoneType, no plan")
    )
    assert there.plan(SAMPLE).t0_ns == SAMPLE.t0_ns
    assert there.health().starts == 1


def test_questions_that_fail(make: Make) -> None:
    """What the backend says, at the first step."""
    with pytest.raises(Exception, match="a bug in an answer") as error:
        next(make().ask(SAMPLE, "raise"))
    assert type(error.value).__name__ == "ZeroDivisionError"
    with pytest.raises(ModelError, match="does not answer questions"):
        next(make(KinematicBackend).ask(SAMPLE, "what is it?"))


@pytest.mark.parametrize(
    ("how", "name", "said"),
    [
        ("refuses", "ModelError", "weights are missing: fetch them"),
        ("breaks", "ZeroDivisionError", "a bug in a backend"),
        ("dies", "ModelProcessError", "killed by SIGKILL from outside"),
        ("cold", "ModelError", "it does not get warm"),
    ],
)
def test_loading_fails(make: Make, how: str, name: str, said: str) -> None:
    """With the backend's own words; no process and no open memory stay behind."""
    before = children(), set(os.listdir("/proc/self/fd"))
    with pytest.raises(Exception, match=said) as error:
        make(load=how).warm_up(["front_wide"])
    assert type(error.value).__name__ == name
    assert children() <= before[0]
    assert set(os.listdir("/proc/self/fd")) <= before[1]


def test_what_no_process_can_be_given() -> None:
    """An option that JSON does not know; it is named before anything starts."""
    manifest = kinematic_manifest().with_options({"when": {1, 2}})
    with pytest.raises(ModelError, match="option when: .* cannot be handed"):
        isolated(KinematicBackend(manifest), "process", 1.0, 1.0)


def test_frames_beyond_what_was_agreed(make: Make) -> None:
    """Named; the next sample is planned."""
    backend = make()
    images = np.zeros((8, 4, 320, 576, 3), np.uint8)
    many = dataclasses.replace(
        SAMPLE, images=images, image_stamps_ns=np.zeros((8, 4), np.int64), camera_indices=range(8)
    )
    with pytest.raises(ModelError, match=r"frames of shape \(8, 4, 320, 576, 3\)"):
        backend.plan(many)
    assert backend.plan(SAMPLE).t0_ns == SAMPLE.t0_ns


# ---- what happens to a process ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "fault", "said"),
    [
        ("hang", ModelFault.HUNG, "plan took longer than 1 s; .* higher plan_timeout_s"),
        ("hang in C", ModelFault.HUNG, "hung"),
        ("SIGKILL", ModelFault.KILLED, "SIGKILL"),
        ("SIGSEGV", ModelFault.CRASHED, "SIGSEGV"),
        ("exit", ModelFault.EXITED, "exit code 3"),
    ],
)
def test_a_lost_process(make: Make, do: str, fault: ModelFault, said: str) -> None:
    """The plan fails with its name, a new process comes, warm as the first, and plans the same."""
    backend = make(limit_s=1.0 if "hang" in do else WAIT_S)
    backend.warm_up(["rear_tele"])
    good, first = backend.plan(SAMPLE), backend.health()
    with pytest.raises(ModelProcessError, match=said) as error:
        backend.plan(told_to(do))
    assert error.value.fault == fault
    wait_ready(backend, starts=2)
    health = backend.health()
    assert is_gone(first.pid) and health.pid != first.pid
    assert str(error.value) == health.last_fault
    assert fields_of(backend.plan(SAMPLE)) == fields_of(good)
    assert good.reasoning.endswith("warm for rear_tele")


def test_no_process_can_be_started(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first, which loading says; later, which every plan says until one can be started again."""

    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    backend = make()
    monkeypatch.setattr(keeper, "BACK_OFF_S", (0.01,))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(ModelError, match="no process can be started.*temporarily unavailable"):
            make()
        with pytest.raises(ModelProcessError):
            backend.plan(told_to("SIGKILL"))
        until = time.monotonic() + WAIT_S
        while "no process" not in backend.health().last_fault:
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(ModelProcessError, match="no process can be started"):
            backend.plan(SAMPLE)
    wait_ready(backend, starts=2)
    assert backend.plan(SAMPLE).t0_ns == SAMPLE.t0_ns


def test_a_process_that_dies_between_two_calls(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started anew without being asked; again and again it waits, and every plan says why."""
    monkeypatch.setattr(keeper, "BACK_OFF_S", (0.0, 3600.0))
    backend = make()
    os.kill(backend.health().pid, signal.SIGKILL)
    wait_ready(backend, starts=2)
    assert backend.plan(SAMPLE).t0_ns == SAMPLE.t0_ns
    os.kill(backend.health().pid, signal.SIGKILL)
    until = time.monotonic() + WAIT_S
    while backend.health().is_ready:
        assert time.monotonic() < until
        time.sleep(0.01)
    with pytest.raises(ModelProcessError, match="started anew.*because .*SIGKILL") as error:
        backend.plan(SAMPLE)
    assert error.value.fault == ModelFault.RESTARTING
    assert backend.health().starts == 2


def test_an_answer_in_a_lost_process(make: Make) -> None:
    """Fails, though a new process is there."""
    backend = make()
    work = backend.ask(SAMPLE, "what is it?")
    next(work)
    with pytest.raises(ModelProcessError):
        backend.plan(told_to("SIGKILL"))
    wait_ready(backend, starts=2)
    with pytest.raises(ModelProcessError, match="SIGKILL"):
        next(work)


def test_a_worker_that_is_closed_during_a_hang(make: Make) -> None:
    """Within its patience, though the plan would take an hour: the process is killed."""
    backend = make()
    pid, outcomes, started = backend.health().pid, [], threading.Event()

    def on_done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        started.set()

    worker = InferenceWorker(backend, on_done)
    chosen = selections(play(pipeline(), good_drive(3.0)))[-1]
    worker.submit(chosen)
    assert started.wait(WAIT_S)
    worker.submit(dataclasses.replace(chosen, navigation="hang"))
    while worker._waiting is not None:
        time.sleep(0.01)
    assert worker.close(timeout_s=1.0)
    assert is_gone(pid)
    rejection = outcomes[-1].rejection
    assert rejection is not None and "ModelProcessError" in rejection.detail


@pytest.mark.parametrize("do", ["", "hang in C"])
def test_the_process_ends_with_its_node(do: str) -> None:
    """kill -9 of the parent, whether the model is idle or in the middle of a plan that hangs."""
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_isolation as t
backend = t.isolated(t.Scripted(t.kinematic_manifest()), "process", 3600.0, 60.0)
backend.load()
print(backend.health().pid, flush=True)
backend.plan(t.told_to({do!r}))
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    until = time.monotonic() + WAIT_S
    while not is_gone(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_asks_for_a_process() -> None:
    """`auto` goes by the backend, which is handed back as it is where it wants none."""
    backend = KinematicBackend(kinematic_manifest())
    assert isolated(backend, "auto", 1.0, 1.0) is backend
    assert isolated(backend, "thread", 1.0, 1.0) is backend
    backend.wants_process = True
    assert isinstance(isolated(backend, "auto", 1.0, 1.0), IsolatedBackend)
    assert isolated(backend, "thread", 1.0, 1.0) is backend
