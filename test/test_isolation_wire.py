"""What passes between the node's process and the model's, and how the latter's ends are named."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from alpamayo_ros.isolation import faults, frames
from alpamayo_ros.isolation.channel import Channel, ChannelClosed, ChannelTimeout
from alpamayo_ros.isolation.codec import ArrayReader, pack, unpack
from alpamayo_ros.isolation.faults import ModelFault
from alpamayo_ros.types import CriticalComponent

WAIT_S = 30.0  # for what takes milliseconds


def test_how_ends_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By return code, and by the kernel's count of out-of-memory kills."""
    monkeypatch.setattr(faults, "oom_kills", lambda: 5)
    assert faults.ended(-9, 5).fault == ModelFault.KILLED
    assert faults.ended(-9, None).fault == ModelFault.KILLED
    assert faults.ended(-9, 4).fault == ModelFault.OUT_OF_MEMORY
    assert faults.ended(-11, 4).fault == ModelFault.CRASHED
    assert faults.ended(1, 4).fault == ModelFault.EXITED


@pytest.mark.parametrize(
    ("name", "kind"),
    [("MemoryError", MemoryError), ("ValueError", ValueError), ("OutOfMemoryError", None),
     ("UnicodeDecodeError", None), ("KeyError", None), ("SystemExit", None), ("print", None)],
)  # fmt: skip
def test_exceptions_of_another_process(name: str, kind: type[Exception] | None) -> None:
    """Python's own where they can be made of a text, else of a class with the same name."""
    error = faults.raised_there(name, "no memory for the cache", False)
    assert (type(error).__name__, str(error)) == (name, "no memory for the cache")
    assert isinstance(error, kind or faults.ModelCallError)


def test_the_wire_refuses_garbage() -> None:
    """Lengths, JSON and arrays that are none, an end in the middle, silence: each by an error."""
    for sent in (
        struct.pack("<II", 2**32 - 1, 0),
        struct.pack("<II", 4, 0) + b"nope",
        struct.pack("<II", 2, 0) + b"[]",
        struct.pack("<II", 100, 0) + b"{",
    ):
        ours, theirs = socket.socketpair()
        with ours:
            theirs.sendall(sent)
            theirs.close()
            with pytest.raises(ChannelClosed):
                Channel(ours).receive(WAIT_S)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChannelTimeout):
        Channel(ours).receive(0.01)
    with pytest.raises(ValueError, match="object"):
        ArrayReader(b"").take({"dtype": "|O", "shape": [1]})
    with pytest.raises(ValueError):
        ArrayReader(b"1234").take({"dtype": "<f8", "shape": [4]})
    with pytest.raises(ValueError, match="no CriticalComponent: TypeError: 3 is no"):
        unpack(CriticalComponent, {"category": 3, "text": ""}, ArrayReader(b""))
    with pytest.raises(TypeError, match="cannot be handed"):
        pack({"a": b"bytes"}, [])


def test_frames_do_not_shrink() -> None:
    """Nobody can cut the memory short under the other process."""
    memory = frames.SharedFrames.create(1)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)
    memory.close()
