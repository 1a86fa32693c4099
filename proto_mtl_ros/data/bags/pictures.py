# SPDX-License-Identifier: Apache-2.0
"""The pixels of recorded messages: a picture, depth in metres, class ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.message_types import VIDEO_PACKET
from proto_mtl_ros.encodings import (
    EncodingError,
    decode_compressed,
    decode_compressed_depth,
    decode_image,
    to_depth,
    to_rgb,
)
from proto_mtl_ros.errors import BagError, DataError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

_FARTHEST = 100.0
"""Metres beyond which no depth sensor of a robot measures: what it says there is made up."""


def image_arguments(image: Any) -> tuple[str, int, int, int, bool, Any]:
    """Return the fields of a decoded Image message in the order that ``encodings`` takes them."""
    size = image.height, image.width
    return (image.encoding, *size, image.step, bool(image.is_bigendian), image.data)


def decode_picture(message: BagMessage) -> np.ndarray:
    """Return the image of a message as uint8 [H, W, 3] RGB; BagError where it is damaged."""
    if message.type == VIDEO_PACKET:
        raise BagError(f"a packet of {message.topic} cannot be decoded (needs the extra `video`)")
    with _one_line_errors(message) as image:
        if message.type == COMPRESSED_IMAGE:
            return decode_compressed(image.format, image.data)
        return to_rgb(*image_arguments(image))


def decode_depth(message: BagMessage) -> np.ndarray:
    """Return float32 [H, W] metres along the optical axis, NaN where invalid."""
    with _one_line_errors(message) as image:
        if message.type == COMPRESSED_IMAGE:
            depth = decode_compressed_depth(image.format, image.data)
        else:
            depth = to_depth(*image_arguments(image))
        depth[depth > _FARTHEST] = np.nan
        return depth


def decode_ids(message: BagMessage) -> np.ndarray:
    """Return class ids uint8 [H, W]; DataError where pixels are none."""
    with _one_line_errors(message) as image:
        ids = decode_image(*image_arguments(image))
    if ids.dtype != np.uint8 or ids.ndim != 2:
        raise DataError(f"{message.topic} has no class ids: they are mono8 or 8UC1")
    return ids


@contextmanager
def _one_line_errors(message: BagMessage) -> Iterator[Any]:
    """Give the decoded message; make a BagError of what is wrong with its image."""
    try:
        yield message.decode()
    except EncodingError as error:
        why = f"an image of {message.topic} cannot be decoded ({error}): record it again"
        raise BagError(why) from error
