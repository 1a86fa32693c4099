# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with an image message."""

from proto_mtl_ros.errors import INPUT, ProtoMtlError


class EncodingError(ProtoMtlError):
    """An image cannot be read; ``cause`` is a short name that drops are counted by.

    Causes: ``zero_size``, ``short_data``, ``bad_step``, ``bad_width`` (odd width of a 4:2:2 image,
    or a mosaic that is too small), ``unknown_encoding``, ``wrong_kind`` (depth where a picture is
    needed, or the reverse), ``too_large``, ``bad_jpeg``, ``bad_png``.
    """

    exit_status = INPUT

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause
