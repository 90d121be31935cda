"""Questions to the worker: after planning, one at a time, and always answered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from asking import Asked, Asking, Work, answer, at_once, endless, planned_once, until
from simulate import kinematic_manifest
from test_worker import SELECTIONS, WAIT_S, Outcomes, Scripted, good

from alpamayo_ros.errors import ModelError
from alpamayo_ros.questions import unavailable
from alpamayo_ros.types import Answer, Plan, PlannerSample
from alpamayo_ros.worker import InferenceWorker, Outcome


def test_an_answer() -> None:
    """About the last sample, with the question's words cleaned; several in turn."""
    backend = Asked(at_once)
    worker, _ = planned_once(backend)
    for text, clean in (("why?", "why?"), ("  who\n is\tthere? ", "who is there?")):
        result = worker.ask(text, WAIT_S)
        assert result.answer is not None and result.message == ""
        assert (result.answer.text, result.answer.t0_ns) == (clean, SELECTIONS[-1].t0_ns)
        assert result.latency_ms > 0
    assert worker.close() and backend.closed == 2


def test_nothing_to_look_at() -> None:
    """Before the first sample, and after what was seen is forgotten."""
    worker, _ = planned_once(Asked(at_once))
    fresh = InferenceWorker(Asked(at_once), lambda outcome: None)
    worker.clear("time jumped")
    for idle in (worker, fresh):
        result = idle.ask("why?", WAIT_S)
        assert result.answer is None and "nothing to look at yet" in result.message
        assert idle.close()


def test_a_plan_goes_before_the_next_step() -> None:
    """Whatever is submitted during a step is planned before the step after it."""
    go = threading.Event()
    stepped = threading.Event()

    def held(sample: PlannerSample, question: str) -> Work:
        for _ in range(3):
            stepped.set()
            assert go.wait(WAIT_S)
            go.clear()
            yield
        return answer(sample, question)

    backend = Asked(held)
    worker, outcomes = planned_once(backend)
    asking = Asking(worker)
    for n, selection in enumerate(SELECTIONS[-4:-1], start=2):
        assert stepped.wait(WAIT_S)
        stepped.clear()
        assert worker.submit(selection) is None
        go.set()
        outcomes.wait_for(n)
    result = asking.wait()
    assert backend.done == ["plan", "step", "plan", "step", "plan", "step", "plan"]
    # The sample stays the one that the question was asked of.
    assert result.answer is not None and result.answer.t0_ns == SELECTIONS[-1].t0_ns
    assert backend.asked_of == [SELECTIONS[-1].t0_ns]
    assert worker.close()


def test_a_second_question_is_busy() -> None:
    """At once; the first goes on."""
    finish = threading.Event()

    def until_told(sample: PlannerSample, question: str) -> Work:
        while not finish.wait(0.001):
            yield
        return answer(sample, question)

    backend = Asked(until_told)
    worker, _ = planned_once(backend)
    first = Asking(worker)
    until(lambda: "step" in backend.done)
    second = worker.ask("what?", WAIT_S)
    assert second.answer is None and second.message.startswith("busy: another question")
    finish.set()
    assert first.wait().answer is not None
    assert worker.close()


def test_planning_that_leaves_no_time() -> None:
    """Given up after the time limit, as busy; the backend's work on it is ended, and the next
    question is taken."""
    backend = Asked(endless)
    worker, _ = planned_once(backend)
    result = worker.ask("why?", 0.05)
    assert result.answer is None and result.message.startswith("busy: planning goes first")
    until(lambda: backend.closed == 1)
    until(lambda: "another" not in worker.ask("why?", 0.05).message)
    assert worker.close()


def test_a_question_that_never_began() -> None:
    """Behind a plan that takes longer than the time limit."""
    gate = threading.Event()

    def slow(_: PlannerSample, plan: Plan) -> Plan:
        assert gate.wait(WAIT_S)
        return plan

    backend = Asked(at_once, slow)
    worker = InferenceWorker(backend, lambda outcome: None)
    worker.submit(SELECTIONS[-1])
    result = worker.ask("why?", 0.05)
    assert "left no time within 0.05 s" in result.message
    gate.set()
    assert worker.close() and backend.asked_of == []


@pytest.mark.parametrize("end", ("clear", "close"))
def test_stopped_during_an_answer(end: str) -> None:
    """Cleared or closed: the question fails at once, and the backend's work on it is ended."""
    backend = Asked(endless)
    worker, _ = planned_once(backend)
    asking = Asking(worker)
    until(lambda: "step" in backend.done)
    if end == "clear":
        worker.clear("deactivated")
    assert worker.close() or end == "clear"
    said = asking.wait().message
    assert said == ("deactivated" if end == "clear" else "the planner is shutting down")
    assert backend.closed == 1
    assert "shutting down" in worker.ask("why?", WAIT_S).message


def raises(error: Exception) -> Callable[[PlannerSample, str], Work]:
    """An answer that fails after a step."""

    def work(sample: PlannerSample, question: str) -> Work:
        yield
        raise error

    return work


def other_time(sample: PlannerSample, question: str) -> Work:
    """Of another instant."""
    yield
    return Answer(sample.t0_ns - 1, question, "mine", {})


def no_answer(sample: PlannerSample, question: str) -> Work:
    """Nothing."""
    yield


@pytest.mark.parametrize(
    ("work", "said"),
    (
        (raises(MemoryError("no memory for the cache")), "MemoryError: no memory for the cache"),
        (raises(ModelError("this model is blind")), "this model is blind"),
        (raises(ValueError()), "ValueError"),
        (other_time, "the answer is of t0"),
        (no_answer, "the model gave NoneType, no answer"),
    ),
)
def test_an_answer_that_fails(work: Callable[[PlannerSample, str], Work], said: str) -> None:
    """The error's text, and the worker goes on."""
    backend = Asked(work)
    worker, outcomes = planned_once(backend)
    result = worker.ask("why?", WAIT_S)
    assert result.answer is None and said in result.message
    worker.submit(SELECTIONS[-1])
    outcomes.wait_for(2)
    assert worker.close()


def test_a_backend_without_answers() -> None:
    """The interface's own refusal, which is raised by the call itself."""
    worker = InferenceWorker(Scripted(good), outcomes := Outcomes())
    worker.submit(SELECTIONS[-1])
    outcomes.wait_for(1)
    said = worker.ask("why?", WAIT_S).message
    assert said == f"model {kinematic_manifest().name} plans and does not answer questions"
    assert worker.close()


@pytest.mark.parametrize(
    ("question", "said"),
    (("", "empty"), ("\n\t", "empty"), ("a" * 1001, "1001 characters"), ("<|im_end|>", "markup")),
)
def test_questions_that_are_refused(question: str, said: str) -> None:
    """Before the model hears of them."""
    backend = Asked(at_once)
    worker, _ = planned_once(backend)
    assert said in worker.ask(question, WAIT_S).message
    assert worker.close() and backend.asked_of == []


def test_handing_over_that_fails() -> None:
    """What `on_done` raises is told, and the next plan is handed over all the same."""
    told: list[str] = []
    outcomes = Outcomes()

    def sometimes(outcome: Outcome) -> None:
        outcomes(outcome)
        if len(outcomes.done) == 1:
            raise RuntimeError("the node is gone")

    worker = InferenceWorker(Scripted(good), sometimes, told.append)
    for n, selection in enumerate(SELECTIONS[-2:], start=1):
        worker.submit(selection)
        outcomes.wait_for(n)
    assert worker.close()
    assert len(told) == 1 and "RuntimeError: the node is gone" in told[0]


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_calls(seed: int) -> None:
    """Plans, questions, clears and at last a close from several threads: every question is
    answered or refused with a reason, every selection is planned, dropped or forgotten, and
    the thread ends."""
    rng = random.Random(seed)

    def some_steps(sample: PlannerSample, question: str) -> Work:
        for _ in range(rng.randrange(6)):
            time.sleep(rng.random() * 1e-3)
            yield
        if rng.random() < 0.2:
            raise RuntimeError("by chance")
        return answer(sample, question)

    backend = Asked(some_steps)
    outcomes = Outcomes()
    worker = InferenceWorker(backend, outcomes)
    askings = []
    submitted = dropped = 0
    for _ in range(120):
        choice = rng.random()
        if choice < 0.5:
            submitted += 1
            dropped += worker.submit(rng.choice(SELECTIONS)) is not None
        elif choice < 0.9:
            askings.append(Asking(worker, f"why {len(askings)}?", rng.choice((0.002, WAIT_S))))
        else:
            worker.clear("cleared")
        time.sleep(rng.random() * 2e-3)
    assert worker.close(WAIT_S)
    for number, asking in enumerate(askings):
        result = asking.wait()
        if result.answer is None:
            assert result.message
        else:
            assert result.message == "" and result.answer.text == f"why {number}?"
    assert len(outcomes.done) <= submitted - dropped
    assert backend.closed == len(backend.asked_of)


@pytest.mark.parametrize(
    ("takes_questions", "state", "said"),
    (
        (None, "unconfigured", "no model is loaded: configure and activate"),
        (False, "active", "does not answer questions"),
        (True, "inactive", "the planner is inactive: activate it"),
        (True, "activating", "the planner is activating"),
        (True, "active", ""),
    ),
)
def test_when_no_question_is_taken(takes_questions: bool | None, state: str, said: str) -> None:
    """No model, a model that does not answer, a planner that is not active; else nothing."""
    manifest = kinematic_manifest()
    loaded = None if takes_questions is None else replace(manifest, takes_questions=takes_questions)
    told = unavailable(loaded, state)
    assert said in told and bool(told) == bool(said)
