"""One question to the model at a time, answered in steps between which planning goes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.errors import UserError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.model_text import MAX_QUESTION_LENGTH, TextRefused, clean
from alpamayo_ros.types import Answer, PlannerSample

NOTHING_SEEN = (
    "nothing to look at yet: no instant has been planned from since activation; ~/status names "
    "the input that is missing"
)
BUSY = "busy: another question is being answered; ask again when it is done"


@dataclass(frozen=True, slots=True)
class AskResult:
    """An answer, or why there is none."""

    answer: Answer | None
    message: str  # "" where there is an answer
    latency_ms: float = 0.0


def check_question(question: str) -> str:
    """The question as the model gets it. Raises TextRefused."""
    text = clean(question, "question", MAX_QUESTION_LENGTH)
    if not text:
        raise TextRefused("the question is empty: ask about what the cameras see")
    return text


def unavailable(manifest: Manifest | None, state: str) -> str:
    """Why a planner in this lifecycle state takes no question, and what to do; "" where it does.

    `manifest` is the loaded model's.
    """
    if manifest is None:
        return "no model is loaded: configure and activate the planner, then ask"
    if not manifest.takes_questions:
        return f"model {manifest.name} does not answer questions: choose one that does"
    if state != "active":
        return f"the planner is {state}: activate it, then ask"
    return ""


class Question:
    """A question under way. The worker steps it; whoever asked waits. The first outcome stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0
        self._asked_s = time.monotonic()
        self._work: Generator[None, None, Answer] | None = None
        self._sample: PlannerSample | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._result: AskResult | None = None

    @property
    def done(self) -> bool:
        """Whether an outcome stands, so that there is nothing left to step."""
        return self._done.is_set()

    def step(self, backend: PlannerBackend, sample: PlannerSample | None) -> None:
        """One step of the model's answer, about the sample that the first step was given.

        Whatever the backend raises is the outcome. Only ever called from the worker's thread.
        """
        try:
            if self._work is None:
                if sample is None:
                    self.fail(NOTHING_SEEN)
                    return
                self._sample = sample
                self._work = backend.ask(sample, self.text)
            next(self._work)
            self.steps += 1
        except StopIteration as stop:
            self._finish_with(stop.value)
        except UserError as error:
            self.fail(str(error))
        except Exception as error:  # a model may raise anything; whoever asked must hear of it
            self.fail(f"{type(error).__name__}: {error}")

    def _finish_with(self, answer: object) -> None:
        assert self._sample is not None
        if not isinstance(answer, Answer):
            self.fail(f"the model gave {type(answer).__name__}, no answer")
        elif answer.t0_ns != self._sample.t0_ns:
            self.fail(f"the answer is of t0 {answer.t0_ns}, the sample of {self._sample.t0_ns}")
        else:
            self._finish(answer, "")

    def fail(self, message: str) -> None:
        """There will be no answer, and why."""
        self._finish(None, message)

    def _finish(self, answer: Answer | None, message: str) -> None:
        with self._lock:
            if self._result is None:
                latency_ms = (time.monotonic() - self._asked_s) * 1e3
                self._result = AskResult(answer, message, latency_ms)
        self._done.set()

    def close(self) -> None:
        """End the backend's work on it. Only ever called from the worker's thread."""
        work, self._work = self._work, None
        if work is not None:
            try:
                work.close()
            except Exception as error:
                self.fail(f"{type(error).__name__}: {error}")

    def wait(self, timeout_s: float) -> AskResult:
        """The outcome; a question that takes longer than `timeout_s` fails."""
        if not self._done.wait(timeout_s):
            progress = (
                f"it came {self.steps} steps far" if self._work is not None else "it left no time"
            )
            self.fail(
                f"busy: planning goes first, and {progress} within {timeout_s:g} s; ask again, "
                "raise ask_timeout_s, or ask of a recording"
            )
        assert self._result is not None
        return self._result
