# SPDX-License-Identifier: Apache-2.0
"""What the arrays of the preprocessed packs mean, checked: pictures, class ids, disparity."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proto_mtl_ros.errors import DataError
from proto_mtl_ros.tasks import IGNORE_INDEX

BASELINE_FX = 0.209313 * 2262.52
"""Nominal product of Cityscapes' stereo baseline and focal length, metre pixels."""

FARTHEST = 250.0
"""Metres; Cityscapes disparities below two pixels are noise."""


def disparity_to_depth(stored: np.ndarray, baseline_fx: float = BASELINE_FX) -> np.ndarray:
    """Return metres float32 from Cityscapes' stored disparity, 0 where invalid or too far.

    Args:
        stored: the 16 bit disparity image divided by 65535.
        baseline_fx: stereo baseline in metres times fx in pixels of the full width.
    """
    pixels = (stored.astype(np.float64) * 65535 - 1) / 256
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = baseline_fx / pixels
    valid = np.isfinite(depth) & (pixels > 0) & (depth <= FARTHEST)
    return np.where(valid, depth, 0).astype(np.float32)


def rgb_of(image: np.ndarray, path: Path) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{path} has shape {image.shape}; images are [H, W, 3]")
    if image.dtype == np.uint8:
        return image
    if not np.isfinite(image).all() or image.min() < -0.01 or image.max() > 1.01:
        raise DataError(
            f"{path} has values from {image.min():g} to {image.max():g}; "
            "images are floats from 0 to 1 or uint8"
        )
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def ids_of(array: np.ndarray, classes: int, path: Path) -> np.ndarray:
    label = flat(array, path)
    void = (label == -1) | (label == IGNORE_INDEX)
    if not (void | ((label >= 0) & (label < classes) & (label == np.floor(label)))).all():
        raise DataError(
            f"{path} has values from {label.min():g} to {label.max():g}; class ids are 0 to "
            f"{classes - 1}, -1 = void"
        )
    return np.where(void, IGNORE_INDEX, label).astype(np.uint8)


def flat(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise DataError(f"{path} has shape {array.shape}; one channel [H, W] is needed")
    return array.astype(np.float32)
