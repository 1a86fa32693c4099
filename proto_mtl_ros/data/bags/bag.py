# SPDX-License-Identifier: Apache-2.0
"""Reading rosbag2 recordings (mcap or sqlite3) without ROS.

Every fault of a recording becomes a :class:`~proto_mtl_ros.errors.BagError` of one line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from proto_mtl_ros.data.bags.recovery import is_cut, recover
from proto_mtl_ros.data.bags.ros1 import converter
from proto_mtl_ros.data.bags.stamp_log import header_stamp
from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    BoundedReader,
    BoundedRos1Reader,
    check_folder,
)
from proto_mtl_ros.errors import NO_ROOM, BagError, one_line
from proto_mtl_ros.files import ScratchFolder

STORAGE_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True)
class Topic:
    """A recorded topic: its name, its ROS type (``package/msg/Type``), its number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """A recorded message, still serialised.

    Attributes:
        topic: the topic it was recorded from.
        type: its ROS type.
        time: when it was recorded, nanoseconds.
        cdr: the serialised message, as ``rclpy`` publishes and receives it.
    """

    topic: str
    type: str
    time: int
    cdr: bytes

    @property
    def stamp(self) -> int:
        """Stamp of its header in nanoseconds; only for types that begin with a header."""
        return header_stamp(self.cdr)

    def decode(self) -> Any:
        """Return the message as an object with the fields of its ROS type."""
        return decode(self.type, self.cdr)


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the message definitions that recordings are read and written with."""
    return get_typestore(Stores.ROS2_JAZZY)


def decode(message_type: str, cdr: bytes) -> Any:
    """Deserialise ``cdr``; raises BagError when it is not a whole message of that type."""
    try:
        return typestore().deserialize_cdr(cdr, message_type)
    except Exception as error:  # the decoder raises whatever the broken bytes lead it into
        raise BagError(f"a {message_type} message cannot be decoded: {one_line(error)}") from None


def is_bag(path: Path) -> bool:
    """Tell whether ``path`` looks like a rosbag2 recording: its folder or one of its files."""
    if path.is_dir():
        return (path / "metadata.yaml").exists() or bool(_storage_files(path))
    return path.suffix in (*STORAGE_SUFFIXES, ".bag") or path.name == "metadata.yaml"


class Bag:
    """An open recording; a context manager.

    Args:
        path: the folder with ``metadata.yaml``, a single ``.mcap`` or ``.db3`` file, or a ROS 1
            ``.bag``, whose messages are yielded as ROS 2 serialises them.

    Attributes:
        notes: what is missing of the recording, one line each. Of a recording that was cut off,
            everything before the cut is there.

    Raises:
        BagError: the path is missing, damaged, or of an unknown kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.name == "metadata.yaml":
            self.path = self.path.parent
        self.notes: tuple[str, ...] = ()
        self._scratch: ScratchFolder | None = None
        self._check_path()
        self._is_ros1 = self.path.suffix == ".bag" and self.path.is_file()
        try:
            with self._one_line_errors():
                self._reader: Any = self._opened()
        except BagError:
            self._clean()
            raise

    def _opened(self) -> Any:
        source = self.path
        if self._is_ros1:
            reader: Any = BoundedRos1Reader(source)
        else:
            files = [source] if source.is_file() else _storage_files(source)
            if source.is_dir():
                check_folder(source, sorted(source.glob("*.*")))
            if any(is_cut(file) for file in files):
                self._scratch = ScratchFolder("bag")
                source, notes = recover(source, self._scratch.path)
                self.notes = tuple(notes)
            reader = BoundedReader(source)
        reader.open()
        try:
            _check_facts(reader)
        except ValueError:
            reader.close()
            raise
        return reader

    def _check_path(self) -> None:
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

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except BagError:
            raise
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise BagError(self._explain(error)) from None
            raise BagError(
                f"there is no room to read what is whole of {self.path}: make room in"
                f" {tempfile.gettempdir()}, or set TMPDIR to another folder"
            ) from None
        except Exception as error:  # damaged storage raises struct, sqlite and codec errors alike
            raise BagError(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        text = one_line(error)
        if "not indexed" in text:
            return f"{self.path} is cut off: make its index with `rosbag reindex {self.path}`"
        if "files are missing" in text:
            return f"{self.path} is incomplete: {text.rstrip('.')}: copy the whole folder again"
        return f"{self.path} cannot be read as a recording, it is damaged: {text}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The recorded topics, sorted by name."""
        counts: dict[tuple[str, str], int] = {}
        for connection in self._reader.connections:
            key = (connection.topic, connection.msgtype)
            counts[key] = counts.get(key, 0) + connection.msgcount
        return tuple(Topic(name, kind, count) for (name, kind), count in sorted(counts.items()))

    @property
    def span(self) -> tuple[int, int]:
        """When the first message was recorded, and 1 ns after the last; nanoseconds."""
        return self._reader.start_time, self._reader.end_time

    @property
    def duration(self) -> float:
        """Seconds from the first message to the last."""
        return self._reader.duration / 1e9

    def messages(
        self,
        names: Collection[str] | None = None,
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[BagMessage]:
        """Yield the messages of the named topics (all without ``names``) as they were recorded.

        Args:
            start, stop: only messages recorded from ``start`` to before ``stop``, nanoseconds.
        """
        connections = [c for c in self._reader.connections if names is None or c.topic in names]
        if not connections:
            return
        with self._one_line_errors():
            for connection, time, data in self._reader.messages(connections, start, stop):
                if self._is_ros1:
                    convert = converter(connection.msgtype)
                    if convert is None:
                        continue
                    data = convert(data)
                # a database may hold a number where bytes belong: so many bytes, all zero
                if not isinstance(data, bytes | memoryview) or not isinstance(time, int):
                    raise ValueError(f"a message of {connection.topic} is not made of bytes")
                if len(data) > MAX_CHUNK:
                    raise ValueError(f"a message of {connection.topic} has {len(data)} bytes")
                yield BagMessage(connection.topic, connection.msgtype, time, bytes(data))

    def first(self, name: str) -> BagMessage | None:
        """Return the first message of a topic, None when it has none."""
        return next(self.messages([name]), None)

    def close(self) -> None:
        """Close the files."""
        with suppress(Exception):  # closing what is closed, or gone
            self._reader.close()
        self._clean()

    def _clean(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _check_facts(reader: Any) -> None:
    """Refuse facts about a recording that are none; raises ValueError."""
    numbers = [reader.duration]
    for connection in reader.connections:
        numbers.append(connection.msgcount)
        for text in (connection.topic, connection.msgtype):
            if not isinstance(text, str) or not text.isprintable() or len(text) > 1000:
                raise ValueError(f"a topic is called {text!r}")
    if any(not isinstance(n, int) or not 0 <= n < 1 << 64 for n in numbers):
        raise ValueError("a number of messages or its duration is none")


def _storage_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in STORAGE_SUFFIXES)
