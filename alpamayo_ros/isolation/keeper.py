"""Keeps one model process alive: the first start, and every one after it was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from alpamayo_ros.backends.base import ModelHealth
from alpamayo_ros.errors import ModelError
from alpamayo_ros.isolation import requests
from alpamayo_ros.isolation.faults import ModelFault, ModelProcessError
from alpamayo_ros.isolation.frames import SharedFrames
from alpamayo_ros.isolation.process import REAP_S, ModelProcess

# Before the first restart, the second, …: a model that dies at once again must not take the
# machine's time from the node.
BACK_OFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # a process that lived so long starts the series anew
LOAD_PARAMETER = "load_timeout_s"
CLOSED = "the planner was shut down"
CLOSE_S = 2.0  # for a backend to give back what it holds; then it is killed


class Keeper:
    """A thread that starts the process, waits for its end and starts it anew, until closed."""

    def __init__(
        self,
        frames: SharedFrames,
        load_request: dict[str, Any],
        load_timeout_s: float,
        report: Callable[[str], None],
    ) -> None:
        self._frames, self._load_request = frames, load_request
        self._load_timeout_s, self._report = load_timeout_s, report
        self._cameras: tuple[str, ...] | None = None
        self.foresight = 0  # of the backend, once it is loaded
        self._process: ModelProcess | None = None  # alive, perhaps still loading
        self._is_ready = False
        self._given_up: Exception | None = None  # why there will be no process
        self._closed = False
        self._health = ModelHealth(isolation="process", is_ready=False)
        self._fault_s = self._ready_s = 0.0  # steady
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model keeper", daemon=True)
        self._thread.start()

    # ---- for the backend ---------------------------------------------------------------------

    def wait_loaded(self) -> None:
        """Until the first start has succeeded; raises what it failed with."""
        with self._changed:
            while not (self._is_ready or self._given_up or self._closed):
                self._changed.wait()
            if self._given_up is not None:
                raise self._given_up

    def warm_up(self, cameras: Sequence[str]) -> None:
        """Now, and after every restart."""
        self._cameras = tuple(cameras)
        self._warm_up(self.current())

    def current(self) -> ModelProcess:
        """The process, loaded. Raises ModelProcessError where there is none at present."""
        with self._changed:
            if self._process is not None and self._is_ready:
                return self._process
            if self._closed:
                raise ModelError("the model's process was closed")
            if self._given_up is not None:
                raise self._given_up
            raise ModelProcessError(
                ModelFault.RESTARTING,
                f"the model's process is being started anew (start {self._health.starts}), "
                f"because {self._health.last_fault}",
            )

    def health(self) -> ModelHealth:
        """For diagnostics."""
        with self._changed:
            age_s = time.monotonic() - self._fault_s if self._health.last_fault else 0.0
            return replace(self._health, last_fault_age_s=age_s)

    def abort(self) -> None:
        """Kill the process, whatever it does, and start none after it."""
        with self._changed:
            self._closed = True
            process = self._process
            self._changed.notify_all()
        if process is not None:
            process.kill(ModelProcessError(ModelFault.KILLED, CLOSED))

    def close(self) -> None:
        """Have the backend give back what it holds, and end the process."""
        with self._changed:
            process = self._process if self._is_ready and not self._closed else None
            self._closed = True
            self._changed.notify_all()
        if process is not None:
            try:
                process.call({"op": requests.CLOSE}, [], CLOSE_S, "patience")
            except ModelError as error:
                self._report(f"the model's process did not close well: {error}")
        self.abort()
        self._thread.join(REAP_S)

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._keep()
        except Exception as error:  # whoever waits must hear of it, and every plan after
            self._give_up(error)

    def _keep(self) -> None:
        tries = 0
        while not self._closed:
            lost = self._live()
            if self._health.pid:  # it was ready
                tries = tries if time.monotonic() - self._ready_s < STEADY_S else 0
            elif not self._health.last_fault:  # the first start of all: configure is waiting
                self._give_up(lost)
                return
            if not self._pause(lost, BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]):
                return
            tries += 1

    def _live(self) -> Exception:
        """One process from its start to its end, and why it ended."""
        try:
            process = self._spawn()
        except OSError as error:
            return ModelError(f"no process can be started for the model: {error}")
        failed = self._load(process)
        if failed is None:
            return process.watch()
        process.kill(ModelProcessError(ModelFault.EXITED, "it could not be loaded"))
        process.watch()
        return failed

    def _spawn(self) -> ModelProcess:
        with self._changed:
            self._health = replace(self._health, starts=self._health.starts + 1)
            self._process = ModelProcess(self._frames)
            if self._closed:  # meanwhile, and whoever closes found no process to kill
                self._process.kill(ModelProcessError(ModelFault.KILLED, CLOSED))
            return self._process

    def _load(self, process: ModelProcess) -> Exception | None:
        try:
            told = process.call(self._load_request, [], self._load_timeout_s, LOAD_PARAMETER)
            self.foresight = int(told.header[requests.FORESIGHT])
            if self._cameras is not None:
                self._warm_up(process)
        except Exception as error:  # whatever a backend raises at loading, and its process' end
            return error
        with self._changed:
            self._is_ready, self._ready_s = True, time.monotonic()
            self._health = replace(self._health, is_ready=True, pid=process.pid)
            restarted = bool(self._health.last_fault)
            self._changed.notify_all()
        if restarted:
            self._report(f"the model's process is back (pid {process.pid})")
        return None

    def _warm_up(self, process: ModelProcess) -> None:
        request = {"op": requests.WARM_UP, "cameras": list(self._cameras or ())}
        process.call(request, [], self._load_timeout_s, LOAD_PARAMETER)

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self._given_up, self._is_ready = error, False
            self._health = replace(self._health, is_ready=False, pid=0, last_fault=str(error))
            self._changed.notify_all()

    def _pause(self, lost: Exception, delay_s: float) -> bool:
        """Say what happened and wait; False where it was closed meanwhile."""
        with self._changed:
            self._is_ready, self._process = False, None
            if self._closed:
                return False
            self._fault_s = time.monotonic()
            self._health = replace(self._health, is_ready=False, pid=0, last_fault=str(lost))
        self._report(f"{lost}; next start in {delay_s:g} s")
        with self._changed:
            self._changed.wait_for(lambda: self._closed, delay_s)
            return not self._closed
