# SPDX-License-Identifier: Apache-2.0
"""The storages of recordings, with limits to what a few bytes may become.

The reading library believes what a file says: it unpacks as much as there comes out, runs whatever
a database calls a table, and follows an index as often as it points to the same place. Here every
one of these has a bound, which is checked before the work is done.
"""

from __future__ import annotations

import bz2
import heapq
import re
import sqlite3
import struct
import urllib.parse
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame
import yaml
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1.reader import Chunk, Header, RecordType
from rosbags.rosbag2 import Reader, reader, storage_mcap, storage_sqlite3
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from proto_mtl_ros.bounded import check_inside, open_regular, read_text
from proto_mtl_ros.errors import BagError

MAX_CHUNK = 128 << 20
"""Bytes of a message, or of messages that are packed together; a cloud of a 4K image fits."""

MAX_OPEN = 256 << 20
"""Bytes of all chunks whose times overlap: they are in memory together."""

MAX_METADATA = 4_000_000
"""Bytes of a metadata.yaml."""

_FREE, _FACTOR = 4 << 30, 200
_DEEPEST = 32
_TABLES = ("schema", "metadata", "topics", "message_definitions", "messages")


def most_unpacked(size: int) -> int:
    """Return how many bytes a recording of ``size`` bytes may be in all, unpacked."""
    return _FREE + _FACTOR * size


def unpack_zstd(data: bytes, size: int) -> bytes:
    """Return unpacked bytes; ValueError for more than ``size``."""
    return _unpacked(data, size, lambda: reader.zstd.ZstdDecompressor().decompress)


def unpack_lz4(data: bytes, size: int) -> bytes:
    """Return unpacked bytes; ValueError for more than ``size``."""
    return _unpacked(data, size, lambda: lz4.frame.LZ4FrameDecompressor().decompress)


def unpack_bz2(data: bytes, size: int) -> bytes:
    """Return unpacked bytes; ValueError for more than ``size``."""
    return _unpacked(data, size, lambda: bz2.BZ2Decompressor().decompress)


def _unpacked(data: bytes, size: int, start: Callable[[], Any]) -> bytes:
    if size > MAX_CHUNK:
        raise ValueError(f"{size} bytes in one piece are more than {MAX_CHUNK}")
    parts, left = [], size
    while data:  # one frame behind the other
        decompress = start()
        # one byte more than there may be tells that there are more
        try:
            part = decompress(data, max_length=left + 1)
        except (OSError, RuntimeError, EOFError, reader.zstd.ZstdError) as error:
            raise ValueError(f"packed data is damaged: {error}") from None
        decompressor = decompress.__self__
        left -= len(part)
        if left < 0:
            raise ValueError(f"more than the {size} bytes come out that it may be")
        if not decompressor.eof:
            raise ValueError("packed data is cut off")
        parts.append(part)
        data = decompressor.unused_data
    return b"".join(parts)


class _BoundedZstd:
    """What the reading library uses of its zstd module."""

    ZstdDecompressor = reader.zstd.ZstdDecompressor
    ZstdError = reader.zstd.ZstdError

    @staticmethod
    def decompress(data: bytes) -> bytes:
        return unpack_zstd(data, MAX_CHUNK)

    @staticmethod
    def open(file: BinaryIO, mode: str) -> Any:
        size = file.seek(0, 2)
        file.seek(0)
        return _BoundedFile(_zstd.open(file, "rb"), most_unpacked(size))


class _BoundedFile:
    """A file that may be read up to a number of bytes."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int) -> bytes:
        content: bytes = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("it is a file that unpacks to far more than recordings do")
        return content

    def __enter__(self) -> _BoundedFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


_zstd = reader.zstd
# The library has no place to give these limits to. Profiles of publishers, which are YAML inside
# of the recording, are not read at all: nothing here publishes by them.
storage_mcap.DECOMPRESSORS.update({"zstd": unpack_zstd, "lz4": unpack_lz4})
setattr(reader, "zstd", _BoundedZstd)  # noqa: B010
for _module in (reader, storage_mcap, storage_sqlite3):
    setattr(_module, "parse_qos", lambda profiles: [])  # noqa: B010


class _Mcap(McapReader):
    def open(self) -> None:
        with open_regular(Path(str(self.path))):
            super().open()

    def read_index(self) -> None:
        super().read_index()
        size = Path(str(self.path)).stat().st_size
        places = {chunk.chunk_start_offset for chunk in self.chunks}
        if len(places) < len(self.chunks) or sum(c.chunk_length for c in self.chunks) > size:
            raise ValueError("its index names a place twice")
        self._check_sizes((chunk.uncompressed_size for chunk in self.chunks), size)
        events = [(c.message_start_time, c.uncompressed_size) for c in self.chunks]
        events += [
            (max(c.message_start_time, c.message_end_time) + 1, -c.uncompressed_size)
            for c in self.chunks
        ]
        together = 0
        for _, change in sorted(events):
            together += change
            if together > MAX_OPEN:
                raise ValueError(f"chunks of more than {MAX_OPEN} bytes overlap in time")

    def meta_scan(self) -> None:
        size = Path(str(self.path)).stat().st_size
        self._check_sizes(self._chunk_sizes(), size)
        super().meta_scan()

    def _chunk_sizes(self) -> Iterable[int]:
        """Yield the sizes that the chunks of a file without an index state."""
        assert self.bio is not None
        self.bio.seek(self.data_start)
        while self.bio.tell() < self.data_end:
            kind, length = struct.unpack("<BQ", self.bio.read(9))
            start = self.bio.tell()
            if kind == 6:
                yield struct.unpack_from("<QQQ", self.bio.read(24))[2]
            self.bio.seek(start + length)

    @staticmethod
    def _check_sizes(sizes: Iterable[int], size: int) -> None:
        total = 0
        for one in sizes:
            total += one
            if one > MAX_CHUNK or total > most_unpacked(size):
                raise ValueError("it would unpack to far more than recordings do")


class _Sqlite(Sqlite3Reader):
    def open(self) -> None:
        check_database(Path(str(self.path)))
        super().open()


def check_database(path: Path) -> None:
    """Refuse a database in which anything but plain tables would be read.

    A view may never end, and a computed column be a gigabyte in each row.

    Raises:
        ValueError: says what is odd.
        OSError: as ``open`` does.
    """
    if set("?#%") & set(path.name):
        raise ValueError(f"its file is called {path.name}: rename it")
    with open_regular(path):
        pass
    with closing(connect(path)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_master"):
            plain = kind in ("table", "index") and not re.match(r"\s*CREATE\s+VIRTUAL", sql or "")
            if not plain or not isinstance(name, str):
                raise ValueError(f"it has a {kind} {name!r}, recordings have tables alone")
        for table in _TABLES:
            for column in database.execute(f"PRAGMA table_xinfo({table})"):
                if column[6]:
                    raise ValueError(f"its column {table}.{column[1]} is computed")
        known = database.execute("SELECT count(*), count(DISTINCT id) FROM topics").fetchone()
        if known[0] != known[1]:
            raise ValueError("two of its topics have one id")


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that is only read, and that nobody else writes."""
    name = urllib.parse.quote(str(path.resolve()))
    return sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)


class _Folder(DirectoryReader):
    STORAGE_PLUGINS = {"mcap": _Mcap, "sqlite3": _Sqlite}


class BoundedReader(Reader):
    """Reads rosbag2 folders, ``.mcap`` and ``.db3`` files, within the limits of this module."""

    STORAGE_PLUGINS = {"dir": _Folder, ".mcap": _Mcap, ".db3": _Sqlite}


class BoundedRos1Reader(Ros1Reader):
    """Reads ROS 1 bags within the limits of this module."""

    def open(self) -> None:
        self._sizes: dict[int, int] = {}
        with open_regular(Path(str(self.path))):
            super().open()
        # every change of the chunk unpacks one anew
        work, place = 0, -1
        most = most_unpacked(Path(str(self.path)).stat().st_size)
        for entry in heapq.merge(*self.indexes.values()):
            if entry.chunk_pos != place:
                place = entry.chunk_pos
                work += self._sizes[place]
                if work > most:
                    self.close()
                    raise ValueError("its messages are scattered: sort it with `rosbag filter`")

    def read_chunk(self) -> Chunk:
        assert self.bio is not None
        start = self.bio.tell()
        header = Header.read(self.bio, RecordType.CHUNK)
        size, kind = header.get_uint32("size"), header.get_string("compression")
        if start in self._sizes or size > MAX_CHUNK:
            raise ValueError("a chunk stands in its index twice, or is too large")
        self._sizes[start] = size
        self.bio.seek(start)
        chunk = super().read_chunk()
        unpack = {"bz2": unpack_bz2, "lz4": unpack_lz4}.get(kind)
        return chunk._replace(decompressor=partial(unpack, size=size)) if unpack else chunk


def check_folder(folder: Path, files: Iterable[Path]) -> None:
    """Refuse a rosbag2 folder that leads out of itself, or whose metadata is a bomb.

    Raises:
        BagError: with what to do.
    """
    metadata = folder / "metadata.yaml"
    for path in (metadata, *files):
        # whatever else lies in the folder is not read
        if path != metadata and not {".mcap", ".db3"} & set(path.suffixes):
            continue
        check_inside(path, folder, BagError)
        if path.exists() and not path.is_file():
            raise BagError(f"{path} is no regular file: copy the recording again")
    if not metadata.exists():
        return
    depth = 0
    try:
        text = read_text(metadata, MAX_METADATA, BagError)
        for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise BagError(f"{metadata} has references (*name): recorders write none")
            opens = isinstance(event, yaml.CollectionStartEvent)
            depth += opens - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise BagError(f"{metadata} is nested deeper than {_DEEPEST} levels")
    except (yaml.YAMLError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise BagError(
            f"{metadata} is damaged, it is not valid YAML ({line}): copy it again"
        ) from None
