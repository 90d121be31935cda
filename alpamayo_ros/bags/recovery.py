"""Reading an .mcap that was cut off: a killed recorder, a full disk, an unfinished copy."""

from __future__ import annotations

import heapq
import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"\x89MCAP0\r\n"
_DATA_END = 0x0F
# A footer that says "no summary": rosbags then scans the records themselves.
_FOOTER = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + MAGIC
REORDER_WINDOW_NS = 1_000_000_000


class CutOffMcap:
    """Stands in for the path of a cut-off .mcap: opens as its whole records plus a footer.

    rosbags takes any object with these methods for a path, so that nothing is copied or repaired
    on disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file_bytes = path.stat().st_size
        self.kept_bytes = _whole_records(path, self.file_bytes)
        self.suffix, self.stem = path.suffix, path.stem

    @staticmethod
    def applies_to(path: Path) -> bool:
        """True for a file that starts as an mcap and does not end as one."""
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return False
            file.seek(max(0, path.stat().st_size - len(MAGIC)))
            return file.read() != MAGIC

    def exists(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def open(self, *args: Any, **kwargs: Any) -> BinaryIO:
        """The whole records and the footer as one seekable stream."""
        return io.BufferedReader(_WithFooter(self._path, self.kept_bytes))

    def __str__(self) -> str:
        return str(self._path)


class _WithFooter(io.RawIOBase):
    """The first `kept` bytes of a file, then a footer."""

    def __init__(self, path: Path, kept: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._kept, self._at = kept, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._kept + len(_FOOTER)}
        self._at = base[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._at < self._kept:
            self._file.seek(self._at)
            count = self._file.readinto(view[: self._kept - self._at]) or 0
        else:
            part = _FOOTER[self._at - self._kept :][: len(view)]
            count = len(part)
            view[:count] = part
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _whole_records(path: Path, size: int) -> int:
    """The length of the leading part that consists of whole data records."""
    with path.open("rb") as file:
        at = len(MAGIC)
        while at + 9 <= size:
            file.seek(at)
            opcode, length = struct.unpack("<BQ", file.read(9))
            # 0 is no record: the zeros of a preallocated file after a loss of power.
            if opcode == 0 or opcode == _DATA_END or at + 9 + length > size:
                break
            at += 9 + length
    return at


def reordered(messages: Iterable[tuple[Any, int, bytes]]) -> Iterator[tuple[Any, int, bytes]]:
    """Messages in log-time order, of a file whose writer was at most REORDER_WINDOW_NS off."""
    waiting: list[tuple[int, int, tuple[Any, int, bytes]]] = []
    newest = 0
    for number, item in enumerate(messages):
        newest = max(newest, item[1])
        heapq.heappush(waiting, (item[1], number, item))
        while waiting[0][0] <= newest - REORDER_WINDOW_NS:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
