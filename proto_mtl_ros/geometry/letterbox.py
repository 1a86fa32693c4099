# SPDX-License-Identifier: Apache-2.0
"""Images to the network's size and maps back, without stretching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.camera import Camera

PADDING_GREY = 127


def resize(
    image: npt.NDArray[Any], width: int, height: int, interpolation: str = "linear"
) -> npt.NDArray[Any]:
    """Image or map [H, W] or [H, W, C] at width x height; the one resize of the project.

    Pixel centres follow c' = (c + 0.5) s - 0.5. ``linear`` averages areas when shrinking and is
    bilinear otherwise; ``nearest`` copies values, for ids and for depth with holes.
    """
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"interpolation '{interpolation}' is not known, use linear or nearest")
    if width < 1 or height < 1:
        raise ValueError(f"size {width}x{height} is not positive")
    if image.shape[:2] == (height, width):
        return image
    if interpolation == "nearest":
        return _nearest(image, width, height)
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)
    return resized.reshape(height, width, *image.shape[2:])


def height_at(width: int, image: npt.NDArray[Any]) -> int:
    """Height in pixels, at least 1, of an image [H, W, ...] that is resized to ``width``."""
    return max(1, round(image.shape[0] * width / image.shape[1]))


def resize_to_width(
    image: npt.NDArray[Any], width: int, interpolation: str = "linear"
) -> npt.NDArray[Any]:
    """Image or map [H, W] or [H, W, C] at ``width``, its height in proportion; see ``resize``."""
    return resize(image, width, height_at(width, image), interpolation)


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies inside the network's input: scaled by one factor, padded with grey."""

    src_width: int
    src_height: int
    dst_width: int
    dst_height: int
    scale: float
    new_w: int
    new_h: int
    left: int
    top: int

    @classmethod
    def fit(cls, src_w: int, src_h: int, dst_w: int, dst_h: int) -> Letterbox:
        """The largest image of src_w : src_h inside dst_w x dst_h, centred."""
        if min(src_w, src_h, dst_w, dst_h) < 1:
            raise ValueError(f"cannot fit {src_w}x{src_h} into {dst_w}x{dst_h}")
        scale = min(dst_w / src_w, dst_h / src_h)
        new_w = min(max(round(src_w * scale), 1), dst_w)
        new_h = min(max(round(src_h * scale), 1), dst_h)
        left, top = (dst_w - new_w) // 2, (dst_h - new_h) // 2
        return cls(src_w, src_h, dst_w, dst_h, scale, new_w, new_h, left, top)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the network's input that hold the image."""
        return slice(self.top, self.top + self.new_h), slice(self.left, self.left + self.new_w)

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Image uint8 [src_height, src_width, 3] at the network's size, padded with grey."""
        if image.shape[:2] != (self.src_height, self.src_width):
            raise ValueError(
                f"image is {image.shape[1]}x{image.shape[0]}, "
                f"the letterbox was made for {self.src_width}x{self.src_height}"
            )
        resized = resize(image, self.new_w, self.new_h)
        if (self.new_w, self.new_h) == (self.dst_width, self.dst_height):
            return resized
        shape = (self.dst_height, self.dst_width, *image.shape[2:])
        canvas = np.full(shape, PADDING_GREY, image.dtype)
        canvas[self.window] = resized
        return canvas

    def camera(self, camera: Camera) -> Camera:
        """The camera of the network's input, from the camera of the source image."""
        right = self.dst_width - self.new_w - self.left
        bottom = self.dst_height - self.new_h - self.top
        return camera.resized(self.new_w, self.new_h).padded(self.left, self.top, right, bottom)

    def undo(self, values: npt.NDArray[Any], interpolation: str = "nearest") -> npt.NDArray[Any]:
        """Map [dst_height, dst_width, ...] at the source size, its padding cut off.

        Linear interpolation does not keep vectors at unit length: normalise normals after it.
        """
        if values.shape[:2] != (self.dst_height, self.dst_width):
            raise ValueError(
                f"map is {values.shape[1]}x{values.shape[0]}, "
                f"the letterbox makes {self.dst_width}x{self.dst_height}"
            )
        return resize(values[self.window], self.src_width, self.src_height, interpolation)


def _nearest(image: npt.NDArray[Any], width: int, height: int) -> npt.NDArray[Any]:
    """Value of the pixel whose area holds the centre of each new pixel."""
    # Not cv2.INTER_NEAREST, which is shifted by half a pixel against the other modes.
    rows = ((np.arange(height) + 0.5) * (image.shape[0] / height)).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * (image.shape[1] / width)).astype(np.intp)
    if height <= image.shape[0]:
        return np.take(np.take(image, rows, axis=0), columns, axis=1)
    # whole rows are copied much faster than single pixels: they last, where there are more of them
    return np.take(np.take(image, columns, axis=1), rows, axis=0)
