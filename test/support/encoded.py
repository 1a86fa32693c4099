# SPDX-License-Identifier: Apache-2.0
"""Parts of encoded images, and the cause that a wrong one is refused for."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from proto_mtl_ros.encodings import EncodingError


def cause_of(function: Callable[..., Any], *arguments: Any) -> str:
    """Return the cause of the error that a call ends with, which is told in one line."""
    with pytest.raises(EncodingError) as caught:
        function(*arguments)
    assert str(caught.value) and "\n" not in str(caught.value)
    return caught.value.cause


def png_chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def turned_jpeg(jpeg: bytes) -> bytes:
    """Return a JPEG with a tag that says it is to be turned by a quarter."""
    tag = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + jpeg[2:]
