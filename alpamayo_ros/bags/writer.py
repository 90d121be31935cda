"""Writing rosbag2 recordings (mcap) without ROS."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from alpamayo_ros.bags.typestore import make_message, package_typestore
from alpamayo_ros.errors import BagError, UserError

# Humble's rosbag2 parses a topic's QoS as a string of YAML with numbers. Version 8 is the last
# that writes it so; version 9 writes a sequence with names, on which Humble stops. Jazzy and
# Kilted read both.
BAG_VERSION: Literal[8] = 8

_FOREVER = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)
_LOCK = ".alpamayo_lock"  # in a hidden sibling: held by its writer, and free once that was killed
_BAG_SUFFIXES = (".mcap", ".db3", ".zstd", ".db3-shm", ".db3-wal")


class BagWriter:
    """Writes a rosbag2 folder, or one bare file where `path` ends in .mcap.

    Everything goes to a hidden sibling first and takes its name when the `with` block ends without
    an exception; otherwise it is removed and nothing is left under `path`. Raises UserError where
    `path` exists (unless `overwrite`, and then only a bag is replaced, or it is an empty folder) or
    cannot be written.

    `remove_stale`: remove the siblings that killed writers of the same bag left, if they too were
    opened with it. Not for what cannot be made again: such a sibling holds what was recorded.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        typestore: Typestore | None = None,
        remove_stale: bool = False,
    ) -> None:
        self.path = Path(path)
        self.typestore = package_typestore() if typestore is None else typestore
        self._bare = self.path.suffix == ".mcap"
        self._overwrite, self._remove_stale = overwrite, remove_stale
        self._lock: int | None = None
        self._topics: dict[str, Connection] = {}
        self._folder: Path | None = None  # the hidden sibling, while writing
        self._writer: Writer | None = None
        self._check_target()

    def __enter__(self) -> BagWriter:
        try:
            self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(
                tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.absolute().parent)
            )
            if self._remove_stale:
                self._lock = _locked(self._folder)
                _remove_stale(self._folder, self.path.name)
            # rosbags names the mcap after its folder, and so does the metadata inside it.
            stem = self.path.stem if self._bare else self.path.name
            self._writer = Writer(
                self._folder / stem, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except OSError as error:
            self._discard()
            raise self._failure(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        writer, folder = self._writer, self._folder
        if writer is None or folder is None:
            return
        if kind is not None:
            self._discard()
            return
        try:
            writer.close()
            self._check_target()  # it may have appeared while we were writing
            written = writer.path / f"{writer.path.name}.mcap" if self._bare else writer.path
            if self.path.exists():
                self.path.rename(folder / "replaced")
            written.rename(self.path)
        except OSError as failure:
            raise self._failure(failure) from failure
        finally:
            self._discard()

    def abandon(self) -> None:
        """Keep what is on the disk under `path`, cut off: it takes no more. Nothing is raised."""
        writer, self._writer = self._writer, None
        if writer is not None and is_free(self.path):
            with suppress(OSError):  # a full disk refuses the last flush too
                writer.abort()
            written = writer.path / f"{writer.path.name}.mcap" if self._bare else writer.path
            with suppress(OSError):
                written.rename(self.path)
        self._discard()

    def add_topic(self, topic: str, msgtype: str, *, latched: bool = False) -> None:
        """Declare a topic; again with the same type does nothing.

        `latched`: players offer it transient-local and reliable, so that late joiners hear it
        (/tf_static). Raises BagError for a type that neither Jazzy nor this package has.
        """
        writer = self._open_writer()
        if topic in self._topics:
            if self._topics[topic].msgtype != msgtype:
                raise BagError(
                    f"{self.path}: {topic} is {self._topics[topic].msgtype}, not {msgtype}"
                )
            return
        if msgtype not in self.typestore.fielddefs:
            raise BagError(f"{self.path}: {topic}: {msgtype} is not a known message type")
        self._topics[topic] = writer.add_connection(
            topic,
            msgtype,
            typestore=self.typestore,
            offered_qos_profiles=[_LATCHED] if latched else [],
        )

    def write(self, topic: str, log_time_ns: int, message: Any) -> None:
        """Write one message of a declared topic (a rosbags message: see `make`)."""
        connection = self._connection(topic)
        try:
            data = self.typestore.serialize_cdr(message, connection.msgtype)
        except Exception as error:  # generated code: any exception, by what the field holds
            raise BagError(
                f"{self.path}: {topic}: not a valid {connection.msgtype}: {error}"
            ) from error
        self.write_raw(topic, log_time_ns, data)

    def write_raw(self, topic: str, log_time_ns: int, cdr: bytes | memoryview) -> None:
        """Write one message as it came over the wire."""
        connection = self._connection(topic)
        if not 0 <= log_time_ns < 2**63:
            raise BagError(f"{self.path}: {topic}: log time {log_time_ns} ns is not a stamp")
        try:
            self._open_writer().write(connection, int(log_time_ns), cdr)
        except OSError as error:
            raise self._failure(error) from error

    def make(self, msgtype: str, /, **fields: Any) -> Any:
        """A message to write; fields not named are zero, empty or default messages."""
        return make_message(self.typestore, msgtype, fields)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise BagError(f"{self.path} is not open: use `with BagWriter(path) as writer`")
        return self._writer

    def _connection(self, topic: str) -> Connection:
        self._open_writer()
        if topic not in self._topics:
            raise BagError(f"{self.path}: {topic} was not declared with add_topic")
        return self._topics[topic]

    def _check_target(self) -> None:
        """Refuse what must not be replaced."""
        if is_free(self.path) and not (self._bare and self.path.is_dir()):
            return
        if not self._overwrite:
            raise UserError(f"{self.path} exists; name another, or pass --overwrite")
        reason = _not_a_bag(self.path, self._bare)
        if reason:
            raise UserError(f"{self.path} is not replaced: {reason}")

    def _failure(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {os.strerror(error.errno or 0)}")

    def _discard(self) -> None:
        """Close what is open and remove the hidden sibling."""
        writer, self._writer = self._writer, None
        folder, self._folder = self._folder, None
        if writer is not None:
            with suppress(OSError):  # a full disk refuses the last flush too
                writer.abort()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def is_free(path: Path) -> bool:
    """Whether a bag can take this name: nothing is there, or an empty folder."""
    if path.is_symlink() or not path.is_dir():
        return not (path.exists() or path.is_symlink())
    try:  # a folder that is mounted is empty, and yet nothing can be put in its place
        return not path.is_mount() and not any(path.iterdir())
    except OSError:  # one that cannot be looked into
        return False


def _locked(folder: Path) -> int | None:
    """Mark a hidden sibling as in use; None where the file system has no locks.

    A lock and no process number: numbers mean nothing in another container or on another machine.
    """
    # Its name comes last: whoever finds it finds it held.
    unnamed = folder / f"{_LOCK}.new"
    lock = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    unnamed.rename(folder / _LOCK)
    return lock


def _remove_stale(own: Path, name: str) -> None:
    """Remove the siblings of `own`, for the same bag, whose writer was killed."""
    hidden = re.compile(re.escape(f".{name}.") + r"[a-z0-9_]{8}")  # as mkdtemp names them
    for sibling in own.parent.iterdir():
        if sibling == own or not hidden.fullmatch(sibling.name):
            continue
        if (sibling / "replaced").exists():
            continue  # killed as it took its name: it has the bag that was there before
        with suppress(OSError):  # no lock, or one that is held
            lock = os.open(sibling / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(sibling, ignore_errors=True)
            finally:
                os.close(lock)


def _not_a_bag(path: Path, bare: bool) -> str:
    """Why `path` may not be replaced by a bag; empty where it is one and holds nothing else."""
    if path.is_symlink():
        return "it is a symbolic link"
    if bare:
        return "" if path.is_file() else "it is a folder, and a .mcap file was asked for"
    if not path.is_dir():
        return "it is a file, not a bag folder"
    names = [entry.name for entry in path.iterdir()]
    if not names:
        return ""
    if not any(name.endswith(_BAG_SUFFIXES) for name in names):
        return "it is a folder without a recording in it"
    other = [n for n in names if n != "metadata.yaml" and not n.endswith(_BAG_SUFFIXES)]
    return f"it holds {', '.join(sorted(other))} beside the recording" if other else ""
