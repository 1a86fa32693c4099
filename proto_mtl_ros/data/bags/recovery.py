# SPDX-License-Identifier: Apache-2.0
"""What is whole of a recording that was cut off, copied into files that can be read.

A robot that loses power leaves a recording without its end, where the index lies. The messages
before the cut are written anew, next to nothing of them in memory at a time.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    connect,
    most_unpacked,
    unpack_lz4,
    unpack_zstd,
)
from proto_mtl_ros.errors import BagError

_SQLITE_MAGIC = b"SQLite format 3\0"
_MCAP_MAGIC = b"\x89MCAP0\r\n"


def is_cut(path: Path) -> bool:
    """Tell whether the end of a storage file (``.mcap`` or ``.db3``) is missing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(100)
        if head.startswith(_SQLITE_MAGIC) and len(head) == 100:
            page = struct.unpack(">H", head[16:18])[0]
            pages = struct.unpack(">I", head[28:32])[0]
            return size < pages * (65536 if page == 1 else page)
        if head.startswith(_MCAP_MAGIC):
            file.seek(max(0, size - len(_MCAP_MAGIC)))
            return file.read() != _MCAP_MAGIC
    return False


def recover(recording: Path, folder: Path) -> tuple[Path, list[str]]:
    """Write what is whole of a recording into ``folder``.

    Args:
        recording: the folder with ``metadata.yaml``, or a storage file.
        folder: existing and empty.

    Returns:
        What to open in place of ``recording``, and one line for every file that was cut.

    Raises:
        BagError: nothing is whole.
    """
    if recording.is_file():
        out = folder / recording.name
        return out, [_recover_file(recording, out)]
    notes = []
    target = folder / recording.name
    target.mkdir()
    shutil.copy(recording / "metadata.yaml", target)
    for path in sorted(recording.iterdir()):
        if path.suffix not in (".mcap", ".db3"):
            continue
        if is_cut(path):
            notes.append(_recover_file(path, target / path.name))
        else:
            os.symlink(path.resolve(), target / path.name)
    return target, notes


@dataclass
class _Recovered:
    """The messages that were copied; times in nanoseconds."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, time: int) -> None:
        self.first = min(self.first, time) if self.count else time
        self.last = max(self.last, time)
        self.count += 1


def _recover_file(path: Path, out: Path) -> str:
    recover_one = _recover_sqlite if path.suffix == ".db3" else _recover_mcap
    recovered = recover_one(path, out)
    if not recovered.count:
        raise BagError(f"{path} is cut off before its first whole message: copy it again")
    seconds = (recovered.last - recovered.first) / 1e9
    return (
        f"{path.name} is cut off: {recovered.count} messages of its first {seconds:.1f} s are whole"
        " and are used"
    )


def _recover_mcap(path: Path, out: Path) -> _Recovered:
    from mcap.exceptions import McapError
    from mcap.records import Channel, Message, Schema
    from mcap.writer import CompressionType, Writer

    recovered = _Recovered()
    schemas: dict[int, int] = {}
    channels: dict[int, int] = {}
    with path.open("rb") as source, out.open("wb") as sink:
        writer = Writer(sink, compression=CompressionType.LZ4)
        writer.start("ros2")
        # the reader meets whatever the cut has left: short records, half chunks, unknown codecs
        with suppress(McapError, EOFError, struct.error, *_LEFT_BY_A_CUT):
            for record in _records(source, path.stat().st_size):
                if isinstance(record, Schema):
                    if record.id not in schemas:
                        schemas[record.id] = writer.register_schema(
                            record.name, record.encoding, record.data
                        )
                elif isinstance(record, Channel):
                    if record.id not in channels:
                        channels[record.id] = writer.register_channel(
                            record.topic,
                            record.message_encoding,
                            schemas[record.schema_id],
                            dict(record.metadata),
                        )
                elif isinstance(record, Message):
                    writer.add_message(
                        channels[record.channel_id],
                        record.log_time,
                        record.data,
                        record.publish_time,
                        record.sequence,
                    )
                    recovered.add(record.log_time)
        writer.finish()
    return recovered


@contextmanager
def _until_damaged() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "is full" in str(error):  # where it is copied to: not the end of what there is
            raise OSError(errno.ENOSPC, str(error)) from None


def _records(source: BinaryIO, size: int) -> Iterator[Any]:
    """Yield the records of an mcap file, those in its chunks among them.

    Raises:
        ValueError: a chunk, or all of them, would unpack to more than recordings do.
    """
    from mcap.records import Chunk
    from mcap.stream_reader import StreamReader, breakup_chunk

    left = most_unpacked(size)
    unpack = {"": lambda data, _: data, "zstd": unpack_zstd, "lz4": unpack_lz4}
    reader = StreamReader(source, emit_chunks=True, record_size_limit=MAX_CHUNK)
    for record in reader.records:
        if not isinstance(record, Chunk):
            yield record
            continue
        left -= record.uncompressed_size
        if left < 0:
            raise ValueError("it would unpack to far more than recordings do")
        data = unpack[record.compression](record.data, record.uncompressed_size)
        yield from breakup_chunk(replace(record, compression="", data=data))


_LEFT_BY_A_CUT = (
    ValueError, RuntimeError, KeyError, TypeError, IndexError, OverflowError, MemoryError,
    AttributeError,
)  # fmt: skip

_TABLES = {
    "topics": {
        "id": "INTEGER PRIMARY KEY",
        "name": "TEXT NOT NULL",
        "type": "TEXT NOT NULL",
        "serialization_format": "TEXT NOT NULL",
        "offered_qos_profiles": "TEXT NOT NULL",
        "type_description_hash": "TEXT NOT NULL",
    },
    "messages": {
        "id": "INTEGER PRIMARY KEY",
        "topic_id": "INTEGER NOT NULL",
        "timestamp": "INTEGER NOT NULL",
        "data": "BLOB NOT NULL",
    },
}
"""Tables and columns of a recording that are copied; never by a statement that stands in it."""


def _recover_sqlite(path: Path, out: Path) -> _Recovered:
    recovered = _Recovered()
    with closing(connect(path)) as source, closing(sqlite3.connect(out)) as sink:
        with suppress(sqlite3.Error, *_LEFT_BY_A_CUT), _until_damaged():
            # without it SQLite refuses a file that is shorter than its header says
            source.execute("PRAGMA writable_schema = ON")
            for name, types in _TABLES.items():
                there = {row[1]: row[6] for row in source.execute(f"PRAGMA table_xinfo({name})")}
                if any(there.values()):
                    raise ValueError("it has computed columns")
                columns = [column for column in types if column in there]
                stated = ", ".join(f"{column} {types[column]}" for column in columns)
                sink.execute(f"CREATE TABLE {name} ({stated})")
                chosen, marks = ", ".join(columns), ", ".join("?" * len(columns))
                kind = source.execute(
                    "SELECT type FROM sqlite_master WHERE name = ?", (name,)
                ).fetchall()
                if kind != [("table",)]:
                    raise ValueError(f"{name} is no table")
                # in the order they were written, so what comes before the cut comes first
                for row in source.execute(f"SELECT {chosen} FROM {name}"):
                    sink.execute(f"INSERT INTO {name} ({chosen}) VALUES ({marks})", row)
                    if name == "messages":
                        recovered.add(row[columns.index("timestamp")])
        try:
            sink.commit()
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, str(error)) from None
    return recovered
