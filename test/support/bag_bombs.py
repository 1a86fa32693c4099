# SPDX-License-Identifier: Apache-2.0
"""Recordings of a few bytes that unpack to gigabytes, or state what they do not hold."""

from __future__ import annotations

import bz2
import io
import struct
from functools import lru_cache
from pathlib import Path

import lz4.frame
import zstandard

GIGABYTE = 1 << 30


MAGIC = b"\x89MCAP0\r\n"


@lru_cache
def zeros_zstd(size: int) -> bytes:
    """A frame that does not say how long it is."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(size >> 20)]
    return b"".join([*parts, compressor.flush()])


@lru_cache
def zeros_lz4(size: int) -> bytes:
    out, block = io.BytesIO(), bytes(1 << 20)
    with lz4.frame.LZ4FrameFile(out, "wb") as file:
        for _ in range(size >> 20):
            file.write(block)
    return out.getvalue()


@lru_cache
def zeros_bz2(size: int) -> bytes:
    """Streams one behind the other, as bz2 itself reads them."""
    part = min(size, 16 << 20)
    return bz2.compress(bytes(part)) * (size // part)


PACKERS = {"zstd": zeros_zstd, "lz4": zeros_lz4, "bz2": zeros_bz2}


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(content: str) -> bytes:
    return struct.pack("<I", len(content)) + content.encode()


def chunk(data: bytes, size: int, compression: str, start: int = 1, end: int = 2) -> bytes:
    head = struct.pack("<QQQI", start, end, size, 0) + text(compression)
    return record(6, head + struct.pack("<Q", len(data)) + data)


def without_index(path: Path, *chunks: bytes) -> Path:
    head = MAGIC + record(1, text("ros2") + text("x"))
    path.write_bytes(head + b"".join(chunks) + record(2, bytes(20)) + MAGIC)
    return path


def indexed(path: Path, chunks: list[tuple[bytes, int, str]], same_place: bool = False) -> Path:
    """Write chunks (packed, size that is stated, compression) whose times are all the same."""
    out = MAGIC + record(1, text("ros2") + text("x"))
    entries: list[tuple[int, int, int, int, str]] = []
    for data, size, compression in chunks:
        place, whole = len(out), chunk(data, size, compression)
        if not (same_place and entries):
            out += whole
        else:
            place = entries[0][0]
        entries.append((place, len(whole), len(data), size, compression))
    summary = len(out)
    out += record(
        3, struct.pack("<H", 1) + text("sensor_msgs/msg/Image") + text("ros2msg") + text("")
    )
    out += record(4, struct.pack("<HH", 1, 1) + text("/image") + text("cdr") + struct.pack("<I", 0))
    for place, length, stored, size, compression in entries:
        offsets = struct.pack("<IHQ", 10, 1, place + length)
        out += record(8, struct.pack("<QQQQ", 1, 2, place, length) + offsets + struct.pack("<Q", 31)
                      + text(compression) + struct.pack("<QQ", stored, size))  # fmt: skip
    counts = struct.pack("<IHQ", 10, 1, len(chunks))
    out += record(11, struct.pack("<QHIIIIQQ", len(chunks), 1, 1, 0, 0, len(chunks), 1, 2) + counts)
    path.write_bytes(out + record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC)
    return path


def ros1_bomb(path: Path, size: int) -> Path:
    """Make the chunk of a small ROS 1 bag one of many bytes; ``size`` is what its header says."""

    def header(**fields: bytes) -> bytes:
        content = b"".join(
            struct.pack("<I", len(name) + 1 + len(value)) + name.encode() + b"=" + value
            for name, value in fields.items()
        )
        return struct.pack("<I", len(content)) + content

    def sized(content: bytes) -> bytes:
        return struct.pack("<I", len(content)) + content

    data = zeros_bz2(GIGABYTE)
    start = b"#ROSBAG V2.0\n"
    place = len(start) + 4096
    body = header(op=b"\5", compression=b"bz2", size=struct.pack("<I", size)) + sized(data)
    index = struct.pack("<III", 1, 0, 0)
    fields = {"op": b"\4", "ver": struct.pack("<I", 1), "conn": struct.pack("<I", 0)}
    body += header(**fields, count=struct.pack("<I", 1)) + sized(index)
    connection = {"topic": b"/image", "type": b"sensor_msgs/Image", "md5sum": b"0" * 32}
    tail = header(op=b"\7", conn=struct.pack("<I", 0), topic=b"/image")
    inner = header(**connection, message_definition=b"uint8 a")
    tail += inner
    count = struct.pack("<II", 0, 1)
    times = {"start_time": struct.pack("<II", 1, 0), "end_time": struct.pack("<II", 2, 0)}
    tail += header(op=b"\6", ver=struct.pack("<I", 1), chunk_pos=struct.pack("<Q", place),
                   **times, count=struct.pack("<I", 1)) + sized(count)  # fmt: skip
    counts = {"conn_count": struct.pack("<I", 1), "chunk_count": struct.pack("<I", 1)}
    first = header(op=b"\3", index_pos=struct.pack("<Q", place + len(body)), **counts)
    padding = 4096 - len(first) - 4
    path.write_bytes(start + first + sized(b" " * padding) + body + tail)
    return path
