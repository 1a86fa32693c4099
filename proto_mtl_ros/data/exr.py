# SPDX-License-Identifier: Apache-2.0
"""Depth in OpenEXR files, which OpenCV's wheels do not read: scan lines, plain or zipped."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from proto_mtl_ros.encodings import MAX_PIXELS
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_bytes

_MAX_BYTES = 1_000_000_000
_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_LINES = {0: 1, 2: 1, 3: 16}
"""Compression -> lines of a block: none, each line zipped, 16 lines zipped."""


def read_exr(path: Path) -> np.ndarray:
    """Return [H, W] of the channel Z, Y or R, or of the first one; DataError."""
    content = read_bytes(path, _MAX_BYTES, DataError)
    try:
        return _read(content)
    except (KeyError, ValueError, IndexError, OverflowError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path} is not a readable EXR ({one_line(error)}): save it with scan lines, "
            "uncompressed or ZIP, or as .npy"
        ) from None


def _read(content: bytes) -> np.ndarray:
    if content[:4] != b"\x76\x2f\x31\x01" or content[5] & 0x1A:
        raise ValueError("tiles, several parts, deep pixels, or no EXR at all")
    place, header = 8, dict[bytes, bytes]()
    while content[place] != 0:
        name, of_type, _ = content[place : place + 512].split(b"\0", 2)
        place += len(name) + len(of_type) + 2
        length = struct.unpack_from("<I", content, place)[0]
        header[name] = content[place + 4 : place + 4 + length]
        place += 4 + length
    left, top, right, bottom = struct.unpack("<4i", header[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if not (0 < width < 1 << 20 and 0 < height < 1 << 20 and width * height <= MAX_PIXELS):
        raise ValueError(f"its size is {width}x{height}")
    compression = header[b"compression"][0]
    if compression not in _LINES:
        raise ValueError(f"its compression is number {compression}")
    channels = _channels(header[b"channels"])
    names = [name for name, _ in channels]
    wanted = next((names.index(n) for n in (b"Z", b"Y", b"R") if n in names), 0)
    before = sum(kind.itemsize for _, kind in channels[:wanted]) * width
    kind, row = channels[wanted][1], sum(kind.itemsize for _, kind in channels) * width
    pixels = np.zeros((height, width), kind)
    lines = _LINES[compression]
    count = -(-height // lines)
    for offset in struct.unpack_from(f"<{count}Q", content, place + 1):
        y, length = struct.unpack_from("<iI", content, offset)
        first = y - top
        if not 0 <= first < height:
            raise ValueError("a block lies outside of it")
        size = min(lines, height - first) * row
        data = content[offset + 8 : offset + 8 + length]
        if compression and length < size:
            data = _unzipped(data, size)
        block = np.frombuffer(data, np.uint8, size).reshape(-1, row)
        own = np.ascontiguousarray(block[:, before : before + width * kind.itemsize])
        pixels[first : first + len(own)] = own.view(kind)
    return pixels.astype(np.float32)


def _channels(data: bytes) -> list[tuple[bytes, np.dtype]]:
    found, place = [], 0
    while data[place] != 0:
        end = data.index(b"\0", place)
        kind, _, across, down = struct.unpack_from("<iI2i", data, end + 1)
        if across != 1 or down != 1:
            raise ValueError("a channel is subsampled")
        found.append((data[place:end], _TYPES[kind]))
        place = end + 17
    return found


def _unzipped(data: bytes, size: int) -> bytes:
    """Undo ZIP: bytes are differences to the one before, the even ones of the block come first."""
    stream = zlib.decompressobj()
    raw = np.frombuffer(stream.decompress(data, size), np.uint8).astype(np.int64)
    if len(raw) != size:
        raise ValueError("a block is damaged")
    raw[1:] -= 128
    summed, half = (np.cumsum(raw) & 255).astype(np.uint8), (size + 1) // 2
    mixed = np.empty(size, np.uint8)
    mixed[::2], mixed[1::2] = summed[:half], summed[half:]
    return mixed.tobytes()
