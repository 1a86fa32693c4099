# SPDX-License-Identifier: Apache-2.0
"""Data of sensor_msgs/CompressedImage <-> arrays: JPEG, PNG and compressed depth.

Headers are read before anything is decoded. A few bytes may declare a picture of gigabytes, and
OpenCV's decoders print to the terminal what they find wrong.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.encodings.encoding import EncodingError
from proto_mtl_ros.encodings.image import to_depth
from proto_mtl_ros.encodings.picture_size import (
    JPEG_START,
    MAX_PIXELS,
    PNG_END,
    PNG_START,
    check_size,
    jpeg_frame,
    picture_size,
    png_chunks,
    png_size,
)
from proto_mtl_ros.encodings.rvl import decode_rvl

_JPEG_END = b"\xff\xd9"
# ConfigHeader of compressed_depth_image_transport: an enum and two floats.
_DEPTH_HEADER = struct.Struct("<iff")
_RVL_SIZE = struct.Struct("<ii")


def decode_compressed(
    format: str, data: Any, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of a JPEG or PNG picture.

    The data's own signature decides, because the format field is free text. An orientation in EXIF
    is not applied: camera_info describes the pixels as stored. EncodingError: ``zero_size``,
    ``unknown_encoding``, ``wrong_kind``, ``too_large``, ``bad_jpeg`` or ``bad_png``.
    """
    content = _content(data)
    if "compresseddepth" in format.lower():
        raise EncodingError("wrong_kind", f"format '{format}' is depth, not a picture")
    if is_png_of_16_bits(content) and not format.strip().startswith("mono16"):
        raise EncodingError("wrong_kind", "a PNG of one channel of 16 bits is depth, not a picture")
    if content.startswith(JPEG_START):
        cause, size = "bad_jpeg", _whole_jpeg(content)
    elif content.startswith(PNG_START):
        cause, size = "bad_png", _whole_png(content)
    else:
        raise EncodingError(
            "unknown_encoding", f"compressed data of format '{format}' is neither JPEG nor PNG"
        )
    check_size(*size, max_pixels)
    picture = _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, size, cause)
    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
    return picture


def is_png_of_16_bits(data: Any) -> bool:
    """Tell whether data is a PNG of one channel of 16 bits, by its header."""
    head = bytes(memoryview(data)[:26])
    return head.startswith(PNG_START) and head[24:] == b"\x10\0"


def decode_compressed_depth(format: str, data: Any) -> npt.NDArray[np.float32]:
    """Depth in metres, float32 [H, W], NaN where there is none, of a compressedDepth topic.

    16UC1 is a PNG, or RVL, of millimetres; 32FC1 one of quantised inverse depth, whose two
    constants are in the header before it. A bare 16-bit PNG is read as millimetres. EncodingError:
    ``zero_size``, ``unknown_encoding``, ``wrong_kind``, ``too_large``, ``bad_png`` or ``bad_rvl``.
    """
    content = _content(data)
    quantisation = (0.0, 0.0)
    if not content.startswith(PNG_START) and len(content) > _DEPTH_HEADER.size:
        quantisation = _DEPTH_HEADER.unpack_from(content)[1:]
        content = content[_DEPTH_HEADER.size :]
    if content.startswith(PNG_START):
        stored = _decode(content, cv2.IMREAD_UNCHANGED, _whole_png(content), "bad_png")
    elif "rvl" in format.lower():
        stored = _rvl(content)
    else:
        raise EncodingError(
            "unknown_encoding", f"compressed depth of format '{format}' is neither PNG nor RVL"
        )
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise EncodingError("wrong_kind", "a PNG of depth has one channel of 16 bits")
    if format.strip().startswith("32FC1"):
        factor, offset = quantisation
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (factor / (stored.astype(np.float32) - np.float32(offset))).astype(np.float32)
        depth[(stored == 0) | ~((depth > 0) & (depth < np.inf))] = np.nan
        return depth
    height, width = stored.shape
    return to_depth("16UC1", height, width, 2 * width, not np.little_endian, stored)


def _rvl(content: bytes) -> npt.NDArray[np.uint16]:
    if len(content) < _RVL_SIZE.size:
        raise EncodingError("bad_rvl", "depth is too short to say its size")
    width, height = _RVL_SIZE.unpack_from(content)
    check_size(height, width)
    return decode_rvl(content[_RVL_SIZE.size :], width * height).reshape(height, width)


def encode_compressed(
    rgb: npt.NDArray[np.uint8], format: str = "jpeg", quality: int = 90
) -> npt.NDArray[np.uint8]:
    """Bytes, uint8 [N], of RGB [H, W, 3] as ``jpeg`` or ``png``; ValueError for another format."""
    if format not in ("jpeg", "png"):
        raise ValueError(f"format '{format}' is not known, use jpeg or png")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpeg" else []
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    encoded: Any = cv2.imencode("." + format, bgr, options)[1]
    return encoded.reshape(-1)


def _content(data: Any) -> bytes:
    content = data if isinstance(data, bytes) else bytes(memoryview(data))
    if not content:
        raise EncodingError("zero_size", "compressed image has no data")
    return content


def decode_file(content: bytes, flags: int) -> npt.NDArray[Any]:
    """Return the pixels of a picture file as OpenCV's ``flags`` say, its header looked at first.

    Unlike a message, a file may be cut off: what is missing is then grey, as in any viewer.
    EncodingError: ``unknown_encoding``, ``zero_size``, ``too_large`` or ``bad_file``.
    """
    return _decode(content, flags, picture_size(content), "bad_file")


def _decode(content: bytes, flags: int, size: tuple[int, int], cause: str) -> npt.NDArray[Any]:
    check_size(*size)
    try:
        picture: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise EncodingError(cause, f"compressed image cannot be decoded: {error.err}") from None
    # a file may say how it is to be turned
    if picture is None or (picture.shape[:2] != size and picture.shape[1::-1] != size):
        raise EncodingError(cause, "compressed image cannot be decoded: its data is damaged")
    return picture


def _whole_jpeg(content: bytes) -> tuple[int, int]:
    """Return height and width of a JPEG that reaches its end marker."""
    height, width, scan = jpeg_frame(content)
    # In the scan FF is always followed by 0, so this marker is the picture's own end.
    if content.rfind(_JPEG_END, scan) < 0:
        raise EncodingError("bad_jpeg", "JPEG is cut off or damaged")
    return height, width


def _whole_png(content: bytes) -> tuple[int, int]:
    """Return height and width of a PNG whose chunks are whole and unchanged."""
    for kind, start, end in png_chunks(content):
        checksum = struct.unpack_from(">I", content, end)[0]
        if zlib.crc32(memoryview(content)[start - len(kind) : end]) != checksum:
            break
        if kind == PNG_END:
            return png_size(content)
    raise EncodingError("bad_png", "PNG is cut off or damaged")
