# SPDX-License-Identifier: Apache-2.0
"""Which way up an image is to be shown, as its EXIF data say."""

from __future__ import annotations

import struct

from proto_mtl_ros.encodings.picture_size import JPEG_START, PNG_START, png_chunks

QUARTER_TURNS = {1: 0, 6: 1, 3: 2, 8: 3}
"""Orientation -> quarter turns clockwise; the other four mirror."""

_TAG, _SHORT = 0x0112, 3


def exif_orientation(content: bytes) -> int:
    """Return the orientation, 1 to 8, of a JPEG or PNG; 1 where it does not say."""
    exif = b""
    if content.startswith(JPEG_START):
        place = 2
        while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
            length = int.from_bytes(content[place + 2 : place + 4], "big")
            if content[place + 1] == 0xE1 and content[place + 4 : place + 10] == b"Exif\0\0":
                exif = content[place + 10 : place + 2 + length]
                break
            place += 2 + length
    elif content.startswith(PNG_START):
        for kind, start, end in png_chunks(content):
            if kind == b"eXIf":
                exif = content[start:end]
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        start = struct.unpack_from(order + "I", exif, 4)[0]
        for entry in range(struct.unpack_from(order + "H", exif, start)[0]):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * entry)
            if tag == _TAG and kind == _SHORT and 1 <= value <= 8:
                return int(value)
    except (KeyError, struct.error):  # damaged or none: as it is stored
        pass
    return 1
