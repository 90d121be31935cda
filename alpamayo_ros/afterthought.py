"""The reasoning to a plan that did not wait for it, in steps between which planning goes first."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.types import LateReasoning


class Afterthought:
    """One reasoning under way, and whether a newer plan waits for its own.

    Every method is called from the worker's thread. What goes wrong is told as a text: the plan
    that it belongs to has long gone out.
    """

    def __init__(
        self,
        backend: PlannerBackend,
        on_reasoned: Callable[[LateReasoning], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._on_reasoned, self._on_fault = on_reasoned, on_fault
        self._work: Generator[None, None, LateReasoning] | None = None
        self._expected = False
        self._epoch = 0

    @property
    def pending(self) -> bool:
        """Whether there is a step to take."""
        return self._expected or self._work is not None

    def expect(self, epoch: int) -> None:
        """The plan just made has its reasoning still to come."""
        self._epoch = epoch
        self._expected = True

    def keep(self, epoch: int) -> None:
        """Plans of another time have nothing more to say."""
        if self.pending and epoch != self._epoch:
            self.drop()

    def drop(self) -> None:
        """Give up what is under way."""
        work, self._work = self._work, None
        self._expected = False
        if work is not None:
            try:
                work.close()
            except Exception:
                self._on_fault(f"a reasoning was not given up:\n{traceback.format_exc()}")

    def step(self) -> None:
        """A token or so; at the end the reasoning is handed over."""
        try:
            if self._work is None:
                self._expected = False
                self._work = self._backend.reason()
            next(self._work)
        except StopIteration as end:
            self._work = None
            try:
                self._on_reasoned(end.value)
            except Exception:
                self._on_fault(f"a reasoning was not handed over:\n{traceback.format_exc()}")
        except Exception as error:  # a model may raise anything; the next plan may go well
            self._work = None
            self._on_fault(f"no reasoning: {type(error).__name__}: {error}")
