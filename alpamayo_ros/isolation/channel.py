"""Messages between two processes: a JSON header and the bytes of arrays, over a local socket."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.isolation.codec import ArrayReader

_LENGTHS = struct.Struct("<II")  # of the header and of the arrays' bytes
MAX_BYTES = 64 << 20  # of either: far above any plan, and far below what garbage may say


class ChannelClosed(Exception):
    """The other side is gone."""


class ChannelTimeout(Exception):
    """The other side did not answer in time."""


@dataclass(frozen=True, slots=True)
class Message:
    """What was received."""

    header: dict[str, Any]
    arrays: ArrayReader


class Channel:
    """One end of a socket pair; one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, header: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Raises ChannelClosed; TypeError or ValueError where the header is no JSON."""
        text = json.dumps(header).encode()
        body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        for part in (text, body):
            if len(part) > MAX_BYTES:
                raise ValueError(f"a message of {len(part)} bytes, at most {MAX_BYTES}")
        try:
            self._end.sendall(_LENGTHS.pack(len(text), len(body)) + text + body)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises ChannelClosed, ChannelTimeout."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        n_header, n_body = _LENGTHS.unpack(self._exactly(_LENGTHS.size, deadline))
        if max(n_header, n_body) > MAX_BYTES:
            raise ChannelClosed(f"garbage: a message of {max(n_header, n_body)} bytes")
        header = self._exactly(n_header, deadline)
        body = self._exactly(n_body, deadline)
        try:
            told = json.loads(header.decode())
        except ValueError as error:
            raise ChannelClosed(f"garbage: {error}") from error
        if not isinstance(told, dict):
            raise ChannelClosed("garbage: a header that is no mapping")
        return Message(told, ArrayReader(body))

    def _exactly(self, count: int, deadline: float | None) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            try:
                if deadline is not None:
                    # A timeout of 0 would make the socket non-blocking, which is another error.
                    self._end.settimeout(max(deadline - time.monotonic(), 1e-4))
                got = self._end.recv_into(view)
            except TimeoutError as error:
                raise ChannelTimeout from error
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not got:
                raise ChannelClosed("end of the connection")
            view = view[got:]
        return data

    def close(self) -> None:
        """The other side hears of it."""
        self._end.close()
