# SPDX-License-Identifier: Apache-2.0
"""Reading ROS 1 bags."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from rosbags.rosbag1 import Reader
from rosbags.rosbag1.reader import Chunk, Header, RecordType

from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    Channel,
    Storage,
    Stored,
    most_unpacked,
    unpack,
)
from proto_mtl_ros.files import open_regular


class Ros1Storage(Storage):
    """A .bag file."""

    def __init__(self, path: Path) -> None:
        self._opened = self._reader = _BoundedReader(path)
        self._reader.open()
        self._connections = self._reader.connections
        self.channels = [Channel(c.topic, c.msgtype, "ros1", c.msgdef.data, c.msgcount)
                         for c in self._connections]  # fmt: skip
        if self._reader.message_count:
            self.span = self._reader.start_time, self._reader.end_time

    def messages(
        self, topics: Collection[str] | None, start: int | None, stop: int | None
    ) -> Iterator[Stored]:
        of = dict(zip(map(id, self._connections), self.channels))
        chosen = [c for c in self._connections if topics is None or c.topic in topics]
        if chosen:
            for connection, time, data in self._reader.messages(chosen, start, stop):
                yield Stored(of[id(connection)], time, data)


class _BoundedReader(Reader):
    """The reader, within the limits of ``storage``."""

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
        if kind not in ("bz2", "lz4"):
            return chunk
        return chunk._replace(decompressor=partial(unpack, kind, size=size))
