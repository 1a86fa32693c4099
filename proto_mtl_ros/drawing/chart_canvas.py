# SPDX-License-Identifier: Apache-2.0
"""A picture to draw charts on, in units of the page; of twice the size, for sharp screens."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from proto_mtl_ros.drawing.legend import BACKGROUND
from proto_mtl_ros.encodings import encode_compressed

_SCALE = 2

GRID = (222, 228, 233)
SOFT = (104, 117, 125)
STRONG = (11, 122, 117)
OTHER = (158, 170, 180)


class ChartCanvas:
    """An empty page of ``width`` x ``height``; x grows to the right and y downwards."""

    def __init__(self, width: float, height: float) -> None:
        size = (round(_SCALE * height), round(_SCALE * width), 3)
        self._pixels = np.full(size, BACKGROUND, np.uint8)

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: Sequence[int]
    ) -> None:
        """Fill a rectangle; at least a pixel of it is seen."""
        left, top = round(x * _SCALE), round(y * _SCALE)
        right, bottom = round((x + width) * _SCALE), round((y + height) * _SCALE)
        self._pixels[top : max(bottom, top + 1), left : max(right, left + 1)] = colour

    def write(
        self,
        text: str,
        x: float,
        y: float,
        colour: Sequence[int],
        size: float,
        centre: bool = False,
    ) -> None:
        """Write a line of ASCII whose baseline starts (or is centred) at (x, y)."""
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, size * _SCALE
        if centre:
            x -= cv2.getTextSize(text, font, scale, 2)[0][0] / (2 * _SCALE)
        where = (round(x * _SCALE), round(y * _SCALE))
        shade = tuple(map(int, colour))
        cv2.putText(self._pixels, text, where, font, scale, shade, 2, cv2.LINE_AA)

    def line(self, points: Sequence[tuple[float, float]], colour: Sequence[int]) -> None:
        """Draw the lines between points."""
        shade = tuple(map(int, colour))
        places = np.round(_SCALE * np.reshape(np.asarray(points, float), (-1, 2))).astype(np.int32)
        cv2.polylines(self._pixels, [places], False, shade, 3, cv2.LINE_AA)

    def course(self, points: Sequence[tuple[float, float]], colour: Sequence[int]) -> None:
        """Draw points and the lines between them."""
        self.line(points, colour)
        for x, y in points:
            place = (round(x * _SCALE), round(y * _SCALE))
            cv2.circle(self._pixels, place, 7, tuple(map(int, colour)), -1, cv2.LINE_AA)

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        return encode_compressed(self._pixels, "png").tobytes()
