"""One life of the model's process: started, called with a time limit, and its end explained."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from alpamayo_ros.isolation import faults
from alpamayo_ros.isolation.channel import Channel, ChannelClosed, ChannelTimeout, Message
from alpamayo_ros.isolation.faults import ModelFault, ModelProcessError
from alpamayo_ros.isolation.frames import SharedFrames

# The same modules as here, wherever this process found them.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1].split(':'); "
    "from alpamayo_ros.isolation.child import main; sys.exit(main(sys.argv[2:]))"
)
REAP_S = 5.0  # a process that the kernel has ended, or that was sent SIGKILL, is reaped within


class ModelProcess:
    """Start it, and `watch` it, in one thread that lives as long: the kernel ends a child with the
    thread that started it. `call` it in any, one at a time."""

    def __init__(self, frames: SharedFrames) -> None:
        ours, theirs = socket.socketpair()
        self._oom_kills = faults.oom_kills()
        with theirs:
            self._popen = subprocess.Popen(
                [
                    sys.executable, "-c", _PROGRAM, ":".join(filter(None, sys.path)),
                    str(theirs.fileno()), str(frames.fd), str(frames.slot_bytes), str(os.getpid()),
                ],
                pass_fds=(theirs.fileno(), frames.fd),
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._channel = Channel(ours)
        self._in_use, self._naming = threading.Lock(), threading.Lock()
        self._reason: ModelProcessError | None = None  # why we killed it, where we did

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    def watch(self) -> ModelProcessError:
        """Wait for its end, and say what it was."""
        self._popen.wait()
        with self._in_use:
            self._channel.close()
        return self._end()

    def call(
        self,
        header: dict[str, Any],
        arrays: Sequence[NDArray[Any]],
        limit_s: float,
        limit_parameter: str,
    ) -> Message:
        """A request and its reply.

        Raises ModelProcessError where the process is lost, or took longer and was killed; and what
        the backend raised there.
        """
        with self._in_use:
            try:
                self._channel.send(header, arrays)
                reply = self._channel.receive(limit_s)
            except ChannelTimeout:
                self.kill(faults.hung(header["op"], limit_s, limit_parameter))
                raise self._lost() from None
            except ChannelClosed:
                raise self._lost() from None
        error = reply.header.get("error")
        if error is not None:
            raise faults.raised_there(error["name"], error["message"], error["is_for_users"])
        return reply

    def kill(self, reason: ModelProcessError) -> None:
        """End it at once, from any thread; the first reason stands."""
        with self._naming:
            if self._popen.poll() is None:
                self._reason = self._reason or reason
                self._popen.kill()

    def _lost(self) -> ModelProcessError:
        try:
            self._popen.wait(REAP_S)
        except subprocess.TimeoutExpired:  # it closed the channel, and goes on
            self.kill(ModelProcessError(ModelFault.CRASHED, "the model's process broke off"))
            self._popen.wait(REAP_S)
        return self._end()

    def _end(self) -> ModelProcessError:
        with self._naming:
            if self._reason is None:
                self._reason = faults.ended(self._popen.returncode, self._oom_kills)
            return self._reason
