# SPDX-License-Identifier: Apache-2.0
"""Reading recordings without ROS: rosbag2 (mcap or sqlite3), and ROS 1 bags.

Every fault of a recording becomes a :class:`~proto_mtl_ros.errors.BagError` of one line.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from proto_mtl_ros.data.bags.mcap_storage import McapStorage
from proto_mtl_ros.data.bags.ros1 import Ros1Storage, converter
from proto_mtl_ros.data.bags.sqlite_storage import SqliteStorage
from proto_mtl_ros.data.bags.stamp_log import header_stamp
from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    SUFFIXES,
    Channel,
    Metadata,
    Storage,
    check_folder,
    read_metadata,
    unpack,
    unpack_file,
)
from proto_mtl_ros.errors import NO_ROOM, BagError, one_line
from proto_mtl_ros.files import ScratchFolder

_STORAGES: dict[str, type[McapStorage] | type[SqliteStorage] | type[Ros1Storage]] = {
    ".mcap": McapStorage,
    ".db3": SqliteStorage,
    ".bag": Ros1Storage,
}
_READ = ("cdr", "ros1")
_LONGEST_DEFINITION = 100_000
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)


@dataclass(frozen=True)
class Topic:
    """A recorded topic: its name, its ROS type (``package/msg/Type``), its number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """A recorded message, still serialised: ``time`` of recording in nanoseconds, the definition of
    its type as the recording has it (empty: that of the ROS distribution).
    """

    topic: str
    type: str
    time: int
    cdr: bytes
    definition: str = ""
    distribution: str = ""

    @property
    def stamp(self) -> int:
        """Stamp of its header in nanoseconds; only for types that begin with a header."""
        return header_stamp(self.cdr)

    def decode(self) -> Any:
        return decode(self.type, self.cdr, self.definition, self.distribution)


@lru_cache
def typestore(distribution: str = "jazzy") -> Typestore:
    """Return the message definitions of a ROS 2 distribution; those of Jazzy for an unknown one."""
    known = {store.value: store for store in Stores}
    return get_typestore(known.get(f"ros2_{distribution.lower()}", Stores.ROS2_JAZZY))


@lru_cache
def _types_of(message_type: str, definition: str, distribution: str) -> Typestore:
    """Return a store with a type as a recording defines it, else as its distribution does."""
    known = typestore(distribution or "jazzy")
    try:
        if not definition or len(definition) > _LONGEST_DEFINITION:
            return known
        # constants are of no use here, and what becomes Python's code is names alone
        own: Any = {
            name: ([], fields)
            for name, (_, fields) in get_types_from_msg(definition, message_type).items()
        }
        if all(name in known.fielddefs and known.fielddefs[name][1] == fields
               for name, (_, fields) in own.items()):  # fmt: skip
            return known
        names = [*own, *(field for _, fields in own.values() for field, _ in fields)]
        if not all(_NAME.fullmatch(name) for name in names):
            return known
        store = get_typestore(Stores.EMPTY)
        store.register(own)
        return store
    except Exception:  # a definition that cannot be understood
        return known


def decode(message_type: str, cdr: bytes, definition: str = "", distribution: str = "") -> Any:
    """Deserialise ``cdr``; raises BagError when it is not a whole message of that type."""
    try:
        types = _types_of(message_type, definition, distribution)
        return types.deserialize_cdr(cdr, message_type)
    except Exception as error:  # the decoder raises whatever the broken bytes lead it into
        raise BagError(f"a {message_type} message cannot be decoded: {one_line(error)}") from None


def is_bag(path: Path) -> bool:
    """Tell whether ``path`` looks like a recording of ROS: a folder of rosbag2, or a file."""
    if path.is_dir():
        return (path / "metadata.yaml").exists() or bool(_storage_files(path))
    return path.suffix in _STORAGES or path.name == "metadata.yaml"


class Bag:
    """An open recording; a context manager.

    The folder with ``metadata.yaml``, a single ``.mcap`` or ``.db3`` file, or a ROS 1 ``.bag``,
    whose messages are yielded as ROS 2 serialises them. ``notes`` say what is missing, one line
    each; ``span`` is when the first message was recorded and 1 ns after the last. BagError for what
    is missing, damaged, or of an unknown kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.name == "metadata.yaml":
            self.path = self.path.parent
        self._storages: list[Storage] = []
        self._scratch: ScratchFolder | None = None
        try:
            with self._one_line_errors():
                self._metadata = self._open()
                self._check_facts()
        except BagError:
            self.close()
            raise
        spans = [storage.span for storage in self._storages if any(storage.span)]
        self.span = (min(s for s, _ in spans), max(e for _, e in spans)) if spans else (0, 0)
        self.notes = tuple(note for storage in self._storages for note in storage.notes) + tuple(
            f"{channel.topic} is recorded as {channel.encoding or 'nothing known'}: passed over"
            for channel in self._channels()
            if channel.encoding not in _READ
        )

    def _channels(self) -> Iterator[Channel]:
        return (channel for storage in self._storages for channel in storage.channels)

    def _open(self) -> Metadata:
        path = self._checked_path()
        metadata = Metadata((path,), "", "")
        if path.is_dir():
            check_folder(path, sorted(path.glob("*.*")))
            metadata = read_metadata(path)
        for file in metadata.files:
            if metadata.packed == "file":
                self._scratch = self._scratch or ScratchFolder("bag")
                unpack_file(file, self._scratch.path / file.stem)
                file = self._scratch.path / file.stem
            if file.suffix not in _STORAGES:
                raise ValueError(f"{file.name} is neither .mcap nor .db3")
            self._storages.append(_STORAGES[file.suffix](file))
        return metadata

    def _checked_path(self) -> Path:
        path = self.path
        if not path.exists():
            raise BagError(f"there is no recording at {path}: check the path")
        if path.is_dir() and not (path / "metadata.yaml").exists():
            files = _storage_files(path)
            if not files:
                raise BagError(f"{path} is not a rosbag2 folder: it holds neither .mcap nor .db3")
            if len(files) > 1:
                raise BagError(
                    f"{path} has no metadata.yaml: make one with `ros2 bag reindex {path}`, "
                    f"or give one of its files ({files[0]})"
                )
            check_folder(path, files)
            path = self.path = files[0]  # the recorder did not come to write the metadata
        if not path.is_file() and not path.is_dir():
            raise BagError(f"{path} is neither a file nor a folder: give a recording")
        if path.is_file() and path.stat().st_size == 0:
            raise BagError(f"{path} is empty: nothing was recorded into it, record again")
        return path

    def _check_facts(self) -> None:
        for text in (
            text for channel in self._channels() for text in (channel.topic, channel.type)
        ):
            if not isinstance(text, str) or not text.isprintable() or len(text) > 1000:
                raise ValueError(f"a topic is called {text!r}")
        numbers = [time for storage in self._storages for time in storage.span]
        numbers += [channel.count for channel in self._channels()]
        if any(not isinstance(n, int) or not 0 <= n < 1 << 64 for n in numbers):
            raise ValueError("a number of messages or its duration is none")

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except BagError:
            raise
        except Exception as error:  # damaged storage raises struct, sqlite and codec errors alike
            raise BagError(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        text = one_line(error)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return (
                f"there is no room to read what is whole of {self.path}: make room in"
                f" {tempfile.gettempdir()}, or set TMPDIR to another folder"
            )
        if "not indexed" in text:
            return f"{self.path} is cut off: make its index with `rosbag reindex {self.path}`"
        if "files are missing" in text:
            return f"{self.path} is incomplete: {text.rstrip('.')}: copy the whole folder again"
        return f"{self.path} cannot be read as a recording, it is damaged: {text}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The recorded topics, sorted by name."""
        counts: dict[tuple[str, str], int] = {}
        for channel in self._channels():
            if channel.encoding in _READ:
                key = (channel.topic, channel.type)
                counts[key] = counts.get(key, 0) + channel.count
        return tuple(Topic(name, kind, count) for (name, kind), count in sorted(counts.items()))

    @property
    def duration(self) -> float:
        """Seconds from the first message to the last."""
        return (self.span[1] - self.span[0]) / 1e9

    def messages(
        self,
        names: Collection[str] | None = None,
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[BagMessage]:
        """Yield the messages of the named topics (None: all) by their time of recording, from
        ``start`` to before ``stop`` (ns).
        """
        with self._one_line_errors():
            for storage in self._storages:
                for channel, time, data in storage.messages(names, start, stop):
                    # a database may hold a number where bytes belong: so many bytes, all zero
                    if not isinstance(data, bytes | memoryview) or not isinstance(time, int):
                        raise ValueError(f"a message of {channel.topic} is not made of bytes")
                    if self._metadata.packed == "message":
                        data = unpack("zstd", bytes(data), MAX_CHUNK)
                    if channel.encoding == "ros1":
                        convert = converter(channel.type)
                        if convert is None:
                            continue
                        data = convert(data)
                    elif channel.encoding != "cdr":
                        continue
                    if len(data) > MAX_CHUNK:
                        raise ValueError(f"a message of {channel.topic} has {len(data)} bytes")
                    of = (channel.definition, self._metadata.distribution)
                    of = of if channel.encoding == "cdr" else ("", "")
                    yield BagMessage(channel.topic, channel.type, time, bytes(data), *of)

    def first(self, name: str) -> BagMessage | None:
        """Return the first message of a topic, None when it has none."""
        return next(self.messages([name]), None)

    def close(self) -> None:
        for storage in self._storages:
            with suppress(Exception):  # closing what is closed, or gone
                storage.close()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _storage_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
