# SPDX-License-Identifier: Apache-2.0
"""How large a picture will be in memory, read from the header of its file.

A few bytes may declare a picture of gigabytes, or one of a thousand layers, so nothing is decoded
before its header has been looked at. What is none of the formats below is not decoded at all.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from proto_mtl_ros.encodings.encoding import EncodingError

MAX_PIXELS = 64_000_000
"""Largest picture that is decoded."""

_MAX_PIXEL_BYTES = 16  # four channels of 32 bits
MAX_LAYERED_PIXELS = 1_000_000_000
"""Pixels times scans of a progressive JPEG: each scan goes over the whole picture."""

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_WEBP = re.compile(rb"RIFF....WEBP(VP8[ LX])", re.DOTALL)
_NETPBM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*\n)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s")

# Start-of-frame markers; C4, C8 and CC in their midst mean something else.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_STANDALONE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))

# Tags of TIFF: width, length, bits, samples, width and length of a tile.
_WIDTH, _LENGTH, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 258, 277, 322, 323
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}


def picture_size(content: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG, PNG, WebP, TIFF, BMP or PNM; raises EncodingError."""
    try:
        if content.startswith(JPEG_START):
            size = jpeg_frame(content)[:2]
        elif content.startswith(PNG_START):
            size = png_size(content)
        elif webp := _WEBP.match(content):
            size = _webp_size(content, webp[1])
        elif content.startswith(_TIFF_STARTS):
            size = _tiff_size(content)
        elif content.startswith(b"BM"):
            size = _bmp_size(content)
        elif netpbm := _NETPBM.match(content):
            size = (int(netpbm[2]), int(netpbm[1]))
        else:
            raise EncodingError("unknown_encoding", "it is no JPEG, PNG, WebP, TIFF, BMP or PNM")
    except (struct.error, IndexError):
        raise EncodingError("unknown_encoding", "its header is cut off") from None
    check_size(*size)
    return size


def check_size(height: int, width: int, most: int = MAX_PIXELS) -> None:
    """Refuse a picture of no pixels or of too many; raises EncodingError."""
    if height < 1 or width < 1:
        raise EncodingError("zero_size", f"image has size {width}x{height}")
    if height * width > most:
        raise EncodingError("too_large", f"image of {width}x{height} is above {most} pixels")


def png_size(content: bytes) -> tuple[int, int]:
    """Return (height, width) from the first chunk, where the header has to be.

    OpenCV allocates what a chunk says that it holds, so all of them must lie within the content.
    """
    chunks = list(png_chunks(content))
    if not chunks or chunks[0][0] != b"IHDR" or chunks[0][2] - chunks[0][1] != 13:
        raise EncodingError("bad_png", "PNG does not begin with its header")
    if chunks[-1][0] != PNG_END:
        raise EncodingError("bad_png", "PNG is cut off or damaged")
    width, height = struct.unpack_from(">II", content, chunks[0][1])
    return height, width


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of a PNG's chunks, as far as they are whole."""
    position = len(PNG_START)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            return
        yield kind, position + 8, end
        if kind == PNG_END:
            return
        position = end + 4


def png_of_indices(content: bytes) -> tuple[bytes, int]:
    """Return a PNG whose pixels are the stored indices, or bits, of one with a palette or of less
    than 8 bits, and what its pixels are to be divided by; others as they are.

    Decoders turn indices into colours and spread 1, 2 and 4 bits to 0 to 255, so the header is
    rewritten to grey, and palette and transparency are left out.
    """
    if not content.startswith(PNG_START) or len(content) < 26:
        return content, 1
    depth, colour = content[24], content[25]
    if depth not in (1, 2, 4, 8) or (colour != 3 and (colour != 0 or depth == 8)):
        return content, 1
    parts = [PNG_START]
    for kind, start, end in png_chunks(content):
        data = content[start:end]
        if kind == b"IHDR":
            data = data[:9] + b"\0" + data[10:]
        if kind in (b"IHDR", b"IDAT", PNG_END):
            parts.append(struct.pack(">I", len(data)) + kind + data)
            parts.append(struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts), 255 // (2**depth - 1)


def jpeg_frame(content: bytes) -> tuple[int, int, int]:
    """Return height, width and where the first scan begins; EncodingError ``too_large`` for too
    many scans of a large picture.
    """
    size = None
    position = 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            break
        marker = content[position + 1]
        if marker == 0xFF or marker in _STANDALONE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS and position + 9 <= len(content):
            size = struct.unpack_from(">HH", content, position + 5)
        if marker == _START_OF_SCAN:
            if size is None:
                break
            # in a scan FF is followed by 0 unless it is a marker
            scans = content.count(bytes((0xFF, _START_OF_SCAN)), position)
            if scans * size[0] * size[1] > MAX_LAYERED_PIXELS:
                raise EncodingError(
                    "too_large", f"JPEG of {size[1]}x{size[0]} has {scans} scans, too many"
                )
            return size[0], size[1], position
        position += 2 + struct.unpack_from(">H", content, position + 2)[0]
    raise EncodingError("bad_jpeg", "JPEG is cut off or damaged")


def _webp_size(content: bytes, kind: bytes) -> tuple[int, int]:
    if kind == b"VP8X":  # width and height less one, 24 bits each
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        # an animation, or a picture inside of another size than the canvas, is none of ours
        if content[20] & 2 or len(content) < 30:
            raise EncodingError("unknown_encoding", "it is an animated WebP")
        return height, width
    if kind == b"VP8L":  # 14 bits each, less one
        bits = struct.unpack_from("<I", content, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return height & 0x3FFF, width & 0x3FFF


def _bmp_size(content: bytes) -> tuple[int, int]:
    header = struct.unpack_from("<I", content, 14)[0]
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", content, 18)
    return abs(height), width


def _tiff_size(content: bytes) -> tuple[int, int]:
    order = "<" if content.startswith(b"II") else ">"
    start = struct.unpack_from(order + "I", content, 4)[0]
    count = struct.unpack_from(order + "H", content, start)[0]
    found: dict[int, int] = {}
    for entry in range(count):
        tag, kind, values = struct.unpack_from(order + "HHI", content, start + 2 + 12 * entry)
        if tag not in (_WIDTH, _LENGTH, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH):
            continue
        if kind not in _TIFF_TYPES or tag in found:
            raise EncodingError("unknown_encoding", "its header is damaged")
        letter = _TIFF_TYPES[kind]
        at = start + 2 + 12 * entry + 8
        if values * struct.calcsize(letter) > 4:  # they lie elsewhere: bits of each sample
            at = struct.unpack_from(order + "I", content, at)[0]
        found[tag] = struct.unpack_from(order + letter, content, at)[0]
    pixel_bytes = found.get(_BITS, 1) * found.get(_SAMPLES, 1) / 8
    if pixel_bytes > _MAX_PIXEL_BYTES:
        raise EncodingError("too_large", f"a pixel has {pixel_bytes:g} bytes")
    if _TILE_WIDTH in found:
        check_size(found.get(_TILE_LENGTH, 1), found[_TILE_WIDTH])
    return found.get(_LENGTH, 0), found.get(_WIDTH, 0)
