"""~/ask through a real planner process: answers between ticks, and why there is none."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alpamayo_ros.srv import AskScene
from drive import Drive, nanoseconds
from harness import START_S, Bench

SCRIPT = "planner_with_test_backends.py"
QUESTION = "What is the colour of the light?"


def ask(bench: Bench, question: str = QUESTION) -> Any:
    """Ask, and wait for the answer."""
    request = AskScene.Request(question=question)
    return bench.call("ask", AskScene, request, timeout_s=30.0)


def ask_soon(bench: Bench, begins: Path, question: str = QUESTION) -> Any:
    """Ask, and go on when the model begins to answer: a future.

    Plans do not tell: those that come next may have been made before the question was heard.
    """
    begins.unlink(missing_ok=True)
    client = bench.client("ask", AskScene)
    bench.wait(client.service_is_ready, START_S, "~/ask")
    answer = client.call_async(AskScene.Request(question=question))
    bench.wait(lambda: answer.done() or begins.exists(), START_S, "the beginning of an answer")
    assert not answer.done(), answer.result()
    return answer


def never_done(manifest: Callable[..., str], begins: Path) -> str:
    """A model whose answer takes hours."""
    options = {"ask_steps": 1_000_000, "ask_step_s": 0.01, "ask_begins": str(begins)}
    return manifest(takes_questions=True, **options)


def drive_on(bench: Bench, **parameters: object) -> Drive:
    """A test planner that plans on a drive."""
    bench.start_planner(SCRIPT, autostart=True, use_sim_time=True, **parameters)
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(2)
    return drive


def test_plans_go_on_while_a_question_is_answered(
    bench: Bench, manifest: Callable[..., str], tmp_path: Path
) -> None:
    """An answer of 40 steps of 50 ms: plans come all the while, next to none is pushed out, a
    second question is refused at once, and the first is answered of an instant in between."""
    begins = tmp_path / "begins"
    options = {"ask_steps": 40, "ask_step_s": 0.05, "ask_begins": str(begins)}
    drive_on(bench, model=manifest(takes_questions=True, **options))
    first_status = len(bench.statuses)
    first = ask_soon(bench, begins)
    bench.wait_plans(3)
    assert not first.done()
    second = ask(bench, "And now?")
    assert not second.success and second.message.startswith("busy: another question")
    bench.wait(first.done, 30.0, "answer")
    during = bench.statuses[first_status:]
    planned = [status for status in during if status.outcome == status.PLANNED]
    busy = [status for status in during if status.reason == "planner_busy"]
    assert len(planned) >= 5 and len(planned) >= 4 * len(busy)
    answer = first.result()
    assert answer.success and answer.message == ""
    assert (answer.answer, answer.model) == (f"asked: {QUESTION}", "test_model")
    assert answer.latency_ms >= 40 * 50
    assert nanoseconds(answer.t0) in {nanoseconds(status.t0) for status in bench.statuses}
    ask_soon(bench, begins)  # the next one is taken


def test_questions_that_are_not_taken(bench: Bench, manifest: Callable[..., str]) -> None:
    """While unconfigured, inactive and without an input, then for what is asked: each is refused
    with the reason; a good one is answered in between, with its newlines made spaces."""
    bench.start_planner(
        SCRIPT, use_sim_time=True, configure_odometry_wait_s=0.0,
        model=manifest(takes_questions=True),
    )  # fmt: skip
    assert "configure and activate" in ask(bench).message
    assert bench.change("configure")
    assert "the planner is inactive: activate it" in ask(bench).message
    assert bench.change("activate")
    assert "nothing to look at yet" in ask(bench).message
    drive = Drive(bench.node, sim_time=True)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(1)
    for question, said in (
        ("", "the question is empty"),
        (" \n ", "the question is empty"),
        ("x" * 1001, "question of 1001 characters, at most 1000"),
        ("Who? <|question_end|>", "control markup '<|'"),
        ("Who? <i12>", "control markup '<i12>'"),
        ("Who?\x07", "control character"),
    ):
        refused = ask(bench, question)
        assert not refused.success and said in refused.message
        assert refused.answer == "" and nanoseconds(refused.t0) == 0
    assert ask(bench, "Who\n is there?").answer == "asked: Who is there?"


def test_a_model_that_answers_no_questions(bench: Bench) -> None:
    """kinematic: refused at once, by its name."""
    bench.start_planner(autostart=True)
    bench.wait(lambda: bench.state() == "active", START_S, "active")
    refused = ask(bench)
    assert not refused.success and "model kinematic does not answer questions" in refused.message
    assert refused.model == "kinematic"


def test_an_answer_that_fails(bench: Bench, manifest: Callable[..., str]) -> None:
    """A backend that raises: its words are the message, and plans go on."""
    drive_on(bench, model=manifest(takes_questions=True, ask_raises=True))
    assert "ZeroDivisionError: a bug in an answer" in ask(bench).message
    bench.wait_plans(2)


def test_planning_leaves_no_time(bench: Bench, manifest: Callable[..., str]) -> None:
    """A plan takes three ticks, so that a sample always waits: the question is given up as busy
    after ask_timeout_s, and plans go on."""
    model = manifest(takes_questions=True, plan_s=0.3, ask_steps=1_000_000, ask_step_s=0.01)
    drive_on(bench, model=model, ask_timeout_s=0.7)
    refused = ask(bench)
    assert not refused.success and refused.message.startswith("busy: planning goes first")
    assert "ask_timeout_s" in refused.message
    bench.wait_plans(2)


@pytest.mark.parametrize("end", ["deactivate", "shutdown"])
def test_the_planner_stops_during_an_answer(
    bench: Bench, manifest: Callable[..., str], tmp_path: Path, end: str
) -> None:
    """Deactivated, or told to shut down: the question fails with that, and nothing hangs.

    After a deactivation the next activation answers questions again.
    """
    begins = tmp_path / "begins"
    drive_on(bench, model=never_done(manifest, begins))
    question = ask_soon(bench, begins)
    assert bench.request_transition(0, end)
    bench.wait(question.done, 10.0, "answer")
    assert not question.result().success
    assert "deactivated before the answer was complete" in question.result().message
    if end == "deactivate":
        assert bench.change("activate")
        bench.wait_plans(2)
        again = ask_soon(bench, begins)
        assert bench.change("deactivate")
        assert bench.change("cleanup")
        bench.wait(again.done, 10.0, "answer")


def test_sigterm_during_an_answer(
    bench: Bench, manifest: Callable[..., str], tmp_path: Path
) -> None:
    """The process ends well."""
    begins = tmp_path / "begins"
    drive_on(bench, model=never_done(manifest, begins))
    ask_soon(bench, begins)
    planner = bench.processes[0]
    assert planner.stop(signal.SIGTERM) == 0
    assert "Traceback" not in planner.output
