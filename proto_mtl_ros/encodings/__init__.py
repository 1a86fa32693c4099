# SPDX-License-Identifier: Apache-2.0
"""Images of sensor_msgs as arrays and back, with numpy and OpenCV alone.

The functions take a message's fields, not the message, so that they serve rclpy, recordings and
tests alike. Nothing is copied where the stored layout is already what is wanted.
"""

from proto_mtl_ros.encodings.compressed import (
    decode_compressed,
    decode_compressed_depth,
    decode_file,
    encode_compressed,
    is_png_of_16_bits,
)
from proto_mtl_ros.encodings.encoding import ENCODINGS, Encoding, EncodingError, find_encoding
from proto_mtl_ros.encodings.image import decode_image, to_depth, to_rgb
from proto_mtl_ros.encodings.picture_size import MAX_PIXELS

__all__ = [
    "ENCODINGS",
    "MAX_PIXELS",
    "Encoding",
    "EncodingError",
    "decode_compressed",
    "decode_compressed_depth",
    "decode_file",
    "decode_image",
    "encode_compressed",
    "find_encoding",
    "is_png_of_16_bits",
    "to_depth",
    "to_rgb",
]
