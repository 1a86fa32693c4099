# SPDX-License-Identifier: Apache-2.0
"""Class ids, depth and normals as colours. What is invalid is black."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]

# Turbo backwards: near is red, far is blue.
_LEVELS = np.arange(255, -1, -1, dtype=np.uint8).reshape(256, 1)
_DEPTH_COLOURS: RGB = np.ascontiguousarray(
    cv2.applyColorMap(_LEVELS, cv2.COLORMAP_TURBO).reshape(256, 1, 3)[..., ::-1]
)
# y and z are negated, so that up is green and towards the camera is blue.
_NORMAL_COLOURS = np.array(
    [[127.5, 0, 0, 127.5], [0, -127.5, 0, 127.5], [0, 0, -127.5, 127.5]], np.float32
)


def draw_segmentation(ids: npt.NDArray[np.uint8], palette: npt.ArrayLike) -> RGB:
    """Colours, uint8 [H, W, 3], of class ids uint8 [H, W]; ids beyond the palette are black.

    The palette has one RGB colour per class, [C, 3] of 0 to 255.
    """
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) > 256:
        raise ValueError(f"palette has shape {colours.shape}, (classes, 3) is needed")
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(colours), 0] = colours
    drawn: Any = cv2.applyColorMap(np.ascontiguousarray(ids), table)
    return drawn


def overlay(
    rgb: RGB, ids: npt.NDArray[np.uint8], palette: npt.ArrayLike, alpha: float = 0.5
) -> RGB:
    """The picture, uint8 [H, W, 3], tinted by class; unlabelled pixels stay as they are."""
    colours = draw_segmentation(ids, palette)
    mixed: Any = cv2.addWeighted(colours, alpha, np.ascontiguousarray(rgb), 1 - alpha, 0)
    unlabelled = (ids >= len(np.asarray(palette))).view(np.uint8)
    cv2.copyTo(np.ascontiguousarray(rgb), unlabelled, mixed)
    return mixed


def draw_depth(depth: npt.NDArray[np.float32], near: float = 0.0, far: float = 10.0) -> RGB:
    """Colours, uint8 [H, W, 3], of depth [H, W] in metres: red is near, blue is far.

    The range is fixed by the caller, so that one colour means one distance in every frame.
    ValueError: far is not beyond near.
    """
    if not far > near:
        raise ValueError(f"far ({far} m) must be beyond near ({near} m)")
    with np.errstate(invalid="ignore"):
        valid = (depth > 0) & (depth < np.inf)
        scaled = np.clip((depth - np.float32(near)) * np.float32(255 / (far - near)), 0, 255)
    levels = np.where(valid, scaled, 0).astype(np.uint8)
    colours: Any = cv2.applyColorMap(levels, _DEPTH_COLOURS)
    return _masked(colours, valid)


def draw_normals(normals: npt.NDArray[np.float32]) -> RGB:
    """Colours, uint8 [H, W, 3], of unit normals [H, W, 3] in the optical frame.

    Red grows to the right, green upwards and blue towards the camera, so a wall seen from the
    front is light blue and a floor green. (0, 0, 0) and NaN are black.
    """
    normals = np.ascontiguousarray(normals, np.float32)
    colours: Any = cv2.convertScaleAbs(cv2.transform(normals, _NORMAL_COLOURS))
    with np.errstate(invalid="ignore"):
        valid = cv2.transform(cv2.multiply(normals, normals), np.ones((1, 3), np.float32)) > 0.25
    return _masked(colours, valid)


def _masked(colours: RGB, valid: npt.NDArray[np.bool_]) -> RGB:
    """The colours where valid, black elsewhere."""
    masked: Any = cv2.bitwise_and(colours, colours, mask=valid.view(np.uint8))
    return masked
