# SPDX-License-Identifier: Apache-2.0
"""Fields of sensor_msgs/Image <-> arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.encodings.encoding import EncodingError, find_encoding


def decode_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> npt.NDArray[Any]:
    """Pixels as stored, [H, W] or [H, W, channels], of 4:2:0 [1.5 H, W]: a view of the data (any
    contiguous buffer of bytes) in the byte order of the message. ``step`` is bytes from one row to
    the next; more than the pixels need is padding.

    EncodingError: ``unknown_encoding``, ``zero_size``, ``bad_step`` or ``short_data``.
    """
    layout = find_encoding(encoding)
    if height < 1 or width < 1:
        raise EncodingError("zero_size", f"image has size {width}x{height}")
    row_bytes = width * layout.pixel_bytes
    if step < row_bytes:
        raise EncodingError(
            "bad_step", f"step is {step}, a row of {width} {encoding} pixels takes {row_bytes}"
        )
    available, rows = memoryview(data).nbytes, int(height * layout.rows)
    if available < rows * step:
        raise EncodingError(
            "short_data", f"data has {available} bytes, {rows} rows of {step} are needed"
        )
    dtype = np.dtype(layout.dtype).newbyteorder(">" if is_bigendian else "<")
    shape: tuple[int, ...] = (rows, width)
    strides: tuple[int, ...] = (step, layout.pixel_bytes)
    if layout.channels > 1:
        shape, strides = (*shape, layout.channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, buffer=data, strides=strides)


def to_rgb(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of a picture; a view of the data for ``rgb8``.

    EncodingError: as :func:`decode_image`; ``wrong_kind`` for depth, ``bad_width`` for an odd 4:2:2
    or 4:2:0 size and for a mosaic below 3x3.
    """
    layout = find_encoding(encoding)
    if layout.kind not in ("color", "either"):
        raise EncodingError("wrong_kind", f"encoding {encoding} is not a picture")
    if layout.channels == 2 and width % 2 or layout.rows != 1 and (width | height) % 2:
        raise EncodingError("bad_width", f"{encoding} needs an even size, not {width}x{height}")
    pixels = decode_image(encoding, height, width, step, is_bigendian, data)
    if encoding.startswith("bayer") and min(height, width) < 3:  # OpenCV leaves it black
        raise EncodingError("bad_width", f"a {width}x{height} mosaic is too small")
    if layout.dtype == "u2":
        pixels = (pixels >> 8).astype(np.uint8)
    if layout.to_rgb is None:
        return pixels
    rgb: Any = cv2.cvtColor(pixels, layout.to_rgb)
    return rgb


def to_depth(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> npt.NDArray[np.float32]:
    """Depth in metres, float32 [H, W], NaN where there is none (REP-118; REP-117's infinities too).
    EncodingError: as :func:`decode_image`; ``wrong_kind`` for a picture.
    """
    if find_encoding(encoding).kind not in ("depth", "either"):
        raise EncodingError("wrong_kind", f"encoding {encoding} is not depth")
    stored = decode_image(encoding, height, width, step, is_bigendian, data)
    depth = stored.astype(np.float32)
    if stored.dtype.kind == "u":
        depth *= np.float32(0.001)  # REP-118: unsigned integers are millimetres
        depth[stored == np.iinfo(np.uint16).max] = np.nan  # what a sensor has not measured
    depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth
