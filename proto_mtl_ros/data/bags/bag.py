# SPDX-License-Identifier: Apache-2.0
"""Reading recordings without ROS: rosbag2 (mcap or sqlite3), and ROS 1 bags.

Every fault of a recording becomes a :class:`~proto_mtl_ros.errors.BagError` of one line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.mcap_storage import McapStorage
from proto_mtl_ros.data.bags.message_types import RENAMED, decode, from_ros1, typestore
from proto_mtl_ros.data.bags.ros1 import Ros1Storage
from proto_mtl_ros.data.bags.sqlite_storage import SqliteStorage
from proto_mtl_ros.data.bags.stamp_log import header_stamp
from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    Channel,
    Metadata,
    Storage,
    check_folder,
    read_metadata,
    refuse_pointer,
    unpack,
    unpack_file,
)
from proto_mtl_ros.errors import NO_ROOM, BagError, one_line
from proto_mtl_ros.files import ScratchFolder

_STORAGES: dict[str, Callable[[Path], Storage]] = {
    ".mcap": McapStorage,
    ".db3": SqliteStorage,
    ".bag": Ros1Storage,
}
_READ = ("cdr", "ros1")


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


def stamped(topic: str, kind: str, time: int, stamp: int, frame: str, **fields: Any) -> BagMessage:
    """Return a message, recorded at ``time``, of a type that begins with a header."""
    types = typestore().types
    sent = types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
    message = types[kind](header=types["std_msgs/msg/Header"](sent, frame), **fields)
    return BagMessage(topic, kind, time, bytes(typestore().serialize_cdr(message, kind)))


def stamped_picture(topic: str, time: int, stamp: int, frame: str, rgb: np.ndarray) -> BagMessage:
    height, width = rgb.shape[:2]
    return stamped(
        topic, "sensor_msgs/msg/Image", time, stamp, frame, height=height, width=width,
        encoding="rgb8", is_bigendian=0, step=3 * width, data=rgb.reshape(-1),
    )  # fmt: skip


def is_bag(path: Path) -> bool:
    """Tell whether ``path`` looks like a recording of ROS: a folder of rosbag2, or a file."""
    if path.is_dir():
        return (path / "metadata.yaml").exists() or bool(_storage_files(path))
    return _kind_of(path) in _STORAGES or path.name == "metadata.yaml"


def _kind_of(path: Path) -> str:
    """Return the suffix of a storage, whether it is packed as a file or still being recorded."""
    return Path(path.stem if path.suffix in (".zstd", ".active") else path).suffix


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
        self.passed_over = tuple(
            dict.fromkeys(
                f"{one.topic} ({one.type or 'no type'}, {one.encoding or 'no encoding'})"
                for one in self._channels()
                if one.encoding not in _READ or not one.type
            )
        )
        self.notes = (
            *(note for storage in self._storages for note in storage.notes),
            *(f"{one} is passed over: CDR and ROS 1 are read" for one in self.passed_over),
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
            refuse_pointer(file)
            if metadata.packed == "file" or file.suffix == ".zstd":
                self._scratch = self._scratch or ScratchFolder("bag")
                unpack_file(file, self._scratch.path / file.stem)
                file = self._scratch.path / file.stem
            if _kind_of(file) not in _STORAGES:
                hint = "videos and folders of images are for `bag replay`"
                raise BagError(f"{file} is neither .mcap, .db3 nor .bag: {hint}")
            self._storages.append(_STORAGES[_kind_of(file)](file))
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
        texts = [text for one in self._channels() for text in (one.topic, one.type)]
        for text in texts:
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
        if _kind_of(self.path) == ".bag":
            what = "cut off or was never closed" if "not indexed" in text else f"damaged: {text}"
            return f"{self.path} is {what}: make its index with `rosbag reindex {self.path}`"
        return f"{self.path} cannot be read as a recording, it is damaged: {text}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The recorded topics, sorted by name."""
        counts: dict[tuple[str, str], int] = {}
        for channel in self._channels():
            if channel.encoding in _READ and channel.type:
                key = (channel.topic, RENAMED.get(channel.type, channel.type))
                counts[key] = counts.get(key, 0) + channel.count
        return tuple(Topic(name, kind, count) for (name, kind), count in sorted(counts.items()))

    @property
    def duration(self) -> float:
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
        distribution = self._metadata.distribution
        with self._one_line_errors():
            for storage in self._storages:
                for channel, time, data in storage.messages(names, start, stop):
                    # a database may hold a number where bytes belong: so many bytes, all zero
                    if not isinstance(data, bytes | memoryview) or not isinstance(time, int):
                        raise ValueError(f"a message of {channel.topic} is not made of bytes")
                    if self._metadata.packed == "message":
                        data = unpack("zstd", bytes(data), MAX_CHUNK)
                    definition, kind = channel.definition, RENAMED.get(channel.type, channel.type)
                    if channel.encoding == "ros1":
                        convert = from_ros1(channel.type, definition)
                        if convert is None:
                            continue
                        definition = "" if kind in typestore().types else definition
                        try:
                            data = convert(data)
                        except Exception:  # whatever broken bytes lead it into: its stamp is kept
                            data = b"\0\1\0\0" + bytes(data)[4:12]
                    elif channel.encoding != "cdr" or not kind:
                        continue
                    if len(data) < 12 and kind.startswith(("sensor_msgs/", "ffmpeg_")):
                        continue  # without a whole header: there is nothing to know of it
                    if len(data) > MAX_CHUNK:
                        raise ValueError(f"a message of {channel.topic} has {len(data)} bytes")
                    of = definition, "" if channel.encoding == "ros1" else distribution
                    yield BagMessage(channel.topic, kind, time, bytes(data), *of)

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
    return sorted(p for p in folder.iterdir() if _kind_of(p) in (".mcap", ".db3"))
