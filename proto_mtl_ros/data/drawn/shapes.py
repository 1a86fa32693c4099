# SPDX-License-Identifier: Apache-2.0
"""The shapes that are drawn over an image, and the mask that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from proto_mtl_ros.encodings import MAX_PIXELS, decode_file
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import IGNORE_INDEX

IGNORED = "__ignore__"
"""LabelMe's name for what is to be unlabelled."""

_FARTHEST = 100_000.0
"""Pixels from the origin that a corner may lie; OpenCV counts in fractions of 32 bits."""


@dataclass(frozen=True)
class Patch:
    """Pixels, uint8 [h, w] != 0, whose first one lies at (left, top) of the image."""

    pixels: np.ndarray
    left: int = 0
    top: int = 0


Shape = Patch | Sequence[np.ndarray]
"""Pixels, or the union of polygons float [n, 2]."""


@dataclass(frozen=True)
class DrawnMask:
    """The shapes of one image, (class name, shape); a later one covers an earlier one. ``name`` is
    the file name of the image, ``where`` the file of the shapes, for messages.
    """

    where: str
    name: str
    width: int
    height: int
    shapes: tuple[tuple[str, Shape], ...]

    def draw(self, classes: Sequence[str]) -> np.ndarray:
        """Return class ids, uint8 [height, width], 255 where nothing was drawn."""
        ids = np.full((self.height, self.width), IGNORE_INDEX, np.uint8)
        for name, shape in self.shapes:
            if name not in classes and name != IGNORED:
                raise DataError(
                    f"{self.where} has the class {name!r}, which the list of classes does not name:"
                    " add it there"
                )
            index = IGNORE_INDEX if name == IGNORED else classes.index(name)
            if isinstance(shape, Patch):
                _put(ids, shape, index)
                continue
            for polygon in shape:  # one by one: together, what lies in two of them would be a hole
                cv2.fillPoly(ids, [np.rint(polygon).astype(np.int32)], index)
        return ids


def _put(ids: np.ndarray, patch: Patch, index: int) -> None:
    """Set the pixels of a patch, as far as they lie in the image."""
    top, left = max(patch.top, 0), max(patch.left, 0)
    seen = patch.pixels[top - patch.top :, left - patch.left :]
    target = ids[top : top + seen.shape[0], left : left + seen.shape[1]]
    target[seen[: target.shape[0], : target.shape[1]] != 0] = index


def size(width: Any, height: Any) -> tuple[int, int]:
    """Return (width, height) of an image that shapes are drawn over."""
    width, height = int(width), int(height)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a picture of {width}x{height} is empty or above {MAX_PIXELS} pixels")
    return width, height


def corners(points: Any) -> np.ndarray:
    """Return float [n, 2] of corners that can be drawn."""
    found = np.array(points, np.float64).reshape(-1, 2)
    if not len(found) or not (np.abs(found) < _FARTHEST).all():  # NaN is not smaller either
        raise ValueError("a shape has no corner, or one that lies far outside of its picture")
    return found


def box(
    left: float, top: float, right: float, bottom: float, degrees: float = 0, about: Any = None
) -> list[np.ndarray]:
    """Return a rectangle, turned clockwise about a point, by default its centre."""
    points = corners([(left, top), (right, top), (right, bottom), (left, bottom)])
    centre = points.mean(0) if about is None else np.array(about, np.float64)
    return [corners((points - centre) @ _turned(degrees) + centre)]


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0) -> Patch:
    """Return the pixels within an ellipse, which is turned clockwise about its centre."""
    corners([(x, y), (rx, ry)])
    reach = float(max(abs(rx), abs(ry)))
    size(2 * reach + 2, 2 * reach + 2)
    left, top = int(np.floor(x - reach)), int(np.floor(y - reach))
    v, u = np.mgrid[top : int(y + reach) + 2, left : int(x + reach) + 2]
    across = np.stack([u - x, v - y], -1) @ _turned(degrees).T
    inside = np.linalg.norm(across / np.maximum([abs(rx), abs(ry)], 1e-9), axis=-1) < 1
    return Patch(np.asarray(inside, np.uint8), left, top)


def _turned(degrees: float) -> np.ndarray:
    """Return what points [..., 2] are multiplied with to turn clockwise (y points down)."""
    c, s = np.cos(np.radians(float(degrees))), np.sin(np.radians(float(degrees)))
    return np.array([[c, s], [-s, c]])


def picture(content: bytes, left: float, top: float) -> Patch:
    """Return the pixels of a PNG that are not black, at their place."""
    pixels = decode_file(content, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = pixels[..., 3] if pixels.shape[2] == 4 else pixels.max(-1)
    corner = corners([(left, top)])[0]
    return Patch((pixels != 0).astype(np.uint8), round(corner[0]), round(corner[1]))


def runs(counts: Any, width: int, height: int, by_columns: bool) -> np.ndarray:
    """Return uint8 [height, width] of run lengths, zeros first; ValueError for others."""
    lengths = np.array(counts, np.int64).reshape(-1)
    # a sum of 64 bits may come round to the right number, so no run may be longer than all
    fits = lengths.min(initial=0) >= 0 and lengths.max(initial=0) <= width * height
    if not fits or len(lengths) > width * height + 2 or int(lengths.sum()) != width * height:
        raise ValueError(f"run lengths do not cover {width}x{height} pixels")
    pixels = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.uint8)
    return pixels.reshape(width, height).T if by_columns else pixels.reshape(height, width)
