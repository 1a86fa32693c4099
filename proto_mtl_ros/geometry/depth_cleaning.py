# SPDX-License-Identifier: Apache-2.0
"""Measured depth without what a sensor made up: flying pixels, specks, values beyond its range."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.depth import valid_depth

_STEP = np.float32(0.05)
"""Relative difference between neighbours above which they lie on two surfaces."""

SHIFT, VARIATION = 0.04, 1.15
"""Misregistration, as a part of the image width, that smooth surroundings allow for, and how much
depth may vary in them.
"""

_STEEPER = np.float32(3.0)
"""So many times the usual difference of the surroundings is a step, too."""

_LEAST_AREA = 40

_PAIRS = ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:, :], np.s_[:-1, :]))
"""Each pixel and the one before it, along rows and along columns."""


def clean_depth(
    depth: npt.NDArray[np.floating[Any]], near: float = 0.3, far: float = 10.0
) -> npt.NDArray[np.float32]:
    """Return depth float32 [H, W] in metres, NaN where it is not to be believed.

    Taken out are values outside of ``near`` to ``far``; flying pixels, which lie in the air between
    two surfaces at an edge: pixels that have both a clearly nearer and a clearly farther neighbour;
    and specks, connected surfaces of fewer than 40 pixels. Holes stay holes.
    """
    result = np.where(valid_depth(depth), depth, np.nan).astype(np.float32)
    with np.errstate(invalid="ignore"):
        result[(result < near) | (result > far)] = np.nan
    known = np.isfinite(result)
    around = np.ones((3, 3), np.uint8)
    farthest = cv2.dilate(np.where(known, result, 0).astype(np.float32), around)
    nearest = cv2.erode(np.where(known, result, np.inf).astype(np.float32), around)
    limit = 1 + _largest_step(result)
    with np.errstate(invalid="ignore", over="ignore"):
        flying = known & (farthest > limit * result) & (result > limit * nearest)
    result[flying] = np.nan
    result[_specks(result, limit)] = np.nan
    return result


def smooth_surroundings(
    depth: npt.NDArray[np.floating[Any]], shift: float = SHIFT, variation: float = VARIATION
) -> npt.NDArray[np.bool_]:
    """Mask of pixels around which, within ``shift`` of the width, depth varies little.

    There a depth image that is not registered to the colour image says the right thing all the
    same, if it is off by no more.
    """
    known = valid_depth(depth)
    reach = max(1, round(shift * depth.shape[1]))
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    far = cv2.dilate(np.where(known, depth, 0).astype(np.float32), window)
    near = cv2.erode(np.where(known, depth, np.inf).astype(np.float32), window)
    with np.errstate(invalid="ignore", over="ignore"):
        return known & (far < near * variation)


def _largest_step(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Relative difference of neighbours above which there is a step, [H, W].

    A surface that is seen at a flat angle has large differences as well, but everywhere.
    """
    filled = np.nan_to_num(depth)
    change = np.zeros(depth.shape, np.float32)
    for ahead, behind in _PAIRS:
        low = np.minimum(filled[ahead], filled[behind])
        high = np.maximum(filled[ahead], filled[behind])
        relative = np.where(low > 0, high / np.maximum(low, 1e-6) - 1, 0).astype(np.float32)
        np.maximum(change[ahead], relative, out=change[ahead])
    usual: Any = cv2.medianBlur(change, 5)
    return np.maximum(_STEP, _STEEPER * usual)


def _specks(
    depth: npt.NDArray[np.float32], limit: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Mask of pixels in small surfaces: regions in which neighbours are less than a step apart."""
    known = np.isfinite(depth)
    filled = np.where(known, depth, 0).astype(np.float32)
    # a pixel is joined to the one on its right, or below, when both are of one surface; doubled in
    # size, so that the joints have pixels of their own
    height, width = depth.shape
    joined = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    joined[::2, ::2] = known
    for (ahead, behind), place in zip(_PAIRS, (np.s_[::2, 1::2], np.s_[1::2, ::2]), strict=True):
        low = np.minimum(filled[ahead], filled[behind])
        high = np.maximum(filled[ahead], filled[behind])
        joined[place] = (low > 0) & (high <= np.maximum(limit[ahead], limit[behind]) * low)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(joined, connectivity=4)
    regions = labels[::2, ::2]
    areas = np.bincount(regions[known], minlength=len(statistics))
    return known & (areas[regions] < _LEAST_AREA)
