# SPDX-License-Identifier: Apache-2.0
"""Reading .db3 files, the SQLite databases of recorders, whole or cut off."""

from __future__ import annotations

import re
import sqlite3
import struct
import urllib.parse
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from proto_mtl_ros.data.bags.storage import Channel, Storage, Stored, cut_note
from proto_mtl_ros.files import open_regular

_MAGIC = b"SQLite format 3\0"
_TABLES = ("schema", "metadata", "topics", "message_definitions", "messages")


class SqliteStorage(Storage):
    """A .db3 file. ValueError where it has more than plain tables; BagError where it is cut off
    before its first whole message.
    """

    def __init__(self, path: Path) -> None:
        if set("?#%") & set(path.name):
            raise ValueError(f"its file is called {path.name}: rename it")
        self._cut = _is_cut(path)
        # nobody else writes it
        uri = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=ro&immutable=1"
        self._opened = self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            self._check_tables()
            self._channels = self._read_channels()
            self.span = self._count()
            self.channels = list(self._channels.values())
            if self._cut:
                self.notes = (cut_note(path, self.channels, self.span),)
            log = path.with_name(f"{path.name}-wal")
            if log.exists() and log.stat().st_size:
                how = f'`sqlite3 {path.name} "PRAGMA wal_checkpoint"` puts them into it'
                more = f"{log.name} may hold further messages, which are not read: {how}"
                self.notes = (*self.notes, more)
        except BaseException:
            self.close()
            raise

    def messages(
        self, topics: Collection[str] | None, start: int | None, stop: int | None
    ) -> Iterator[Stored]:
        ids = [id for id, own in self._channels.items() if topics is None or own.topic in topics]
        # as they were written, so what comes before a cut comes first; its index may be gone
        query = (
            f"SELECT topic_id, timestamp, data FROM messages {'NOT INDEXED' if self._cut else ''}"
            f" WHERE topic_id IN ({', '.join('?' * len(ids))}) AND timestamp >= ? AND timestamp < ?"
            f" {'' if self._cut else 'ORDER BY timestamp'}"
        )
        limits = start or 0, (1 << 63) - 1 if stop is None else stop
        with self._to_the_cut():
            for id, time, data in self._database.execute(query, (*ids, *limits)):
                yield Stored(self._channels[id], time, data)

    @contextmanager
    def _to_the_cut(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError:
            if not self._cut:
                raise

    def _check_tables(self) -> None:
        """Refuse a database in which anything but plain tables would be read: a view may never
        end, and a computed column be a gigabyte in each row.
        """
        self._database.execute("PRAGMA trusted_schema = OFF")
        if self._cut:  # without it SQLite refuses a file that is shorter than its header says
            self._database.execute("PRAGMA writable_schema = ON")
        for kind, name, sql in self._database.execute("SELECT type, name, sql FROM sqlite_master"):
            plain = kind in ("table", "index") and not re.match(r"\s*CREATE\s+VIRTUAL", sql or "")
            if not plain or not isinstance(name, str):
                raise ValueError(f"it has a {kind} {name!r}, recordings have tables alone")
        for table in _TABLES:
            for column in self._database.execute(f"PRAGMA table_xinfo({table})"):
                if column[6]:
                    raise ValueError(f"its column {table}.{column[1]} is computed")

    def _read_channels(self) -> dict[int, Channel]:
        definitions: dict[str, str] = {}
        columns = {r[1] for r in self._database.execute("PRAGMA table_info(message_definitions)")}
        if {"topic_type", "encoding", "encoded_message_definition"} <= columns:
            rows = self._database.execute(
                "SELECT topic_type, encoded_message_definition FROM message_definitions"
                " WHERE encoding = 'ros2msg'"
            )
            with self._to_the_cut():
                definitions.update(rows)
        found: dict[int, Channel] = {}
        query = "SELECT id, name, type, serialization_format FROM topics"
        for id, name, kind, encoding in self._database.execute(query):
            if id in found:
                raise ValueError("two of its topics have one id")
            found[id] = Channel(name, kind, str(encoding), str(definitions.get(kind, "")))
        return found

    def _count(self) -> tuple[int, int]:
        """Count the messages; return when the first was recorded and 1 ns after the last."""
        query = (
            # the last byte tells whether a message is whole
            "SELECT topic_id, 1, timestamp, timestamp, substr(data, -1) FROM messages NOT INDEXED"
            if self._cut
            else "SELECT topic_id, count(*), min(timestamp), max(timestamp), 0 FROM messages"
            " GROUP BY topic_id"
        )
        spans = []
        with self._to_the_cut():
            for id, number, first, last, _ in self._database.execute(query):
                if not isinstance(first, int) or not isinstance(last, int):
                    raise ValueError("the time of a message is no number")
                if id in self._channels:
                    self._channels[id].count += number
                    spans.append((first, last))
        if not spans:
            return 0, 0
        return min(first for first, _ in spans), max(last for _, last in spans) + 1


def _is_cut(path: Path) -> bool:
    """Tell whether the file is shorter than its header says."""
    with open_regular(path) as file:
        head, size = file.read(100), file.seek(0, 2)
    if not head.startswith(_MAGIC) or len(head) < 100:
        return False
    page, pages = struct.unpack(">H", head[16:18])[0], struct.unpack(">I", head[28:32])[0]
    return size < pages * (65536 if page == 1 else page)
