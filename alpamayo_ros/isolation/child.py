"""The model's process: loads a backend and serves the node's calls, one at a time.

Not for people to start: `process.py` does, with a socket and the frames' memory already open.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.errors import UserError
from alpamayo_ros.isolation import requests
from alpamayo_ros.isolation.channel import Channel, ChannelClosed, Message
from alpamayo_ros.isolation.codec import unpack
from alpamayo_ros.isolation.frames import SharedFrames
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.memory import MODEL_BYTES, keep_freed_memory
from alpamayo_ros.types import Answer, LateReasoning, Plan

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # prctl(2)
OOM_SCORE = "500"  # the kernel's out-of-memory killer is to take the model before the node


class Server:
    """One backend behind the channel."""

    def __init__(self, channel: Channel, frames: SharedFrames) -> None:
        self._channel, self._frames = channel, frames
        self._backend: PlannerBackend | None = None
        # Under way, by the request that began them: an answer, a reasoning.
        self._work: dict[str, Generator[None, None, Answer | LateReasoning]] = {}

    def serve(self) -> None:
        """Until the node asks to close, or is gone."""
        actions = {
            requests.LOAD: self._load,
            requests.WARM_UP: self._warm_up,
            requests.FORGET: self._forget,
            requests.FORESEE: self._foresee,
            requests.PLAN: self._plan,
            requests.ASK: self._ask,
            requests.REASON: self._reason,
            requests.STEP: self._step,
            requests.DROP: self._drop,
            requests.CLOSE: self._close,
        }
        while True:
            message = self._channel.receive()
            op = message.header["op"]
            try:
                reply, arrays = actions[op](message)
                self._channel.send(reply, arrays)
            except ChannelClosed:
                raise
            except Exception as error:  # a model may raise anything; the node must hear of it
                self._channel.send({"error": _told(error)})
            if op == requests.CLOSE:
                return

    def _load(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        header = message.header
        # `options` are any JSON, of which the codec knows nothing.
        manifest = unpack(Manifest, header["manifest"], message.arrays, options=header["options"])
        module_name, class_name = header["entry"].split(":")
        backend = getattr(importlib.import_module(module_name), class_name)(manifest)
        assert isinstance(backend, PlannerBackend)
        backend.load()
        self._backend = backend
        return {requests.FORESIGHT: backend.foresight}, []

    def _warm_up(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        self._loaded.warm_up(message.header["cameras"])
        return {}, []

    def _forget(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        self._loaded.forget()
        return {}, []

    def _foresee(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        self._loaded.foresee(requests.unpack_frames(message.header["frames"], message.arrays))
        return {}, []

    def _plan(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        sample = requests.unpack_sample(message.header["sample"], message.arrays, self._frames)
        plan = self._loaded.plan(sample)
        if not isinstance(plan, Plan):
            raise TypeError(f"the model gave {type(plan).__name__}, no plan")
        return requests.pack_result("plan", plan)

    def _ask(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        sample = requests.unpack_sample(message.header["sample"], message.arrays, self._frames)
        self._begin(requests.ASK, self._loaded.ask(sample, message.header["question"]))
        return {}, []

    def _reason(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        self._begin(requests.REASON, self._loaded.reason())
        return {}, []

    def _begin(self, what: str, work: Generator[None, None, Answer | LateReasoning]) -> None:
        self._end(what)
        self._work[what] = work

    def _step(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        what = message.header["of"]
        try:
            next(self._work[what])
            return {}, []
        except StopIteration as stop:
            wanted = Answer if what == requests.ASK else LateReasoning
            if not isinstance(stop.value, wanted):
                name = type(stop.value).__name__
                raise TypeError(f"the model gave {name}, no {wanted.__name__.lower()}") from None
            return requests.pack_result(what, stop.value)

    def _drop(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        self._end(message.header["of"])
        return {}, []

    def _end(self, what: str) -> None:
        work = self._work.pop(what, None)
        if work is not None:
            work.close()

    def _close(self, message: Message) -> tuple[dict[str, Any], list[Any]]:
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()
        return {}, []

    @property
    def _loaded(self) -> PlannerBackend:
        assert self._backend is not None
        return self._backend


def _told(error: Exception) -> dict[str, Any]:
    for_users = isinstance(error, UserError)
    if not for_users:
        traceback.print_exc()
    return {"name": type(error).__name__, "message": str(error), "is_for_users": for_users}


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the node, even in the middle of a call."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    prctl(PR_SET_NAME, b"alpamayo_model", 0, 0, 0)
    if os.getppid() != parent:  # it ended before it could be heard of
        sys.exit(0)


def main(arguments: Sequence[str]) -> int:
    """Serve: socket, frames' memory, its slots' size, the node's process id."""
    socket_fd, frames_fd, slot_bytes, parent = map(int, arguments)
    _die_with(parent)
    faulthandler.enable()
    keep_freed_memory(MODEL_BYTES)
    # Ctrl-C and a service manager's SIGTERM reach both processes: the node decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    except OSError:
        pass  # without procfs the kernel chooses by size, which is the model's too
    channel = Channel(socket.socket(fileno=socket_fd))
    try:
        Server(channel, SharedFrames(frames_fd, slot_bytes)).serve()
    except ChannelClosed:
        pass  # the node is gone
    return 0
