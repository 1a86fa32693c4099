# SPDX-License-Identifier: Apache-2.0
"""The pixel encodings of sensor_msgs/image_encodings.hpp that are read, and what can be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros.errors import INPUT, ProtoMtlError


class EncodingError(ProtoMtlError):
    """An image cannot be read; ``cause`` is a short name that drops are counted by.

    Causes: ``zero_size``, ``short_data``, ``bad_step``, ``bad_width`` (odd size of a 4:2:2 or 4:2:0
    image, or a mosaic that is too small), ``unknown_encoding``, ``wrong_kind`` (depth where a
    picture is needed, or the reverse), ``too_large``, ``bad_jpeg``, ``bad_png``.
    """

    exit_status = INPUT

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Encoding:
    """How pixels of an encoding are stored: the numpy name of one channel, without byte order;
    ``kind`` is ``color``, ``depth``, ``either`` for 16-bit single channels, which are images of an
    infrared camera or depth in millimetres, or ``other``; ``to_rgb`` is OpenCV's conversion of
    8-bit pixels, None where they are RGB already.
    """

    name: str
    dtype: str
    channels: int
    kind: str
    to_rgb: int | None = None

    @property
    def rows(self) -> float:
        """Stored rows for each of the image."""
        return 1.5 if self.name.startswith("nv") else 1

    @property
    def pixel_bytes(self) -> int:
        return self.channels * np.dtype(self.dtype).itemsize


_TABLE = (
    Encoding("rgb8", "u1", 3, "color"),
    Encoding("bgr8", "u1", 3, "color", cv2.COLOR_BGR2RGB),
    Encoding("rgba8", "u1", 4, "color", cv2.COLOR_RGBA2RGB),
    Encoding("bgra8", "u1", 4, "color", cv2.COLOR_BGRA2RGB),
    Encoding("mono8", "u1", 1, "color", cv2.COLOR_GRAY2RGB),
    # Generic types leave the order open; OpenCV's own habit is BGR, and cv_bridge follows it.
    Encoding("8UC1", "u1", 1, "color", cv2.COLOR_GRAY2RGB),
    Encoding("8UC3", "u1", 3, "color", cv2.COLOR_BGR2RGB),
    Encoding("8UC4", "u1", 4, "color", cv2.COLOR_BGRA2RGB),
    # 16-bit pictures lose their lower byte.
    Encoding("16UC3", "u2", 3, "color", cv2.COLOR_BGR2RGB),
    Encoding("16UC4", "u2", 4, "color", cv2.COLOR_BGRA2RGB),
    Encoding("rgb16", "u2", 3, "color"),
    Encoding("bgr16", "u2", 3, "color", cv2.COLOR_BGR2RGB),
    Encoding("rgba16", "u2", 4, "color", cv2.COLOR_RGBA2RGB),
    Encoding("bgra16", "u2", 4, "color", cv2.COLOR_BGRA2RGB),
    # 4:2:2, each under its first name and the one that later distributions give it.
    Encoding("yuv422", "u1", 2, "color", cv2.COLOR_YUV2RGB_UYVY),
    Encoding("uyvy", "u1", 2, "color", cv2.COLOR_YUV2RGB_UYVY),
    Encoding("yuv422_yuy2", "u1", 2, "color", cv2.COLOR_YUV2RGB_YUY2),
    Encoding("yuyv", "u1", 2, "color", cv2.COLOR_YUV2RGB_YUY2),
    # 4:2:0, rows of brightness and then half as many of colour
    Encoding("nv12", "u1", 1, "color", cv2.COLOR_YUV2RGB_NV12),
    Encoding("nv21", "u1", 1, "color", cv2.COLOR_YUV2RGB_NV21),
    # ROS names a mosaic by its first row, OpenCV (all versions) by its second row and column
    *(
        Encoding(f"bayer_{first}{bits}", f"u{bits // 8}", 1, "color", code)
        for bits in (8, 16)
        for first, code in (
            ("rggb", cv2.COLOR_BayerBG2RGB),
            ("bggr", cv2.COLOR_BayerRG2RGB),
            ("gbrg", cv2.COLOR_BayerGR2RGB),
            ("grbg", cv2.COLOR_BayerGB2RGB),
        )
    ),
    Encoding("mono16", "u2", 1, "either", cv2.COLOR_GRAY2RGB),
    Encoding("16UC1", "u2", 1, "depth"),
    Encoding("32FC1", "f4", 1, "depth"),
    Encoding("32FC3", "f4", 3, "other"),
)

ENCODINGS: dict[str, Encoding] = {encoding.name: encoding for encoding in _TABLE}


def find_encoding(name: str) -> Encoding:
    if name not in ENCODINGS:
        raise EncodingError("unknown_encoding", f"encoding '{name}' is not known")
    return ENCODINGS[name]
