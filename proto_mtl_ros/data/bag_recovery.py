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
from dataclasses import dataclass
from pathlib import Path

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
    from mcap.stream_reader import StreamReader
    from mcap.writer import CompressionType, Writer

    recovered = _Recovered()
    schemas: dict[int, int] = {}
    channels: dict[int, int] = {}
    with path.open("rb") as source, out.open("wb") as sink:
        writer = Writer(sink, compression=CompressionType.LZ4)
        writer.start("ros2")
        # the reader meets whatever the cut has left: short records, half chunks, unknown codecs
        with suppress(McapError, EOFError, struct.error, ValueError, RuntimeError, KeyError):
            for record in StreamReader(source).records:
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


def _recover_sqlite(path: Path, out: Path) -> _Recovered:
    recovered = _Recovered()
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as source,
        closing(sqlite3.connect(out)) as sink,
    ):
        with _until_damaged():
            # without it SQLite refuses a file that is shorter than its header says
            source.execute("PRAGMA writable_schema = ON")
            tables = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            for name, statement in tables.fetchall():
                if name.startswith("sqlite_"):
                    continue
                sink.execute(statement)
                if name == "messages":
                    continue
                rows = source.execute(f'SELECT * FROM "{name}"').fetchall()
                if rows:
                    marks = ", ".join("?" * len(rows[0]))
                    sink.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows)
            # in the order they were written, so what comes before the cut comes first
            for row in source.execute("SELECT id, topic_id, timestamp, data FROM messages"):
                sink.execute(
                    "INSERT INTO messages (id, topic_id, timestamp, data) VALUES (?, ?, ?, ?)", row
                )
                recovered.add(row[2])
        try:
            sink.commit()
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, str(error)) from None
    return recovered
