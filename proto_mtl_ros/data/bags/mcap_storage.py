# SPDX-License-Identifier: Apache-2.0
"""Reading .mcap files, whole or cut off, with or without an index.

Chunks are found by the index or, without one, by a pass over the file, which stops at a cut. Then
they are unpacked one after the other, as time goes on; see https://mcap.dev/spec for the records.
"""

from __future__ import annotations

import heapq
import io
import struct
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, ChunkIndex, Schema, Statistics

from proto_mtl_ros.data.bags.storage import (
    MAX_CHUNK,
    MAX_OPEN,
    Channel,
    Storage,
    Stored,
    cut_note,
    most_unpacked,
    unpack,
)
from proto_mtl_ros.files import open_regular

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER = len(_MAGIC) + 9 + 20
"""Bytes of the last record and of what ends the file."""

_HEAD, _MESSAGE = struct.Struct("<BQ"), struct.Struct("<HIQQ")
_RUN = 1 << 20
"""Bytes of messages outside of chunks that are read together."""


@dataclass(frozen=True)
class _Piece:
    """A chunk, or a run of messages outside of chunks: its bytes of the file, times of its
    messages, bytes when unpacked, and channels, empty where the index does not say.
    """

    place: int
    end: int
    first: int
    last: int
    size: int
    channels: frozenset[int] = frozenset()
    is_run: bool = False


class McapStorage(Storage):
    """An .mcap file; BagError where it is cut off before its first whole message."""

    def __init__(self, path: Path) -> None:
        self._opened = self._file = open_regular(path)
        self._schemas: dict[int, Schema] = {}
        self._known: dict[int, Channel] = {}
        self._nameless = False  # a channel came before its schema
        self._pieces: list[_Piece] = []
        self._span: tuple[int, int] | None = None
        try:
            self._size = self._file.seek(0, 2)
            self._file.seek(0)
            if self._file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it does not begin as an mcap file does")
            self._file.seek(max(0, self._size - len(_MAGIC)))
            cut = self._file.read() != _MAGIC or self._size < _FOOTER
            if cut or not self._read_index():
                self._scan(cut)
            self._check_pieces()
            self.channels = list(self._known.values())
            self.span = self._span or (0, 0)
            if cut:
                self.notes = (cut_note(path, self.channels, self.span),)
        except BaseException:
            self.close()
            raise

    def messages(
        self, topics: Collection[str] | None, start: int | None, stop: int | None
    ) -> Iterator[Stored]:
        ids = {id for id, own in self._known.items() if topics is None or own.topic in topics}
        first, last = start or 0, stop if stop is not None else 1 << 64
        waiting = deque(
            piece
            for piece in sorted(self._pieces, key=lambda piece: (piece.first, piece.place))
            if piece.first < last and piece.last >= first
            if not piece.channels or piece.channels & ids
        )
        # a piece is read when one of its messages may be the next
        order, ready = count(), list[tuple[int, int, Stored]]()
        while waiting or ready:
            while waiting and (not ready or waiting[0].first <= ready[0][0]):
                for id, time, data in self._content(waiting.popleft()):
                    if id in ids and first <= time < last:
                        message = Stored(self._known[id], time, data)
                        heapq.heappush(ready, (time, next(order), message))
            if ready:
                yield heapq.heappop(ready)[2]

    def _read_index(self) -> bool:
        """Read the summary at the end of the file; return whether it is all that is needed."""
        place = self._size - _FOOTER
        self._file.seek(place)
        opcode, length, begin = struct.unpack("<BQQ", self._file.read(17))
        if (opcode, length) != (Opcode.FOOTER, 20) or begin > place:
            raise ValueError("its last record is none")
        statistics: Statistics | None = None
        for opcode, _, content in _records(self._file, begin, place) if begin else ():
            if opcode == Opcode.CHUNK_INDEX:
                own = ChunkIndex.read(_stream(content))
                span = own.chunk_start_offset, own.chunk_start_offset + own.chunk_length
                times = own.message_start_time, own.message_end_time
                channels = frozenset(own.message_index_offsets)
                self._pieces.append(_Piece(*span, *times, own.uncompressed_size, channels))
            elif opcode == Opcode.STATISTICS:
                statistics = Statistics.read(_stream(content))
            else:
                self._announce(opcode, content)
        # what a summary does not repeat stands where the messages are
        if statistics is None or self._nameless:
            return False
        counts = statistics.channel_message_counts
        if statistics.message_count:
            known = self._pieces and all(id in self._known for id in counts)
            if not known or sum(counts.values()) < statistics.message_count:
                return False
            self._span = statistics.message_start_time, statistics.message_end_time + 1
        for id, number in counts.items():
            if id in self._known:
                self._known[id].count = number
        return True

    def _scan(self, cut: bool) -> None:
        """Find all chunks and messages by a pass over the file; of one that is cut, to the cut."""
        self._pieces.clear()
        self._known.clear()
        left = most_unpacked(self._size)
        stop = self._size if cut else self._size - len(_MAGIC)
        # what a cut has left: short records, half chunks, unknown codecs
        with suppress(*(Exception,) if cut else ()):
            for opcode, place, content in _records(self._file, len(_MAGIC), stop):
                end = place + 9 + len(content)
                if opcode == Opcode.CHUNK:
                    left -= struct.unpack_from("<QQQ", content)[2]
                    if left < 0:
                        raise ValueError("it would unpack to far more than recordings do")
                    data = _unpacked(content)
                    times = []
                    for inner, part in _records_in(data):
                        if inner == Opcode.MESSAGE:
                            times.append(self._count(part))
                        else:
                            self._announce(inner, part)
                    if times:
                        self._pieces.append(_Piece(place, end, min(times), max(times), len(data)))
                elif opcode == Opcode.MESSAGE:
                    self._add_to_run(place, end, self._count(content))
                elif opcode == Opcode.DATA_END:
                    break
                else:
                    self._announce(opcode, content)

    def _add_to_run(self, place: int, end: int, time: int) -> None:
        """Note a message outside of chunks, together with those right before it."""
        run = self._pieces[-1] if self._pieces else None
        if run is None or not run.is_run or run.end != place or end - run.place > _RUN:
            self._pieces.append(_Piece(place, end, time, time, end - place, is_run=True))
            return
        first, last = min(run.first, time), max(run.last, time)
        self._pieces[-1] = _Piece(run.place, end, first, last, end - run.place, is_run=True)

    def _count(self, message: bytes | memoryview) -> int:
        id, _, time, _ = _MESSAGE.unpack_from(message)
        if id in self._known:  # of a channel that is not announced the type is unknown
            self._known[id].count += 1
        first, last = self._span or (time, time)
        self._span = min(first, time), max(last, time + 1)
        return int(time)

    def _announce(self, opcode: int, content: bytes | memoryview) -> None:
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(_stream(content))
            self._schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            own = ChannelRecord.read(_stream(content))
            if own.id in self._known:
                return
            of = self._schemas.get(own.schema_id)
            self._nameless |= of is None and own.schema_id != 0
            kind = of.name if of is not None else ""
            if own.message_encoding in ("ros1", "cdr") and kind.count("/") == 1:
                kind = kind.replace("/", "/msg/", 1)
            text = of.data if of is not None and of.encoding in ("ros1msg", "ros2msg") else b""
            channel = Channel(own.topic, kind, own.message_encoding, text.decode(errors="replace"))
            self._known[own.id] = channel

    def _check_pieces(self) -> None:
        """Refuse an index that asks for more memory or work than recordings do."""
        if len({piece.place for piece in self._pieces}) < len(self._pieces):
            raise ValueError("its index names a place twice")
        events = [(piece.first, piece.size) for piece in self._pieces]
        if (
            sum(piece.end - piece.place for piece in self._pieces) > self._size
            or any(not 0 <= size <= MAX_CHUNK for _, size in events)
            or sum(size for _, size in events) > most_unpacked(self._size)
        ):
            raise ValueError("it would unpack to far more than recordings do")
        ends = [(max(p.first, p.last) + 1, -p.size) for p in self._pieces]
        together = 0
        for _, change in sorted(events + ends):
            together += change
            if together > MAX_OPEN:
                raise ValueError(f"chunks of more than {MAX_OPEN} bytes overlap in time")

    def _content(self, piece: _Piece) -> Iterator[tuple[int, int, memoryview]]:
        self._file.seek(piece.place)
        content = self._file.read(piece.end - piece.place)
        for opcode, record in _records_in(content):
            inner: Any = [(opcode, record)]
            if opcode == Opcode.CHUNK:
                data = _unpacked(record)
                if len(data) != piece.size:
                    raise ValueError("a chunk is another than its index says")
                inner = _records_in(data)
            for kind, message in inner:
                if kind == Opcode.MESSAGE:
                    id, _, time, _ = _MESSAGE.unpack_from(message)
                    yield id, time, message[_MESSAGE.size :]


def _records(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield opcode, place and content of the records between two places; of those of no use here
    the content is passed over. ValueError where one reaches beyond ``stop``, or is too large.
    """
    place = start
    while place < stop:
        file.seek(place)
        opcode, length = _head(file.read(9), 0, stop - place)
        if opcode in _USED:
            if length > MAX_CHUNK + 1024:
                raise ValueError(f"a record has {length} bytes, more than recordings have")
            yield opcode, place, file.read(length)
        place += 9 + length


def _records_in(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and content of the records of a chunk; raises ValueError as ``_records``."""
    view, place = memoryview(data), 0
    while place < len(data):
        opcode, length = _head(view, place, len(data) - place)
        yield opcode, view[place + 9 : place + 9 + length]
        place += 9 + length


def _head(data: bytes | memoryview, place: int, left: int) -> tuple[int, int]:
    """Return opcode and length of a record, checked against the bytes that there are."""
    if len(data) - place < 9:
        raise ValueError("its last record is cut off")
    opcode, length = _HEAD.unpack_from(data, place)
    if not opcode or length > left - 9:
        raise ValueError(f"a record is none, or states more than there is ({length} bytes)")
    return opcode, length


_USED = frozenset(
    (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.CHUNK, Opcode.CHUNK_INDEX,
     Opcode.STATISTICS, Opcode.DATA_END)
)  # fmt: skip


def _unpacked(content: bytes | memoryview) -> bytes:
    """Return the records of a chunk; raises ValueError where they are not what it states."""
    chunk = Chunk.read(_stream(content))
    data = unpack(chunk.compression, chunk.data, chunk.uncompressed_size)
    if len(data) != chunk.uncompressed_size:
        raise ValueError("a chunk has another size than it states")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise ValueError("the checksum of a chunk is wrong")
    return data


def _stream(content: bytes | memoryview) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(content))
