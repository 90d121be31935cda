"""Reading rosbag2 recordings (mcap, sqlite3) without ROS, whole or cut off."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinitionFormat,
    QosDurability,
)
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from alpamayo_ros.bags.recovery import CutOffMcap, reordered
from alpamayo_ros.bags.typestore import package_typestore
from alpamayo_ros.errors import BagError

_STORAGE_SUFFIXES = (".mcap", ".db3")
_IDL_SEPARATOR = "=" * 80 + "\n"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic of a recording."""

    type: str
    count: int
    latched: bool  # recorded transient-local: a player must offer it so


class BagReader:
    """A recording: a bag folder, a bare .mcap or a bare .db3.

    A folder without metadata.yaml and an .mcap without its end, as a killed recorder leaves them,
    give what they hold; `warnings` then says so. One iteration at a time. Whatever cannot be read
    raises BagError with the path and the remedy.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.topics: Mapping[str, TopicInfo] = MappingProxyType({})
        self.start_ns = 0  # log time of the first message; 0 in an empty bag
        self.end_ns = 0  # log time of the last message
        self._readers: list[Reader] = []
        self._stores: dict[str, Typestore] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BagReader:
        try:
            self._readers = self._open()
        except OSError as error:
            self._stack.close()
            raise BagError(f"cannot read {self.path}: {error.strerror or error}") from error
        except BaseException:
            self._stack.close()
            raise
        counted = [r for r in self._readers if r.message_count]
        if counted:
            self.start_ns = min(r.start_time for r in counted)
            self.end_ns = max(r.end_time for r in counted) - 1
        self.topics = self._summarise()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._readers = []
        self._stack.close()

    def require(self, topics: Iterable[str] | Mapping[str, Collection[str]]) -> None:
        """BagError unless the bag has every topic, naming those it has and the likely ones.

        A mapping gives each topic the message types that will do; none named: any.
        """
        wanted: dict[str, Collection[str]] = (
            dict(topics) if isinstance(topics, Mapping) else dict.fromkeys(topics, ())
        )
        faults = [fault for topic, types in wanted.items() if (fault := self._fault(topic, types))]
        if not faults:
            return
        listing = "\n".join(
            f"  {name}  {info.type}  {info.count} messages"
            for name, info in sorted(self.topics.items())
        )
        raise BagError(
            f"{self.path}: " + "; ".join(faults) + "\nIt has:\n" + (listing or "  no topics")
        )

    def messages(
        self,
        topics: Iterable[str] | None = None,
        *,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, log time, message) of these topics (None: all) in log-time order.

        Messages are rosbags objects: fields as in ROS, number sequences as numpy views.
        `stop_ns` itself is left out.
        """
        for topic, msgtype, log_ns, data in self.raw_messages(
            topics, start_ns=start_ns, stop_ns=stop_ns
        ):
            yield topic, log_ns, self._deserialize(topic, msgtype, log_ns, data)

    def raw_messages(
        self,
        topics: Iterable[str] | None = None,
        *,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[tuple[str, str, int, bytes]]:
        """(topic, type, log time, CDR) as recorded; types need not be known."""
        names = None if topics is None else set(topics)
        streams = []
        for reader in self._readers:
            chosen = [c for c in reader.connections if names is None or c.topic in names]
            if chosen:  # to rosbags no connections would mean all of them
                streams.append(_stream(reader, chosen, start_ns, stop_ns))
        merged = heapq.merge(*streams, key=lambda item: item[1])
        while True:
            try:
                connection, log_ns, data = next(merged)
            except StopIteration:
                return
            except Exception as error:  # damaged bytes raise whatever the parser stumbles over
                detail = str(error) or type(error).__name__
                raise BagError(f"{self.path} is damaged: {detail} {_remedy(self.path)}") from error
            yield connection.topic, connection.msgtype, log_ns, data

    def typestore(self, msgtype: str) -> Typestore | None:
        """The store that reads `msgtype`: from the bag's own definition, else the package's.

        None where neither has it; such messages can still be copied and played raw.
        """
        if msgtype not in self._stores:
            store = self._from_definition(msgtype)
            if store is None and msgtype in package_typestore().fielddefs:
                store = package_typestore()
            if store is None:
                return None
            self._stores[msgtype] = store
        return self._stores[msgtype]

    # --- opening ---

    def _open(self) -> list[Reader]:
        path = self.path
        if not path.exists():
            raise BagError(f"{path} does not exist")
        if path.is_file():
            if path.suffix == ".bag":
                raise BagError(
                    f"{path} is a ROS 1 bag; convert it: "
                    f"rosbags-convert --src {path} --dst {path.with_suffix('')}"
                )
            if path.suffix not in _STORAGE_SUFFIXES:
                raise BagError(
                    f"{path} is not a recording: wanted a rosbag2 folder, an .mcap or a .db3 file"
                )
            return [self._open_file(path)]
        files = sorted(p for p in path.iterdir() if p.suffix in _STORAGE_SUFFIXES)
        if (path / "metadata.yaml").exists():
            try:
                reader = self._enter(Reader(path))
            except Exception as error:
                if not any(_is_cut_off(f) for f in files):
                    raise BagError(f"{path} is not readable: {error}. {_remedy(path)}") from error
            else:
                # rosbags reads the files of a split bag one after the other, each sorted; opened
                # one by one their messages can be merged, unless they are compressed.
                if len(files) < 2 or reader.compression_mode:
                    return [reader]
        elif files:
            self.warnings.append(f"{path} has no metadata.yaml: read from its files")
        if not files:
            hint = "; it holds ROS 1 bags: rosbags-convert" if list(path.glob("*.bag")) else ""
            raise BagError(
                f"{path} is not a rosbag2 folder: no metadata.yaml, no .mcap, no .db3{hint}"
            )
        return [self._open_file(file) for file in files]

    def _open_file(self, file: Path) -> Reader:
        try:
            if _is_cut_off(file):
                part = CutOffMcap(file)
                reader = self._enter(Reader(part))  # type: ignore[arg-type]
                self.warnings.append(
                    f"{file} is cut off: {reader.message_count} messages read from "
                    f"{part.kept_bytes / 1e6:.1f} of {part.file_bytes / 1e6:.1f} MB"
                )
                return reader
            return self._enter(Reader(file))
        except Exception as error:  # damaged bytes raise whatever the parser stumbles over
            detail = str(error) or type(error).__name__
            raise BagError(f"{file} is not readable: {detail} {_remedy(file)}") from error

    def _enter(self, reader: Reader) -> Reader:
        return self._stack.enter_context(reader)

    # --- topics and types ---

    def _summarise(self) -> Mapping[str, TopicInfo]:
        topics: dict[str, TopicInfo] = {}
        for connection in (c for reader in self._readers for c in reader.connections):
            have = topics.get(connection.topic, TopicInfo(connection.msgtype, 0, False))
            if have.type != connection.msgtype:
                raise BagError(
                    f"{self.path}: {connection.topic} was recorded as {have.type} and as "
                    f"{connection.msgtype}; split it with ros2 bag convert"
                )
            latched = have.latched or _is_latched(connection)
            topics[connection.topic] = TopicInfo(
                have.type, have.count + connection.msgcount, latched
            )
        return MappingProxyType(topics)

    def _fault(self, topic: str, types: Collection[str]) -> str:
        """What is wrong with a wanted topic, with guesses; empty where nothing is."""
        if topic in self.topics:
            have = self.topics[topic].type
            wrong = types and have not in types
            return f"{topic} is {have}, wanted {' or '.join(types)}" if wrong else ""
        guesses = [name for name, info in self.topics.items() if info.type in types]
        guesses += difflib.get_close_matches(topic, self.topics, n=3, cutoff=0.6)
        unique = ", ".join(dict.fromkeys(guesses))
        return f"no topic {topic}" + (f" (did you mean {unique}?)" if unique else "")

    def _from_definition(self, msgtype: str) -> Typestore | None:
        """A store of the bag's own definition of one type; None where there is none that parses."""
        for connection in (c for reader in self._readers for c in reader.connections):
            definition = connection.msgdef
            if connection.msgtype != msgtype or definition.format == MessageDefinitionFormat.NONE:
                continue
            with _unless_damaged():  # a definition that rosbags cannot parse: as if absent
                store = _store_of(msgtype, definition.format, definition.data)
                self._check_fields(store)
                return store
        return None

    def _check_fields(self, store: Typestore) -> None:
        """Raises BagError where a standard type lacks a field: its definition is damaged."""
        ours = package_typestore()
        for name in set(store.fielddefs) & set(ours.fielddefs):
            if name.startswith("alpamayo_ros/"):
                continue  # older recordings know fewer fields
            held = {field for field, _ in store.fielddefs[name][1]}
            lacking = [field for field, _ in ours.fielddefs[name][1] if field not in held]
            if lacking:
                raise BagError(
                    f"{self.path}: its definition of {name} lacks {', '.join(lacking)}: it is "
                    f"damaged. {_remedy(self.path)}"
                )

    def _deserialize(self, topic: str, msgtype: str, log_ns: int, data: bytes) -> Any:
        store = self.typestore(msgtype)
        if store is None:
            raise BagError(
                f"{self.path}: {topic} is {msgtype}, which neither the bag nor ROS 2 Jazzy "
                "defines; record it as mcap, which keeps the definitions"
            )
        try:
            return store.deserialize_cdr(data, msgtype)
        except Exception as error:
            raise BagError(
                f"{self.path}: {topic} at {log_ns} ns is not a valid {msgtype}: {error}"
            ) from error


@lru_cache(maxsize=64)  # the bags of one fleet define their types alike
def _store_of(msgtype: str, form: MessageDefinitionFormat, definition: str) -> Typestore:
    """A store of one type by its definition; raises whatever rosbags does where it is damaged."""
    store = get_typestore(Stores.EMPTY)
    if form == MessageDefinitionFormat.MSG:
        store.register(get_types_from_msg(definition, msgtype))
    else:
        for part in definition.split(_IDL_SEPARATOR):
            text = part.split("\n", 1)[1] if part.startswith("IDL: ") else part
            if text.strip():
                store.register(get_types_from_idl(text))
    store.get_msgdef(msgtype)
    return store


def _stream(
    reader: Reader, chosen: list[Connection], start_ns: int | None, stop_ns: int | None
) -> Iterator[tuple[Connection, int, bytes]]:
    """One file's messages by log time; rosbags refuses to sort those of an mcap without index."""
    storage = reader.storage
    if isinstance(storage, McapReader) and not storage.chunks:
        return reordered(storage.messages_scan(chosen, start_ns, stop_ns))
    return reader.messages(chosen, start_ns, stop_ns)


@contextmanager
def _unless_damaged() -> Iterator[None]:
    """Anything but a BagError goes unsaid."""
    try:
        yield
    except BagError:
        raise
    except Exception:
        pass


def _is_latched(connection: Connection) -> bool:
    ext = connection.ext
    return isinstance(ext, ConnectionExtRosbag2) and any(
        qos.durability == QosDurability.TRANSIENT_LOCAL for qos in ext.offered_qos_profiles
    )


def _is_cut_off(file: Path) -> bool:
    return file.suffix == ".mcap" and CutOffMcap.applies_to(file)


def _remedy(path: Path) -> str:
    if path.suffix == ".db3":
        return "Remedy: sqlite3 X.db3 .recover | sqlite3 fixed.db3, or record again."
    return "Remedy: `mcap recover` or `ros2 bag reindex`, or copy or record it again."
